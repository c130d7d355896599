"""Who waits for whom: in order, without a stampede, without leaks, and never longer than there is hope."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import BudgetExceeded, BudgetReserved
from gateway.core.limits import Want
from gateway.counters.memory import MemoryEngine
from gateway.ledger.fold import Books
from gateway.limits.refusal import refusal_for
from tests.counters.examples import NOW_MS, correct, finish, make_id, spent, take_hold, want


class Call:
    """A call as the path runs one: reserve, wait while only holds are in the way, run until told to end."""

    def __init__(
        self, engine: MemoryEngine, number: int, wants: list[Want], wait_s: float = 5.0, sent_away: int = 0
    ) -> None:
        self.engine = engine
        self.number = number
        self.wants = wants
        self.wait_s = wait_s
        self.sent_away = sent_away
        self.woken = 0
        self.task = asyncio.create_task(self._reserve())

    async def _reserve(self) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait_s
        while True:
            if take_hold(self.engine, self.number, self.wants):
                return "in"
            blocked = self.engine.check(self.wants)
            assert blocked is not None
            left_s = deadline - loop.time()
            if blocked.by_spent or left_s <= 0:
                return refusal_for(blocked, NOW_MS).code
            self.woken += await self.engine.freed(self.wants, left_s, self.sent_away)

    def end(self, amount: int) -> None:
        finish(self.engine, self.number, self.wants, amount)

    @property
    def waits(self) -> bool:
        return not self.task.done()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_five_hundred_calls_against_a_limit_of_thirty_eight_less_one() -> None:
    """Overshoot is 0 and nobody in is denied: 37 holds fit into 38 × hold − 1, whatever the concurrency."""
    engine, hold = MemoryEngine(), 1_000
    calls = [Call(engine, number, [want(hold, 38 * hold - 1)], wait_s=0.1) for number in range(500)]
    results = [await call.task for call in calls]
    assert results.count("in") == 37
    assert results.count(BudgetReserved.code) == 463
    assert engine.standing("b|k|day") == (0, 37 * hold)
    assert [call.number for call in calls if call.task.result() == "in"] == list(range(37))
    assert engine.waiting() == 0


async def test_those_who_wait_get_what_others_give_back() -> None:
    """All 500 get through when calls settle below their holds, and never more than the limit at once."""
    engine, hold, limit = MemoryEngine(), 1_000, 38 * 1_000 - 1
    running: list[Call] = []
    most = 0
    calls = [Call(engine, number, [want(hold, limit)]) for number in range(500)]
    finished = 0
    while finished < 500:
        await turns(2)
        running = [call for call in calls if call.task.done() and call.number >= 0]
        spent_now, reserved_now = engine.standing("b|k|day")
        assert spent_now + reserved_now <= limit
        most = max(most, reserved_now)
        for call in running:
            assert call.task.result() == "in"
            call.end(2)
            call.number = -1
            finished += 1
    assert engine.standing("b|k|day") == (1000, 0)
    assert most == 37 * hold
    assert engine.waiting() == 0


async def test_first_come_first_served_and_nobody_woken_in_vain() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    others = [Call(engine, number, [want(10, 10)]) for number in range(1, 6)]
    await turns()
    assert engine.waiting() == 5
    for number in range(5):
        (first if number == 0 else others[number - 1]).end(0)
        await turns()
        assert [call.waits for call in others] == [False] * (number + 1) + [True] * (4 - number)
    assert [call.woken for call in others] == [1] * 5


async def test_who_was_sent_away_before_stands_in_front() -> None:
    """In the order of arrival among those who were as often; a smaller one behind does not pass."""
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    ranks = {1: 0, 2: 1, 3: 2, 4: 1, 5: 0, 6: 2}
    calls = {number: Call(engine, number, [want(10, 10)], sent_away=rank) for number, rank in ranks.items()}
    await turns()
    running, order = first, []
    for _ in ranks:
        running.end(0)
        await turns()
        (number,) = [number for number, call in calls.items() if not call.waits and number not in order]
        order.append(number)
        running = calls[number]
    assert order == [3, 6, 2, 4, 1, 5]
    running.end(0)
    assert engine.open_holds() == engine.waiting() == 0


async def test_one_release_wakes_as_many_as_fit() -> None:
    engine = MemoryEngine()
    big = Call(engine, 0, [want(10, 10)])
    await turns()
    others = [Call(engine, number, [want(4, 10)]) for number in range(1, 5)]
    await turns()
    big.end(1)
    await turns()
    assert [call.waits for call in others] == [False, False, True, True]
    assert [call.woken for call in others] == [1, 1, 0, 0]


async def test_a_newcomer_does_not_take_what_a_woken_waiter_was_promised() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    waiting = Call(engine, 1, [want(10, 10)])
    await turns()
    first.end(0)  # the waiter is woken, but has not run yet
    assert not take_hold(engine, 2, [want(10, 10)])
    await turns()
    assert waiting.task.result() == "in"


async def test_a_promise_not_taken_is_passed_on() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    gone, following = Call(engine, 1, [want(10, 10)]), Call(engine, 2, [want(10, 10)])
    await turns()
    first.end(0)
    gone.task.cancel()  # its caller left in the very moment its turn came
    await turns()
    assert gone.task.cancelled()
    assert following.task.result() == "in"
    assert engine.standing("b|k|day") == (0, 10)
    following.end(0)
    assert take_hold(engine, 3, [want(10, 10)])


async def test_who_was_cancelled_first_is_passed_over() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    gone, following = Call(engine, 1, [want(10, 10)]), Call(engine, 2, [want(10, 10)])
    await turns()
    gone.task.cancel()  # its task has not run yet: it still stands in the queue
    first.end(0)
    assert engine._lanes.promised == {"b|k|day": 10}
    await turns()
    assert following.task.result() == "in"


async def test_who_is_cancelled_or_late_leaves_nothing_behind() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    cancelled = [Call(engine, number, [want(10, 10)]) for number in range(1, 50)]
    late = [Call(engine, number, [want(10, 10)], wait_s=0.02) for number in range(50, 100)]
    await turns()
    assert engine.waiting() == 99
    for call in cancelled:
        call.task.cancel()
    await asyncio.gather(*(call.task for call in cancelled + late), return_exceptions=True)
    assert {call.task.result() for call in late} == {BudgetReserved.code}
    assert engine.waiting() == 0
    assert not engine._lanes._lanes
    assert not engine._lanes._by_counter
    assert not engine._lanes.promised
    first.end(0)


async def test_hopeless_waiters_are_told_at_once_the_others_go_on_waiting() -> None:
    engine = MemoryEngine()
    first = Call(engine, 0, [want(10, 10)])
    await turns()
    hopeless, hopeful = Call(engine, 1, [want(8, 10)]), Call(engine, 2, [want(6, 10)])
    await turns()
    second_hold = [want(1, 100)]
    assert take_hold(engine, 3, second_hold)
    first.end(3)
    await turns()
    assert hopeless.task.result() == BudgetExceeded.code
    assert hopeful.task.result() == "in"


async def test_spending_elsewhere_ends_a_hopeless_wait_too() -> None:
    """A waiter stands before one limit, but is refused as soon as another one of its limits is exceeded."""
    engine = MemoryEngine()
    org, team = want(5, 10, counter="org|a|day"), want(5, 10, counter="team|t|day")
    assert take_hold(engine, 1, [want(10, 10, counter="org|a|day")])
    assert take_hold(engine, 2, [want(9, 10, counter="team|t|day")])
    waiting = Call(engine, 3, [org, team])
    await turns()
    finish(engine, 2, [want(9, 10, counter="team|t|day")], 6)
    await turns()
    assert waiting.task.result() == BudgetExceeded.code
    again = Call(engine, 4, [org])
    await turns()
    engine.apply(correct(9, [spent(org.take, 6)]), make_id(9))
    await turns()
    assert again.task.result() == BudgetExceeded.code


async def test_who_is_blocked_elsewhere_lets_others_pass() -> None:
    """Room in the org's budget is of no use to a team whose own is full: it must not keep other teams waiting."""
    engine = MemoryEngine()
    assert take_hold(engine, 1, [want(10, 10, counter="org|a|day")])
    assert take_hold(engine, 2, [want(5, 5, counter="team|full|day")])
    stuck = Call(engine, 3, [want(5, 10, counter="org|a|day"), want(5, 5, counter="team|full|day")])
    passing = Call(engine, 4, [want(5, 10, counter="org|a|day"), want(5, 5, counter="team|free|day")])
    await turns()
    finish(engine, 1, [want(10, 10, counter="org|a|day")], 0)
    await turns()
    assert stuck.waits
    assert passing.task.result() == "in"
    finish(engine, 2, [want(5, 5, counter="team|full|day")], 0)
    await turns()
    assert stuck.task.result() == "in"


