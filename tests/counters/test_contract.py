"""What every LimitEngine must do, whichever room its counters are in."""

from __future__ import annotations

import asyncio

from gateway.core.limits import Unit
from gateway.core.ports import LimitEngine
from tests.counters.conftest import members
from tests.counters.examples import (
    NOW_MS,
    correct,
    finish,
    hold,
    make_id,
    settle,
    shrink,
    spent,
    take_hold,
    void,
    want,
)


def test_there_are_members_with_names_of_their_own() -> None:
    names = [member.name for member in members()]  # type: ignore[attr-defined]
    assert "memory" in names
    assert len(set(names)) == len(names)


def test_an_empty_engine_allows_what_the_limit_allows(engine: LimitEngine) -> None:
    assert engine.check([]) is None
    assert engine.check([want(10, 10)]) is None
    blocked = engine.check([want(11, 10)])
    assert blocked is not None
    assert (blocked.by_spent, blocked.spent, blocked.reserved, blocked.frees_ms) == (True, 0, 0, None)


def test_check_takes_nothing(engine: LimitEngine) -> None:
    for _ in range(3):
        assert engine.check([want(10, 10)]) is None
    assert engine.standing("b|k|day") == (0, 0)


def test_hold_settle_release(engine: LimitEngine) -> None:
    wants = [want(6, 10)]
    assert take_hold(engine, 1, wants)
    assert engine.standing("b|k|day") == (0, 6)
    assert engine.open_holds() == 1
    blocked = engine.check([want(5, 10)])
    assert blocked is not None
    assert (blocked.by_spent, blocked.spent, blocked.reserved) == (False, 0, 6)
    assert blocked.frees_ms == NOW_MS + 10**8
    finish(engine, 1, wants, 2)
    assert engine.standing("b|k|day") == (2, 0)
    assert engine.open_holds() == 0
    assert engine.check([want(8, 10)]) is None
    assert engine.check([want(9, 10)]) is not None


def test_void_costs_nothing_and_shrink_gives_back_at_once(engine: LimitEngine) -> None:
    wants = [want(6, 10)]
    assert take_hold(engine, 1, wants)
    engine.apply(shrink(1, [spent(wants[0].take, 5)]), make_id(1))
    assert engine.standing("b|k|day") == (0, 1)
    engine.apply(void(1), make_id(1))
    assert engine.standing("b|k|day") == (0, 0)


def test_all_limits_or_none(engine: LimitEngine) -> None:
    first, second = want(5, 10, counter="a|k|day"), want(5, 4, counter="b|k|day")
    assert not take_hold(engine, 1, [first, second])
    assert engine.standing("a|k|day") == (0, 0)


def test_exceeded_by_spending_is_told_before_merely_reserved(engine: LimitEngine) -> None:
    reserved, exceeded = want(5, 8, counter="a|k|day"), want(5, 8, counter="b|k|day")
    assert take_hold(engine, 1, [reserved])
    assert take_hold(engine, 2, [exceeded])
    finish(engine, 2, [exceeded], 5)
    blocked = engine.check([reserved, exceeded])
    assert blocked is not None
    assert (blocked.want.limit.id, blocked.by_spent) == ("b", True)
    blocked = engine.check([exceeded, reserved])
    assert blocked is not None
    assert blocked.want.limit.id == "b"


def test_a_dry_run_limit_never_blocks(engine: LimitEngine) -> None:
    assert engine.check([want(11, 10, enforced=False)]) is None
    blocked = engine.check([want(11, 10, counter="a|k|day", enforced=False), want(11, 10)])
    assert blocked is not None
    assert blocked.want.limit.id == "b"


def test_what_is_free_passes_an_exhausted_budget(engine: LimitEngine) -> None:
    wants = [want(10, 10)]
    assert take_hold(engine, 1, wants)
    finish(engine, 1, wants, 10)
    assert engine.check([want(0, 10)]) is None
    assert engine.check([want(0, 5)]) is None
    assert engine.check([want(1, 10)]) is not None


def test_a_rolling_want_adds_up_all_its_counters(engine: LimitEngine) -> None:
    names = ["t|k|1", "t|k|2", "t|k|3"]
    for number, name in enumerate(names):
        wants = [want(3, 100, counter=name)]
        assert take_hold(engine, number, wants)
        finish(engine, number, wants, 3)
    assert engine.check([want(1, 10, counter="t|k|3", counters=names)]) is None
    blocked = engine.check([want(2, 10, counter="t|k|3", counters=names)])
    assert blocked is not None
    assert blocked.spent == 9


