"""A forecast is a straight line: it rises with spending and falls with time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.forecast import Forecast, forecast
from gateway.alerts.periods import start_ms
from gateway.core.limits import Window, WindowKind
from gateway.limits.windows import span_at

DAY_MS = 86_400_000
MONTH_MS = 30 * DAY_MS


@pytest.mark.parametrize(
    ("spent", "day", "expected"),
    [
        (60, 15, Forecast(120, 25 * DAY_MS)),
        (50, 15, None),  # exactly the limit is not above it
        (99, 5, None),  # the first fifth
        (20, 6, None),
        (21, 6, Forecast(105, 2_468_571_429)),
        (100, 15, None),  # reached: no forecast
        (0, 15, None),
        (99, 30, None),  # over
    ],
)
def test_of_a_month_with_a_hundred(spent: int, day: int, expected: Forecast | None) -> None:
    assert forecast(spent, 100, 0, day * DAY_MS, MONTH_MS, 20) == expected


def test_it_can_be_switched_off() -> None:
    assert forecast(60, 100, 0, 15 * DAY_MS, MONTH_MS, 0) is None


AMOUNTS = st.integers(1, 10**15)
TIMES = st.integers(1, MONTH_MS - 1)


@given(AMOUNTS, AMOUNTS, AMOUNTS, TIMES)
def test_more_spending_never_forecasts_less(amount: int, spent: int, more: int, now_ms: int) -> None:
    less_found = forecast(spent, amount, 0, now_ms, MONTH_MS, 1)
    found = forecast(spent + more, amount, 0, now_ms, MONTH_MS, 1)
    if less_found is not None and spent + more < amount:
        assert found is not None
        assert found.projected >= less_found.projected
        assert found.exhausted_ms <= less_found.exhausted_ms


@given(AMOUNTS, AMOUNTS, TIMES, TIMES)
def test_time_without_spending_never_forecasts_more(amount: int, spent: int, one_ms: int, other_ms: int) -> None:
    sooner, later = sorted((one_ms, other_ms))
    before = forecast(spent, amount, 0, sooner, MONTH_MS, 1)
    after = forecast(spent, amount, 0, later, MONTH_MS, 1)
    if after is not None and sooner * 100 >= MONTH_MS:
        assert before is not None
        assert after.projected <= before.projected


@given(AMOUNTS, AMOUNTS, TIMES)
def test_it_says_that_the_limit_is_reached_within_the_window(amount: int, spent: int, now_ms: int) -> None:
    found = forecast(spent, amount, 0, now_ms, MONTH_MS, 1)
    if found is not None:
        assert spent < amount < found.projected
        assert now_ms <= found.exhausted_ms <= MONTH_MS


@pytest.mark.parametrize("kind", [WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH])
@given(
    moment=st.integers(0, 2**41), zone=st.sampled_from(["UTC", "Europe/Vienna", "America/St_Johns", "Asia/Kathmandu"])
)
def test_a_window_begins_where_the_one_before_ends(kind: WindowKind, moment: int, zone: str) -> None:
    window = Window(kind, zone=zone)
    begun = start_ms(window, moment)
    assert begun is not None
    assert begun <= moment
    assert span_at(window, begun).id == span_at(window, moment).id
    assert span_at(window, begun - 1).end_ms == begun


@pytest.mark.parametrize("kind", [WindowKind.HOUR, WindowKind.ROLLING, WindowKind.TOTAL])
def test_other_windows_have_no_forecast(kind: WindowKind) -> None:
    assert start_ms(Window(kind, 3600), 10**12) is None
