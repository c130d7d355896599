"""A worker's life beside its calls: refusals are counted now and then, and everything is closed in order."""

from __future__ import annotations

import asyncio

import pytest
from flow.fakes import LoopClock
from flow.scripts import GOOD, stream, whole
from flow.virtual_time import play
from flow.world import World, chat

from api.planes import Served
from gateway.api.worker import NO_CALL, STAT_EVERY_S, Worker
from gateway.core.records import Settle, Stat


class Closing:
    """An upstream or a journal that notes when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self._name = name
        self._closed = closed

    async def close(self) -> None:
        self._closed.append(self._name)


def started(refuse: tuple[type, ...] = ()) -> tuple[Served, Worker, list[str]]:
    served = Served(World([whole()], refuse=refuse))
    order: list[str] = []
    journal = served.world.journal
    journal.closed = lambda: order.append("journal")
    upstreams = (Closing("providers", order), Closing("desk", order))

    async def follow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("follow")

    return served, Worker(served.plane, journal, LoopClock(), upstreams, follow), order  # type: ignore[arg-type]


def test_refusals_are_recorded_now_and_then_and_at_the_end() -> None:
    async def lives() -> None:
        served, worker, _ = started()
        await worker.start()
        await served.chat("nobody")
        assert served.world.records(Stat) == []
        await asyncio.sleep(STAT_EVERY_S + 1)
        assert [stat.counts for stat in served.world.records(Stat)] == [{"invalid_api_key": 1}]
        await asyncio.sleep(STAT_EVERY_S * 5)
        assert len(served.world.records(Stat)) == 1, "nothing happened, nothing is written"
        await served.chat("boss")
        await served.chat("boss")
        await worker.stop()
        assert [stat.counts for stat in served.world.records(Stat)][1:] == [{"permission_denied": 2}]
        assert {entry.call_id for entry in served.world.journal.entries} == {NO_CALL}
        assert served.world.records(Settle) == []

    play(lives())


def test_a_full_disk_costs_the_count_and_nothing_else() -> None:
    async def lives() -> None:
        served, worker, order = started(refuse=(Stat,))
        await worker.start()
        await served.chat("nobody")
        await asyncio.sleep(STAT_EVERY_S + 1)
        await served.chat("nobody")
        await asyncio.sleep(STAT_EVERY_S + 1)
        assert (await served.chat()).status == 200
        await worker.stop()
        assert order[-1] == "journal"

    play(lives())


def test_everything_is_closed_and_the_journal_last() -> None:
    async def lives() -> None:
        _, worker, order = started()
        await worker.start()
        await asyncio.sleep(1)
        await worker.stop()
        assert order == ["follow", "providers", "desk", "journal"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(lives())


def test_calls_that_are_cancelled_at_the_end_are_settled_before_the_journal_closes() -> None:
    async def lives() -> None:
        served, worker, order = started()
        served.world.upstream.scripts[:] = [stream(100.0, *GOOD)]
        await worker.start()
        calls = [asyncio.create_task(served.chat(body=chat(stream=True))) for _ in range(3)]
        await asyncio.sleep(20)
        for call in calls:
            call.cancel()
        await worker.stop()
        assert [settle.error_code for settle in served.world.records(Settle)] == ["cancelled"] * 3
        assert order[-1] == "journal"
        await asyncio.gather(*calls, return_exceptions=True)

    play(lives())


def test_a_call_that_will_not_end_does_not_hold_up_the_end() -> None:
    async def lives() -> None:
        served, worker, order = started()
        served.world.upstream.scripts[:] = [whole(100.0, b"{}")]
        call = asyncio.create_task(served.chat())
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        await worker.stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(2, abs=0.1)
        assert order[-1] == "journal"
        await call

    play(lives())
