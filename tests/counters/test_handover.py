"""An engine that hands over grants nothing more; the one that goes on folds what the other still ends."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.handover import HandedOver
from gateway.core.limits import Unit
from gateway.counters.memory import MemoryEngine
from tests.counters.examples import end, hold, make_id, settle, spent, take_hold, want


async def test_who_waits_is_sent_away_and_nobody_waits_any_more() -> None:
    engine = MemoryEngine()
    assert take_hold(engine, 1, [want(10, 10)])
    waiting = [asyncio.ensure_future(engine.freed([want(amount, 10)], 60.0)) for amount in (5, 10)]
    await asyncio.sleep(0)
    assert engine.waiting() == 2
    engine.hand_over()
    assert await asyncio.gather(*waiting) == [True, True], "woken to look again, and to hear it"
    assert engine.waiting() == 0
    with pytest.raises(HandedOver):
        engine.check([want(1, 10)])
    with pytest.raises(HandedOver):
        engine.check([])
    assert await engine.freed([want(5, 10)], 60.0), "at once: there is nothing to wait for"
    engine.apply(end(1, [spent(want(10, 10).take, 4)]), make_id(1))
    assert engine.standing("b|k|day") == (4, 0), "what was held still ends"


async def test_what_another_worker_frees_wakes_who_waits_here() -> None:
    engine = MemoryEngine()
    engine.follow(hold(1, [want(10, 10)]), make_id(1))
    waiting = asyncio.ensure_future(engine.freed([want(6, 10)], 60.0))
    await asyncio.sleep(0)
    engine.follow(end(1, [spent(want(10, 10).take, 4)]), make_id(1))
    assert await waiting
    assert engine.check([want(6, 10)]) is None


def test_counts_of_another_worker_are_spent_beside_those_that_are_ahead_here() -> None:
    engine = MemoryEngine()
    one = want(1, 10, counter="r|k|minute", unit=Unit.REQUESTS)
    engine.count([one, one])
    engine.follow(settle(7, [one.take]), make_id(7))
    assert engine.standing("r|k|minute")[0] == 3, "two ahead of their records here, one recorded there"
    engine.apply(settle(8, [one.take]), make_id(8))
    assert engine.standing("r|k|minute")[0] == 3
