"""Money that other calls hold: waiting for it, giving up on it, and never lending it twice."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from flow.interruptions import goes
from flow.laws import lawful
from flow.scripts import COST_NUSD, budget, completion, requests_per_minute, whole
from flow.test_flow_refusals import BOUND_NUSD
from flow.virtual_time import play
from flow.world import Ended, World
from gateway.core.limits import Limit, OnExceed
from gateway.core.records import Dispatch, Hold, Settle


async def crowd(world: World, number: int) -> list[Ended]:
    return list(await asyncio.gather(*(world.call() for _ in range(number))))


def statuses(calls: list[Ended]) -> dict[int, int]:
    found = [call.status for call in calls]
    return {status: found.count(status) for status in sorted(set(found))}


def test_a_call_waits_for_what_another_one_holds() -> None:
    async def waited() -> None:
        limit = budget(BOUND_NUSD + COST_NUSD)
        world = World([whole(1.0, completion())], limits=(limit,))
        assert statuses(await crowd(world, 2)) == {200: 2}
        assert world.spent(limit) == (2 * COST_NUSD, 0)
        lawful(world)

    play(waited())


def test_after_the_longest_wait_it_is_429_not_402() -> None:
    async def gave_up() -> None:
        world = World([whole(30.0, completion())], limits=(budget(BOUND_NUSD + COST_NUSD),))
        calls = await crowd(world, 2)
        assert statuses(calls) == {200: 1, 429: 1}
        (late,) = [call for call in calls if call.status == 429]
        assert late.json["error"]["code"] == "budget_reserved"
        assert 1 <= int(late.exchange.header("retry-after") or 0) <= 10
        assert late.exchange.header("x-should-retry") is None, "an SDK's own retry is right here"
        lawful(world)

    play(gave_up())


def test_the_last_try_waits_for_what_an_earlier_one_is_sent_away_for() -> None:
    async def last() -> None:
        for retry, expected in (("0", 429), ("1", 429), ("2", 200)):
            world = World([whole(12.0, completion())], limits=(budget(BOUND_NUSD + COST_NUSD),))
            running = asyncio.ensure_future(world.call())
            await asyncio.sleep(0.1)
            late = await world.call(headers={"x-stainless-retry-count": retry})
            assert late.status == expected, f"retry {retry}"
            assert (await running).status == 200
            lawful(world)

    play(last())


def test_of_many_exactly_as_many_are_sent_as_there_is_money_for() -> None:
    """The upstream answers only when all have been decided. 500 calls, 37 holds fit into 38 × hold - 1."""

    async def decided() -> None:
        limit = budget(38 * BOUND_NUSD - 1)
        world = World([whole(10.0, completion())], limits=(limit,))
        calls = await crowd(world, 500)
        assert statuses(calls) == {200: 37, 429: 463}
        assert len(world.records(Dispatch)) == len(world.records(Hold)) == 37
        left = (38 * BOUND_NUSD - 1 - world.spent(limit)[0]) // BOUND_NUSD
        assert statuses(await crowd(world, 60)) == {200: left, 429: 60 - left}
        lawful(world)

    play(decided())


def test_a_waiting_call_is_told_at_once_when_spending_makes_its_wait_hopeless() -> None:
    async def hopeless() -> None:
        loop = asyncio.get_running_loop()
        usage = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
        world = World([whole(0.5, completion(usage))], limits=(budget(BOUND_NUSD + 1000),))
        began = loop.time()
        calls = await crowd(world, 2)
        assert statuses(calls) == {200: 1, 402: 1}
        assert loop.time() - began == pytest.approx(0.51, abs=0.05)
        lawful(world)

    play(hopeless())


def test_a_caller_that_leaves_while_it_waits_holds_nothing_and_wakes_the_next() -> None:
    async def left() -> None:
        limit = budget(BOUND_NUSD + 2 * COST_NUSD)
        world = World([whole(1.0, completion())], limits=(limit,))
        first = asyncio.create_task(world.call())
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(world.call(strike_at=1, strike=goes))
        await asyncio.sleep(0.1)
        third = asyncio.create_task(world.call())
        calls = await asyncio.gather(first, waiting, third)
        assert [call.exchange.disconnect.gone for call in calls] == [False, True, False]
        assert (calls[0].status, calls[2].status) == (200, 200)
        gone = [settle for settle in world.records(Settle) if settle.outcome == "client_gone"]
        assert [(settle.status, settle.attempts, settle.effective_nusd) for settle in gone] == [(499, 0, 0)]
        lawful(world)

    play(left())


def test_what_another_limit_refuses_is_not_counted_as_let_in() -> None:
    """The limit on requests in dry run had no room, and the budget refused the call later: nobody was let in."""

    async def refused() -> None:
        rate = msgspec.structs.replace(requests_per_minute(1), on_exceed=OnExceed.DRY_RUN)
        world = World([whole()], limits=(rate, budget(BOUND_NUSD + COST_NUSD)))
        assert (await world.call()).status == 200
        assert (await world.call()).status == 200
        assert world.engine.would_refuse == {"rpm": 1}
        assert (await world.call()).status == 402
        assert world.engine.would_refuse == {"rpm": 1}
        lawful(world)

    play(refused())


def test_each_limit_counts_a_call_that_was_let_in_once() -> None:
    async def again() -> None:
        rate = msgspec.structs.replace(requests_per_minute(1), on_exceed=OnExceed.DRY_RUN)
        world = World([whole()], limits=(rate, budget(1, OnExceed.DRY_RUN)))
        for _ in range(2):
            assert (await world.call()).status == 200
        assert world.engine.would_refuse == {"budget": 2, "rpm": 1}

    play(again())


@pytest.mark.parametrize("mode", [OnExceed.ALERT, OnExceed.DRY_RUN])
def test_a_limit_that_only_watches_lets_everything_pass_and_counts(mode: OnExceed) -> None:
    async def watched() -> None:
        limit: Limit = budget(1, mode)
        world = World([whole()], limits=(limit,))
        assert statuses(await crowd(world, 3)) == {200: 3}
        assert world.spent(limit) == (3 * COST_NUSD, 0)
        assert world.engine.would_refuse == {"budget": 3}
        lawful(world)

    play(watched())
