"""Abandonable: the caller's leaving interrupts the present wait, and no other cancellation is mistaken for it."""

from __future__ import annotations

import asyncio

import pytest

from flow.fakes import Line
from flow.virtual_time import play
from gateway.core.errors import BadRequest, FaregateError, UpstreamLost
from gateway.flow.abandon import Abandonable, ClientGone


def test_a_caller_that_stays_changes_nothing() -> None:
    async def stays() -> None:
        line = Line()
        with Abandonable(line):
            await asyncio.sleep(1)
        line.left()
        await asyncio.sleep(1)

    play(stays())


def test_one_that_has_gone_already_does_not_get_in() -> None:
    async def gone() -> None:
        line = Line()
        line.left()
        with pytest.raises(ClientGone), Abandonable(line):
            raise AssertionError("the block must not begin")
        with Abandonable(line, 5.0):
            await asyncio.sleep(4)

    play(gone())


@pytest.mark.parametrize(("after_s", "ends_s"), [(0.0, 1.0), (5.0, 6.0)])
def test_one_that_goes_interrupts_the_wait_then_or_later(after_s: float, ends_s: float) -> None:
    async def goes() -> None:
        loop = asyncio.get_running_loop()
        line = Line()
        began = loop.time()
        loop.call_later(1, line.left)
        with pytest.raises(ClientGone), Abandonable(line, after_s):
            await asyncio.sleep(100)
        assert loop.time() - began == pytest.approx(ends_s)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    play(goes())


async def leaving(then: FaregateError | float) -> None:
    """The block notices the leaving itself, as a read of the body does; then it fails, ends or waits."""
    line = Line()
    with Abandonable(line):
        line.left()
        if isinstance(then, FaregateError):
            raise then
        if then:
            await asyncio.sleep(then)


def test_leaving_that_the_block_itself_notices_does_not_cancel_what_comes_after() -> None:
    async def notices() -> None:
        for then in (BadRequest("The connection was closed before the whole body had arrived."), 0, 100):
            with pytest.raises(ClientGone):
                await leaving(then)
            await asyncio.sleep(1)

    play(notices())


def test_a_failed_attempt_stays_one_when_its_caller_goes_in_the_same_moment() -> None:
    async def fails() -> None:
        with pytest.raises(UpstreamLost):
            await leaving(UpstreamLost("ended the connection"))
        await asyncio.sleep(1)

    play(fails())


@pytest.mark.parametrize("order", ["cancel first", "gone first"])
def test_a_cancellation_from_outside_passes_through(order: str) -> None:
    async def cancelled() -> None:
        line = Line()

        async def block() -> None:
            with Abandonable(line):
                await asyncio.sleep(100)

        task = asyncio.create_task(block())
        await asyncio.sleep(1)
        for step in (task.cancel, line.left) if order == "cancel first" else (line.left, task.cancel):
            step()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(cancelled())


def test_the_timer_of_a_drain_does_not_outlive_its_block() -> None:
    async def drains() -> None:
        line = Line()
        with Abandonable(line, 5.0):
            line.left()
            await asyncio.sleep(1)
        await asyncio.sleep(60)

    play(drains())