async def test_a_waiter_of_a_rolling_window_is_woken_by_any_of_its_buckets() -> None:
    engine = MemoryEngine()
    names = [f"t|k|{number}" for number in range(13)]
    assert take_hold(engine, 1, [want(10, 10, counter=names[3])])
    waiting = Call(engine, 2, [want(10, 10, counter=names[-1], counters=names)])
    await turns()
    assert waiting.waits
    finish(engine, 1, [want(10, 10, counter=names[3])], 0)
    await turns()
    assert waiting.task.result() == "in"


async def test_other_books_wake_all() -> None:
    engine = MemoryEngine()
    assert take_hold(engine, 1, [want(10, 10)])
    waiting = Call(engine, 2, [want(10, 10)])
    await turns()
    engine.reseed(Books())
    await turns()
    assert waiting.task.result() == "in"


@pytest.mark.parametrize(("amount", "helped"), [(5, False), (4, True)])
async def test_a_release_that_does_not_help_does_not_wake(amount: int, helped: bool) -> None:
    engine = MemoryEngine()
    assert take_hold(engine, 1, [want(6, 10)])
    assert take_hold(engine, 2, [want(4, 10)])
    waiting = Call(engine, 3, [want(amount, 10)])
    await turns()
    finish(engine, 2, [want(4, 10)], 0)
    await turns()
    assert (waiting.waits, waiting.woken) == (not helped, int(helped))
    waiting.task.cancel()


def test_would_refuse_is_counted_by_limit() -> None:
    engine = MemoryEngine()
    for _ in range(3):
        assert engine.check([want(11, 10, enforced=False)]) is None
        engine.granted(engine.overran)
    engine.check([want(11, 10, enforced=False), want(11, 10)])
    assert engine.check([want(9, 10, enforced=False)]) is None
    engine.granted(engine.overran)
    assert engine.would_refuse == {"b": 3}, "what was refused is not granted, and asking alone grants nothing"


def test_counts_of_ended_windows_do_not_pile_up() -> None:
    """A count whose record never comes (its call died) is dropped when its window has long ended."""
    engine = MemoryEngine()
    for number in range(10_000):
        engine.count([want(1, 5, counter=f"r|k|{number}", expires_ms=NOW_MS + number)])
        engine.apply(correct(number, [], ts_ms=NOW_MS + number), make_id(number))
    assert len(engine._ahead) < 5_000
