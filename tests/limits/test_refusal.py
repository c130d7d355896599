"""What a refused caller is told, and when it is told to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BudgetExceeded, BudgetReserved, RateLimited
from gateway.core.limits import Blocked, Limit, Unit, Want
from gateway.limits.frees import frees_ms
from gateway.limits.headers import print_wait
from gateway.limits.refusal import refusal_for
from gateway.limits.wants import admit_wants, reserve_wants
from tests.limits.examples import DAY, MINUTE, NOON_MS, TOTAL, key, limit

BUDGET = limit(Unit.USD, 500_000_000, DAY, id="b", scope=(("team", "*"),))


def want(some: Limit, amount: int) -> Want:
    if some.unit is Unit.REQUESTS:
        return admit_wants(key(some), "m", NOON_MS)[0]
    return reserve_wants(key(some), NOON_MS, amount, amount)[0]


def blocked(some: Limit, amount: int, spent: int, reserved: int, frees: int | None = None) -> Blocked:
    made = want(some, amount)
    by_spent = spent + made.take.amount > some.amount
    return Blocked(want=made, spent=spent, reserved=reserved, by_spent=by_spent, frees_ms=frees)


def test_a_spent_budget() -> None:
    error = refusal_for(blocked(BUDGET, 10_000_000, 499_000_000, 7), NOON_MS, 402)
    assert isinstance(error, BudgetExceeded)
    assert (error.status, error.code, error.kind) == (402, "budget_exceeded", "budget_exceeded")
    assert error.headers == {"x-should-retry": "false"}
    assert error.message == (
        "The budget of 0.5 USD per day (UTC) for team:growth does not allow this call: 0.499 USD are spent, "
        "0.000000007 USD are reserved by running calls and this call may cost up to 0.01 USD. "
        "Wait until 2026-11-26T00:00:00Z, give a lower max_tokens, or have the budget raised."
    )
    assert error.extra == {
        "scope": "team:growth",
        "limit_id": "b",
        "unit": "usd",
        "limit": "0.5",
        "spent": "0.499",
        "reserved": "0.000000007",
        "required": "0.01",
        "limit_nusd": 500_000_000,
        "spent_nusd": 499_000_000,
        "reserved_nusd": 7,
        "required_nusd": 10_000_000,
        "resets_at": 1_795_651_200,
        "resets_at_iso": "2026-11-26T00:00:00Z",
    }


def test_the_status_is_the_operators_choice_and_of_this_error_only() -> None:
    assert refusal_for(blocked(BUDGET, 1, 500_000_000, 0), NOON_MS, 429).status == 429
    assert refusal_for(blocked(BUDGET, 1, 500_000_000, 0), NOON_MS).status == 402
    assert BudgetExceeded.status == 402


def test_a_budget_that_never_resets() -> None:
    error = refusal_for(blocked(limit(Unit.USD, 10, TOTAL), 1, 10, 0), NOON_MS)
    assert (error.extra["resets_at"], error.extra["resets_at_iso"]) == (None, None)
    assert "does not reset" in error.message


def test_a_call_larger_than_the_whole_budget() -> None:
    error = refusal_for(blocked(BUDGET, 600_000_000, 0, 0), NOON_MS)
    assert "more than the whole budget" in error.message


def test_reserved_by_others_is_worth_a_retry() -> None:
    error = refusal_for(blocked(BUDGET, 10, 0, 500_000_000), NOON_MS)
    assert isinstance(error, BudgetReserved)
    assert error.status == 429
    assert error.headers == {"retry-after": "5"}
    assert "retry in 5 s" in error.message
    assert error.extra["reserved_nusd"] == 500_000_000


def test_who_comes_again_and_finds_it_still_reserved_is_given_longer() -> None:
    error = refusal_for(blocked(BUDGET, 10, 0, 500_000_000), NOON_MS, client_retry=1)
    assert error.headers == {"retry-after": "10"}
    error = refusal_for(blocked(BUDGET, 10, 0, 500_000_000, NOON_MS + 7_000), NOON_MS, client_retry=2)
    assert error.headers == {"retry-after": "7"}


@pytest.mark.parametrize(("frees_in_ms", "wait"), [(-5, "1"), (1, "1"), (1001, "2"), (4000, "4"), (60_000, "5")])
def test_a_window_about_to_end_shortens_the_wait(frees_in_ms: int, wait: str) -> None:
    error = refusal_for(blocked(BUDGET, 10, 0, 500_000_000, NOON_MS + frees_in_ms), NOON_MS)
    assert error.headers["retry-after"] == wait


def test_a_full_rate_window() -> None:
    error = refusal_for(blocked(limit(Unit.REQUESTS, 60, MINUTE), 1, 60, 0, NOON_MS + 1234), NOON_MS)
    assert isinstance(error, RateLimited)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "retry-after": "2",
        "retry-after-ms": "1234",
    }
    assert error.extra["limit"] == 60
    assert error.message == (
        "The rate limit of 60 requests in any minute for key:k1 is used up: 60 requests taken. Retry in 1.2 s."
    )


def test_a_long_wait_is_told_but_not_slept() -> None:
    """Some SDKs sleep for any retry-after they are given, a day included."""
    error = refusal_for(blocked(limit(Unit.TOKENS, 100, DAY), 60, 50, 0, NOON_MS + 43_200_000), NOON_MS)
    assert "retry-after" not in error.headers
    assert "retry-after-ms" not in error.headers
    assert error.headers["x-should-retry"] == "false"
    assert error.headers["x-ratelimit-reset-tokens"] == "12h0m0s"
    assert error.extra["resets_at_iso"] == "2026-11-26T00:00:00Z"


@pytest.mark.parametrize(
    ("some", "amount"), [(limit(Unit.TOKENS, 100, TOTAL), 60), (limit(Unit.TOKENS, 50, MINUTE), 51)]
)
def test_what_waiting_does_not_help(some: Limit, amount: int) -> None:
    error = refusal_for(blocked(some, amount, 50, 0), NOON_MS)
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


amounts = st.integers(0, 1000)


@given(
    st.sampled_from([Unit.USD, Unit.TOKENS, Unit.REQUESTS]),
    st.sampled_from([DAY, MINUTE, TOTAL]),
    amounts, amounts, amounts, amounts,
    st.one_of(st.none(), st.integers(NOON_MS - 10, NOON_MS + 10**8)),
)  # fmt: skip
def test_every_refusal_is_whole(
    unit: Unit, window: object, amount: int, limit_amount: int, spent: int, reserved: int, frees: int | None
) -> None:
    some = limit(unit, limit_amount, window)  # type: ignore[arg-type]
    error = refusal_for(blocked(some, amount, spent, reserved, frees), NOON_MS)
    assert {"scope", "limit", "spent", "reserved", "required", "resets_at", "resets_at_iso"} <= error.extra.keys()
    assert error.message.endswith(".")
    waited = error.headers.get("retry-after")
    assert (waited is None) == (error.headers.get("x-should-retry") == "false")
    if waited is not None:
        assert 1 <= int(waited) <= (10 if isinstance(error, BudgetReserved) else 65)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1, "1ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_723_000, "1h2m3s"),
    ],
)
def test_wait_text(ms: int, text: str) -> None:
    assert print_wait(ms) == text


# ---------------------------------------------------------------- when time makes room


def rolling(amount: int, limit_amount: int) -> Want:
    return reserve_wants(key(limit(Unit.TOKENS, limit_amount, MINUTE)), NOON_MS, 0, amount)[0]


def test_a_calendar_window_frees_at_its_end_or_never() -> None:
    assert frees_ms(want(BUDGET, 10), [500_000_000], 0) == NOON_MS + 12 * 3_600_000
    assert frees_ms(want(BUDGET, 500_000_001), [0], 0) is None
    assert frees_ms(want(limit(Unit.USD, 10, TOTAL), 1), [10], 0) is None


@given(st.lists(amounts, min_size=13, max_size=13), st.integers(1, 1000), st.integers(1, 1000), amounts)
def test_a_rolling_window_frees_at_the_first_bucket_that_helps(
    spent: list[int], amount: int, limit_amount: int, reserved: int
) -> None:
    made = rolling(amount, limit_amount)
    when = frees_ms(made, spent, reserved)
    if amount > limit_amount:
        assert when is None
        return
    assert when is not None
    assert made.resets_ms is not None

    def fits(at_ms: int) -> bool:
        """By the windows themselves: what is still counted at that time."""
        left = reserve_wants(key(made.limit), at_ms, 0, amount)[0].counters
        counted = sum(value for name, value in zip(made.counters, spent, strict=True) if name in left)
        return counted + reserved + amount <= limit_amount

    if reserved + amount <= limit_amount:
        assert fits(when)
    if not fits(NOON_MS):
        assert not fits(when - 1)
