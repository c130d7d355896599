"""What a call must take of its key's limits, and that the cache of it is never stale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import Limit, OnExceed, Unit, Window, WindowKind
from gateway.limits.wants import Wants, admit_wants, reserve_wants
from gateway.limits.windows import span_at
from tests.limits.examples import DAY, MINUTE, NOON_MS, TOTAL, key, limit

BUDGET = limit(Unit.USD, 5_000_000_000, DAY, id="b")
TOKENS = limit(Unit.TOKENS, 1000, MINUTE, id="t")
REQUESTS = limit(Unit.REQUESTS, 60, MINUTE, id="r")


def test_requests_are_admitted_money_and_tokens_reserved() -> None:
    holder = key(BUDGET, TOKENS, REQUESTS)
    (admitted,) = admit_wants(holder, "gpt-5", NOON_MS)
    assert admitted.limit is REQUESTS
    assert admitted.take.amount == 1
    money, tokens = reserve_wants(holder, NOON_MS, 123, 45)
    assert (money.limit, money.take.amount) == (BUDGET, 123)
    assert (tokens.limit, tokens.take.amount) == (TOKENS, 45)


def test_a_counter_is_named_by_limit_scope_and_window() -> None:
    (money,) = reserve_wants(key(BUDGET), NOON_MS, 1, 0)
    assert money.take.counter == "b|k1|2026-11-25"
    assert money.counters == ("b|k1|2026-11-25",)
    assert money.resets_ms == NOON_MS + 12 * 3_600_000
    assert money.take.expires_ms > money.resets_ms
    assert (money.take.limit_id, money.take.unit) == ("b", Unit.USD)


def test_a_rolling_want_adds_up_its_sub_buckets() -> None:
    (want,) = admit_wants(key(REQUESTS), "m", NOON_MS)
    assert len(want.counters) == 13
    assert want.counters[-1] == want.take.counter
    assert len(set(want.counters)) == 13


def test_a_total_want_never_resets() -> None:
    (want,) = reserve_wants(key(limit(Unit.USD, 1, TOTAL, id="b")), NOON_MS, 1, 0)
    assert (want.resets_ms, want.take.expires_ms, want.take.counter) == (None, 0, "b|k1|all")


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ((), ""),
        ((("org", "acme"),), "acme"),
        ((("team", "*"),), "growth"),
        ((("key", "*"),), "k1"),
        ((("org", "acme"), ("team", "growth")), "acme,growth"),
    ],
)
def test_scope_values(scope: tuple[tuple[str, str], ...], value: str) -> None:
    (want,) = reserve_wants(key(limit(Unit.USD, 1, TOTAL, id="b", scope=scope)), NOON_MS, 1, 0)
    assert want.take.counter == f"b|{value}|all"


@pytest.mark.parametrize("on_exceed", OnExceed)
def test_what_only_watches_is_not_enforced(on_exceed: OnExceed) -> None:
    (want,) = reserve_wants(key(limit(Unit.USD, 1, TOTAL, on_exceed=on_exceed)), NOON_MS, 1, 0)
    assert want.enforced is (on_exceed not in (OnExceed.ALERT, OnExceed.DRY_RUN))


def test_no_limits_no_wants() -> None:
    assert admit_wants(key(), "m", NOON_MS) == ()
    assert reserve_wants(key(), NOON_MS, 10**12, 10**9) == ()


kinds = st.sampled_from([WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH, WindowKind.TOTAL])
windows = st.one_of(
    st.builds(Window, kinds, st.just(0), st.sampled_from(["UTC", "Europe/Vienna"])),
    st.builds(Window, st.just(WindowKind.ROLLING), st.integers(1, 100_000)),
)
limits = st.builds(
    Limit,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(Unit),
    st.integers(0, 100),
    windows,
    st.just((("key", "*"),)),
)


@given(
    st.lists(st.lists(limits, max_size=3), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**9), st.integers(0, 99)), max_size=30),
    st.integers(1, 3),
)
def test_the_cache_says_what_the_functions_say(
    sets: list[list[Limit]], steps: list[tuple[int, int, int]], capacity: int
) -> None:
    """Whatever the order of keys and times, back in time included."""
    keys = [key(*some, key_id=f"k{number}") for number, some in enumerate(sets)]
    cached = Wants(capacity)
    for number, offset_ms, amount in steps:
        holder, now_ms = keys[number % len(keys)], NOON_MS + offset_ms
        assert cached.admit(holder, "m", now_ms) == admit_wants(holder, "m", now_ms)
        assert cached.reserve(holder, now_ms, amount, amount + 1) == reserve_wants(holder, now_ms, amount, amount + 1)


def test_a_changed_key_is_seen_at_once() -> None:
    cached = Wants()
    assert cached.admit(key(), "m", NOON_MS) == ()
    assert len(cached.admit(key(REQUESTS), "m", NOON_MS)) == 1


def test_a_turn_of_the_window_is_seen_at_its_millisecond() -> None:
    cached, holder = Wants(), key(BUDGET)
    midnight_ms = span_at(DAY, NOON_MS).end_ms
    assert midnight_ms is not None
    (before,) = cached.reserve(holder, midnight_ms - 1, 1, 0)
    (after,) = cached.reserve(holder, midnight_ms, 1, 0)
    assert (before.take.counter, after.take.counter) == ("b|k1|2026-11-25", "b|k1|2026-11-26")


def test_the_cache_is_bounded() -> None:
    cached = Wants(capacity=2)
    for number in range(50):
        cached.admit(key(REQUESTS, key_id=f"k{number}"), "m", NOON_MS)
    assert len(cached._entries) <= 2
