"""Numbers, months and bars as pages show them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console import words
from gateway.console.chart import BAR, HEIGHT, SLOT, draw, tick_step, tick_text
from gateway.console.periods import asked_month, month_after, month_before, month_of
from gateway.core.money import NANO

AMOUNT = st.integers(-5 * NANO, 10**15)


@given(st.lists(st.lists(AMOUNT, min_size=3, max_size=3), min_size=1, max_size=31))
def test_bars_stand_on_each_other_within_the_drawing(amounts: list[list[int]]) -> None:
    days = [f"2026-11-{day + 1:02d}" for day in range(31)]
    chart = draw(days, amounts)
    assert chart.width == 31 * SLOT
    for day, row in zip(days, amounts, strict=False):
        bars = [bar for bar in chart.segments if bar.day == day]
        assert [bar.nusd for bar in bars] == [nusd for nusd in row if nusd > 0]
        foot = HEIGHT
        for bar in bars:
            assert bar.y + bar.height == foot, "a gap or an overlap"
            foot = bar.y
        assert 0 <= foot <= HEIGHT
        assert all(0 <= bar.x <= chart.width - BAR for bar in bars)
    assert chart.ticks[-1] == "$0"
    assert chart.lines[-1] == HEIGHT
    assert len(chart.ticks) == len(chart.lines) <= 6


@given(st.integers(1, 10**17))
def test_ticks_are_round_and_reach_the_tallest(tallest: int) -> None:
    step = tick_step(tallest)
    assert step * 5 >= tallest
    assert str(step).rstrip("0") in {"1", "2", "25", "5"}
    assert float(tick_text(step).strip("$").replace("k", "e3").replace("M", "e6")) * NANO == pytest.approx(step)


@given(st.integers(0, 4_102_444_800_000))
def test_months_follow_each_other_without_gap(ms: int) -> None:
    month = month_of(ms)
    assert month.holds(ms)
    assert month_after(month).from_ms == month.to_ms
    assert month_before(month).to_ms == month.from_ms
    assert month.days[0].endswith("-01")
    assert datetime.fromtimestamp(month.from_ms / 1000, UTC).day == 1
    assert len(month.days) * 86_400_000 == month.to_ms - month.from_ms
    assert asked_month(None, ms) == month


@pytest.mark.parametrize(
    ("nusd", "shown", "exact"),
    [
        (0, "$0.00", "0 USD"),
        (1, "$0.000000001", "0.000000001 USD"),
        (387_654, "$0.00039", "0.000387654 USD"),
        (650_000, "$0.00065", "0.00065 USD"),
        (9_994_000, "$0.01", "0.009994 USD"),
        (10_000_000, "$0.01", "0.01 USD"),
        (1_234_567_890, "$1.23", "1.23456789 USD"),
        (None, "unpriced", "No price is known for this; it is not in any sum"),
    ],
)
def test_small_money(nusd: int | None, shown: str, exact: str) -> None:
    amount = words.small_money(nusd)
    assert amount.exact == exact
    assert amount.text == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (-1, "–"), (0, "0.0 ms"), (290, "0.3 ms"), (9_999, "10.0 ms"), (842_499, "842 ms"), (1_210_000, "1.21 s"),
        (125_000_000, "2 min 05 s"),
    ],
)  # fmt: skip
def test_durations(us: int, shown: str) -> None:
    assert words.duration(us) == shown


def test_counts_and_shares() -> None:
    assert [words.count(n) for n in (0, 999, 4_820, 4_820_000, 2_500_000_000)] == [
        "0",
        "999",
        "4,820",
        "4.82 M",
        "2.50 G",
    ]
    assert [words.tokens(n) for n in (812, 9_999, 14_230, 4_820_000)] == ["812", "9,999", "14.2 k", "4.82 M"]
    assert [words.percent(a, b) for a, b in ((0, 0), (0, 5), (1, 100_000), (37, 2_999), (1, 2))] == [
        "0 %", "0 %", "< 0.01 %", "1.23 %", "50 %",
    ]  # fmt: skip
    assert [words.byte_size(n) for n in (7, 2048, 3_400_000)] == ["7 bytes", "2.0 KiB", "3.2 MiB"]