def test_counts_are_spent_at_once_and_only_once(engine: LimitEngine) -> None:
    rate = [want(1, 2, counter="r|k|now", unit=Unit.REQUESTS)]
    counts = [rate[0].take]
    for number, refused in ((1, False), (2, True)):
        assert engine.check(rate) is None
        engine.count(rate)
        assert engine.standing("r|k|now") == (number, 0)
        if refused:
            engine.apply(settle(number, counts), make_id(number))
        else:
            engine.apply(hold(number, [], counts), make_id(number))
            engine.apply(void(number), make_id(number))
            engine.apply(settle(number), make_id(number))
        assert engine.standing("r|k|now") == (number, 0)
    blocked = engine.check(rate)
    assert blocked is not None
    assert (blocked.by_spent, blocked.spent) == (True, 2)


def test_counts_of_others_are_folded(engine: LimitEngine) -> None:
    """Records of another worker, or from before a restart, were never counted here: their counts are in them."""
    rate = want(1, 2, counter="r|k|now", unit=Unit.REQUESTS)
    engine.apply(hold(1, [], [rate.take]), make_id(1))
    engine.apply(settle(2, [rate.take]), make_id(2))
    assert engine.standing("r|k|now") == (2, 0)
    assert engine.check([rate]) is not None


def test_a_correction_changes_what_is_spent(engine: LimitEngine) -> None:
    take = want(0, 10).take
    engine.apply(correct(1, [spent(take, 4)]), make_id(1))
    assert engine.standing("b|k|day") == (4, 0)
    engine.apply(correct(2, [spent(take, -3)]), make_id(2))
    assert engine.standing("b|k|day") == (1, 0)


# ---------------------------------------------------------------- waiting


async def test_nothing_to_wait_for(engine: LimitEngine) -> None:
    assert await engine.freed([want(10, 10)], 1.0)
    assert await engine.freed([], 1.0)
    assert await engine.freed([want(11, 10)], 1.0), "exceeded by spending: the answer is final, waiting is no use"


async def test_waiting_ends_when_its_time_is_over(engine: LimitEngine) -> None:
    assert take_hold(engine, 1, [want(10, 10)])
    assert not await engine.freed([want(1, 10)], 0.0)
    assert not await engine.freed([want(1, 10)], 0.01)


async def test_a_release_wakes(engine: LimitEngine) -> None:
    wants = [want(10, 10)]
    assert take_hold(engine, 1, wants)
    waiting = asyncio.create_task(engine.freed(wants, 5.0))
    await asyncio.sleep(0)
    finish(engine, 1, wants, 0)
    assert await waiting
    assert take_hold(engine, 2, wants)


async def test_spending_that_leaves_no_hope_wakes(engine: LimitEngine) -> None:
    wants = [want(10, 10)]
    assert take_hold(engine, 1, wants)
    waiting = asyncio.create_task(engine.freed(wants, 5.0))
    await asyncio.sleep(0)
    finish(engine, 1, wants, 1)
    assert await waiting
    blocked = engine.check(wants)
    assert blocked is not None
    assert blocked.by_spent


async def test_a_hold_that_shrinks_wakes_and_its_end_gives_back_no_more_than_is_left(engine: LimitEngine) -> None:
    wants = [want(10, 10)]
    assert take_hold(engine, 1, wants)
    less = [want(6, 10)]
    waiting = asyncio.create_task(engine.freed(less, 5.0))
    await asyncio.sleep(0)
    engine.apply(shrink(1, [spent(wants[0].take, 5)]), make_id(1))
    await asyncio.sleep(0)
    assert not waiting.done(), "five are not six"
    engine.apply(shrink(1, [spent(wants[0].take, 1)]), make_id(1))
    assert await waiting
    assert take_hold(engine, 2, less)
    finish(engine, 1, wants, 4)
    assert engine.standing("b|k|day") == (4, 6)
    assert engine.used(["b|k|day"]) == 10


def test_what_is_used_is_spent_held_or_counted_ahead(engine: LimitEngine) -> None:
    held, counted = want(3, 10, counter="a|k|day"), want(2, 10, counter="b|k|day")
    assert take_hold(engine, 1, [held])
    engine.count([counted])
    assert engine.used(["a|k|day", "b|k|day", "c|k|day"]) == 5
    finish(engine, 1, [held], 1)
    assert engine.used(["a|k|day", "b|k|day"]) == 3
