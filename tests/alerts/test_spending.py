"""Rate of spend: rolling hours beside the median of the same hour, with a memory that decides as a whole one would."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.spending import (
    DAYS,
    HOUR_MS,
    MINUTE_MS,
    Spending,
    Subject,
    may_run_away,
    median_at,
    runaway,
    subjects_of,
)
from gateway.core.alerts import AlertRules
from gateway.core.money import NANO

RULES = AlertRules()
KEY = Subject("key", "acme", "growth", "k1")
NOW_MS = 500_000 * HOUR_MS + 20 * MINUTE_MS
HOUR = NOW_MS // HOUR_MS


def usd(amount: int) -> int:
    return amount * NANO


@pytest.mark.parametrize(
    ("spent", "usual", "found"),
    [
        (19, None, False),
        (20, None, True),
        (20, 0, True),
        (20, 4, False),  # five times is not more than five times
        (21, 4, True),
        (100, 25, False),
    ],
)
def test_five_times_the_median_from_the_minimum_on(spent: int, usual: int | None, found: bool) -> None:
    what = runaway(usd(spent), None if usual is None else usd(usual), RULES)
    assert (what is not None) == found


def test_a_limit_per_hour_needs_no_median_and_knows_no_minimum() -> None:
    rules = AlertRules(rate_factor=0, rate_per_hour_nusd=usd(3))
    assert runaway(usd(3), None, rules) is None
    found = runaway(usd(3) + 1, usd(1000), rules)
    assert found is not None
    assert found.per_hour
    assert runaway(usd(1000), None, AlertRules(rate_factor=0)) is None


def test_an_hour_is_sixty_minutes_and_ends() -> None:
    spending = Spending(NOW_MS)
    spending.add(KEY, NOW_MS - 59 * MINUTE_MS, usd(8))
    spending.add(KEY, NOW_MS, usd(1))
    assert spending.last_hour(KEY, NOW_MS) == usd(9)
    assert spending.last_hour(KEY, NOW_MS + MINUTE_MS) == usd(1)
    assert spending.last_hour(Subject("key", "acme", "growth", "other"), NOW_MS) == 0


HISTORY = st.lists(st.integers(0, 60), min_size=DAYS, max_size=DAYS)


@given(HISTORY, st.integers(0, 400))
def test_the_dear_hours_decide_as_all_hours_would(days: list[int], spent: int) -> None:
    """Only hours of at least minimum / factor are kept; whether spending is too fast comes out the same."""
    whole = {HOUR - 24 * (day + 1): usd(amount) for day, amount in enumerate(days)}
    spending = Spending(NOW_MS - (DAYS + 2) * 24 * HOUR_MS)
    for hour, nusd in whole.items():
        spending.add(KEY, hour * HOUR_MS, nusd)
    spending.turn(NOW_MS, RULES)
    kept = spending.usual(KEY, NOW_MS)
    truth = median_at(whole, 0, NOW_MS)
    assert truth == int(median(sorted(whole.values())))
    assert (runaway(usd(spent), kept, RULES) is None) == (runaway(usd(spent), truth, RULES) is None)


def test_days_before_anything_was_known_do_not_count() -> None:
    hours = {HOUR - 24 * day: usd(30) for day in (1, 2, 3)}
    assert median_at(hours, HOUR - 3 * 24, NOW_MS) == usd(30)
    assert median_at(hours, HOUR - 2 * 24, NOW_MS) is None, "two days are too few"
    assert median_at(hours, 0, NOW_MS) == 0, "eleven days without spending"


def test_of_two_clock_hours_the_dearer_one_is_usual() -> None:
    before = {HOUR - 1 - 24 * day: usd(50) for day in range(1, DAYS + 1)}
    assert median_at(before, 0, NOW_MS) == usd(50)


def test_everyone_an_attempt_is_spent_by() -> None:
    assert [one.dimension for one in subjects_of("o", "t", "k", "ann", "run")] == ["key", "user", "session"]
    assert [one.dimension for one in subjects_of("o", "t", "k", "", "")] == ["key"]
    assert max(len(one.value) for one in subjects_of("o", "t", "k", "x" * 9999, "")) == 256


def test_made_up_users_never_push_out_who_spends() -> None:
    spending = Spending(NOW_MS, most=100)
    spending.add(KEY, NOW_MS, usd(25))
    for number in range(1000):
        spending.add(Subject("user", "acme", "growth", "k1", f"u{number}"), NOW_MS, 1)
    assert len(list(spending.subjects())) <= 100
    assert spending.dropped > 0
    assert may_run_away(spending.last_hour(KEY, NOW_MS), RULES)


def test_what_is_saved_comes_back() -> None:
    spending = Spending(NOW_MS - 30 * 24 * HOUR_MS)
    for day in range(5):
        spending.add(KEY, NOW_MS - (day + 1) * 24 * HOUR_MS, usd(9))
    spending.turn(NOW_MS, RULES)
    spending.add(KEY, NOW_MS, usd(2))
    again = Spending.of(spending.image({b"j": 7}))
    assert again.last_hour(KEY, NOW_MS) == usd(2)
    assert again.usual(KEY, NOW_MS) == spending.usual(KEY, NOW_MS) == 0
    assert again.image({b"j": 7}) == spending.image({b"j": 7})
    again.turn(NOW_MS + 20 * 24 * HOUR_MS, RULES)
    assert again.image({}).history == [], "older than 14 days"
    assert list(again.subjects()) == []
