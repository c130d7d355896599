"""Limits as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.limits.text import (
    MAX_AMOUNT,
    parse_budget,
    parse_limit,
    print_limit,
    requests_per_minute,
    tokens_per_minute,
    write_limit,
)


@pytest.mark.parametrize(
    ("text", "unit", "amount", "window", "printed"),
    [
        ("5USD/month", Unit.USD, 5 * 10**9, Window(WindowKind.MONTH), "5 USD per month (UTC)"),
        ("0.5USD/day", Unit.USD, 500_000_000, Window(WindowKind.DAY), "0.5 USD per day (UTC)"),
        ("$20/total", Unit.USD, 20 * 10**9, Window(WindowKind.TOTAL), "20 USD in total"),
        (" 0.000000001 usd / hour ", Unit.USD, 1, Window(WindowKind.HOUR), "0.000000001 USD per hour (UTC)"),
        (
            "5USD/week@Europe/Vienna",
            Unit.USD,
            5 * 10**9,
            Window(WindowKind.WEEK, zone="Europe/Vienna"),
            "5 USD per week (Europe/Vienna)",
        ),
        ("1000000tokens/day", Unit.TOKENS, 10**6, Window(WindowKind.DAY), "1000000 tokens per day (UTC)"),
        ("1_000 tokens/min", Unit.TOKENS, 1000, Window(WindowKind.ROLLING, 60), "1000 tokens in any minute"),
        ("60/min", Unit.REQUESTS, 60, Window(WindowKind.ROLLING, 60), "60 requests in any minute"),
        ("60 requests/60s", Unit.REQUESTS, 60, Window(WindowKind.ROLLING, 60), "60 requests in any minute"),
        ("10/15min", Unit.REQUESTS, 10, Window(WindowKind.ROLLING, 900), "10 requests in any 15 minutes"),
        ("3USD/24h", Unit.USD, 3 * 10**9, Window(WindowKind.ROLLING, 86_400), "3 USD in any day"),
        ("3USD/30d", Unit.USD, 3 * 10**9, Window(WindowKind.ROLLING, 30 * 86_400), "3 USD in any 30 days"),
        ("1/7s", Unit.REQUESTS, 1, Window(WindowKind.ROLLING, 7), "1 requests in any 7 seconds"),
        ("0USD/day", Unit.USD, 0, Window(WindowKind.DAY), "0 USD per day (UTC)"),
    ],
)
def test_forms(text: str, unit: Unit, amount: int, window: Window, printed: str) -> None:
    limit = parse_limit(text)
    assert (limit.unit, limit.amount, limit.window) == (unit, amount, window)
    assert (limit.id, limit.scope) == ("", ())
    assert print_limit(limit) == printed
    if unit is Unit.USD:
        assert parse_budget(text) == limit


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5USD", "names no window"),
        ("5USD/fortnight", "not a window"),
        ("5USD/", "not a window"),
        ("5EUR/month", "not an amount"),
        ("-5USD/month", "not an amount"),
        ("/month", "not an amount"),
        ("5.5/min", "not an amount"),
        ("5 tokes/min", "not an amount"),
        ("5USD/day@Europe/Wien", "not a time zone"),
        ("5USD/day@", "not a time zone"),
        ("5USD/day@../../etc/passwd", "not a time zone"),
        ("5USD/60s@Europe/Vienna", "no time zone"),
        ("5USD/0s", "between 1 second"),
        ("5USD/400d", "between 1 second"),
        ("0.0000000001USD/day", "finer than one nano-USD"),
        (f"{MAX_AMOUNT + 1}tokens/day", "more than can be counted"),
        ("99999999999999999999USD/day", "more than can be counted"),
    ],
)
def test_what_is_wrong_is_said(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_limit(text)


def test_a_budget_is_money() -> None:
    assert parse_budget("5/month") == parse_budget("5USD/month")
    with pytest.raises(ValueError, match="amount of money"):
        parse_budget("5tokens/month")
    with pytest.raises(ValueError, match="names no window"):
        parse_budget("5USD")
    with pytest.raises(ValueError, match="more than can be counted"):
        parse_budget("99999999999USD/month")


def test_per_minute() -> None:
    assert requests_per_minute(60) == parse_limit("60/min")
    assert tokens_per_minute(1000) == parse_limit("1000tokens/min")
    for count in (0, -1, MAX_AMOUNT + 1):
        with pytest.raises(ValueError, match="at least 1"):
            requests_per_minute(count)


kinds = st.sampled_from([WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH])


@given(
    st.builds(
        Limit,
        st.just(""),
        st.sampled_from(Unit),
        st.integers(0, MAX_AMOUNT),
        st.one_of(
            st.builds(Window, kinds, st.just(0), st.sampled_from(["UTC", "Asia/Kathmandu"])),
            st.builds(Window, st.just(WindowKind.ROLLING), st.integers(1, 366 * 86_400)),
            st.just(Window(WindowKind.TOTAL)),
        ),
        st.just(()),
    )
)
def test_what_is_written_is_read_back(limit: Limit) -> None:
    assert parse_limit(write_limit(limit)) == limit
