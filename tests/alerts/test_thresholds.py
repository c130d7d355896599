"""Each threshold once per place, whatever the order, restarts and changes of the limit."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.thresholds import FORECAST, Marks, level_of

PERCENTS = (50, 80, 100)
STEPS = st.lists(st.integers(0, 40), min_size=1, max_size=30)
SHARES = st.sets(st.integers(1, 100), min_size=1, max_size=6)


def told(marks: Marks, spending: Iterable[int], amount: int, percents: Iterable[int] = PERCENTS) -> list[int]:
    """What is told when spending goes through these sums."""
    return [percent for spent in spending for percent in marks.due("p", spent, amount, percents)]


def test_half_then_most_then_all() -> None:
    marks = Marks()
    assert [marks.due("p", spent, 100, PERCENTS) for spent in (0, 49, 50, 79, 80, 99, 100, 130)] == [
        [], [], [50], [], [80], [], [100], [],
    ]  # fmt: skip


def test_a_share_is_reached_at_its_whole_amount() -> None:
    assert level_of(50, 3) == 2
    assert Marks().due("p", 1, 3, [50]) == []
    assert Marks().due("p", 2, 3, [50]) == [50]


@given(STEPS, SHARES, st.integers(1, 300))
def test_each_share_that_is_reached_is_told_once_and_no_other(steps: list[int], shares: set[int], amount: int) -> None:
    sums = [sum(steps[: n + 1]) for n in range(len(steps))]
    found = told(Marks(), sums, amount, shares)
    assert sorted(found) == sorted(share for share in shares if sums[-1] >= level_of(share, amount))
    assert len(set(found)) == len(found)


@given(STEPS, st.integers(1, 300), st.data())
def test_a_restart_anywhere_tells_nothing_again_and_misses_nothing(
    steps: list[int], amount: int, data: st.DataObject
) -> None:
    sums = [sum(steps[: n + 1]) for n in range(len(steps))]
    marks, found = Marks(), []
    kept: dict[int, int] = {}
    position = 0
    while position < len(sums):
        due = marks.due("p", sums[position], amount, PERCENTS)
        kept |= dict.fromkeys(due, amount)
        found += due
        position += 1
        if data.draw(st.booleans(), "killed"):
            marks = Marks()
            for share, at in kept.items():
                marks.told("p", share, at)
            position = max(0, position - data.draw(st.integers(0, 3), "folded again"))
    assert sorted(found) == [share for share in PERCENTS if sums[-1] >= level_of(share, amount)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=40))
def test_places_do_not_know_of_each_other(events: list[tuple[str, int]]) -> None:
    together, sums, found = Marks(), dict.fromkeys("abc", 0), {place: [] for place in "abc"}
    alone = {place: Marks() for place in "abc"}
    expected: dict[str, list[int]] = {place: [] for place in "abc"}
    for place, more in events:
        sums[place] += more
        found[place] += together.due(place, sums[place], 100, PERCENTS)
        expected[place] += alone[place].due("p", sums[place], 100, PERCENTS)
    assert found == expected


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 400), st.integers(0, 400))
def test_a_raise_rearms_only_what_is_above(amount: int, more: int, spent: int, later: int) -> None:
    marks = Marks()
    first = marks.due("p", spent, amount, PERCENTS)
    raised = amount + more
    assert [one for one in marks.due("p", spent, raised, PERCENTS) if one in first] == [], "nothing was spent"
    again = marks.due("p", spent + later, raised, PERCENTS)
    for percent in first:
        above = level_of(percent, raised) > spent
        assert (percent in again) == (above and spent + later >= level_of(percent, raised))


@given(st.integers(2, 200), st.integers(0, 300))
def test_a_lowered_limit_tells_what_is_passed_now_and_was_never_told(amount: int, spent: int) -> None:
    marks = Marks()
    first = marks.due("p", spent, amount, PERCENTS)
    lowered = amount // 2
    second = marks.due("p", spent, lowered, PERCENTS)
    assert not set(first) & set(second)
    assert sorted([*first, *second]) == [one for one in PERCENTS if spent >= level_of(one, lowered)]


def test_an_increase_that_ends_tells_of_the_limit_as_it_was() -> None:
    marks = Marks()
    assert marks.due("p", 60, 100, PERCENTS) == [50]
    assert marks.due("p", 120, 300, PERCENTS) == [], "120 of 300: half is above what was spent, and not reached"
    assert marks.due("p", 160, 300, PERCENTS) == [50]
    assert marks.due("p", 160, 100, PERCENTS) == [80, 100]


def test_a_limit_of_nothing_has_no_shares() -> None:
    assert Marks().due("p", 0, 0, PERCENTS) == []


def test_a_correction_downwards_tells_nothing_twice() -> None:
    marks = Marks()
    assert told(marks, (90, 40, 95), 100) == [50, 80]


def test_a_forecast_is_told_once_for_each_amount_and_is_no_share() -> None:
    marks = Marks()
    assert [marks.due_at_once("p", FORECAST, amount) for amount in (100, 100, 150, 120)] == [True, False, True, False]
    assert marks.due("p", 55, 100, PERCENTS) == [50]


def test_what_lasts_is_told_again_after_a_while() -> None:
    marks = Marks()
    assert [marks.due_after("p", now, 100) for now in (1000, 1050, 1099, 1100, 1199)] == [
        True, False, False, True, False,
    ]  # fmt: skip
    marks.forget(["p"])
    assert len(marks) == 0
