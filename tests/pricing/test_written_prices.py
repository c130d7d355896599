"""Prices as people write them: exact both ways, and a mistake says what would be right."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.usage import Meter
from gateway.pricing.week import is_within
from gateway.pricing.written import (
    Mistake,
    print_amount,
    read_amount,
    read_count,
    read_day,
    read_hours,
    read_percent,
    read_rate_of_exchange,
)

MONDAY = 1_795_392_000_000
"""2026-11-23T00:00Z."""
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "meter", "pico_for_one", "currency"),
    [
        ("2.50 USD / 1M tokens", Meter.INPUT, Fraction(2_500_000), "USD"),
        ("$2.5/1M tokens", Meter.OUTPUT, Fraction(2_500_000), "USD"),
        ("0.003625 usd / 1M tokens", Meter.CACHE_READ, Fraction(3_625), "USD"),
        ("0.0000025 USD / token", Meter.INPUT, Fraction(2_500_000), "USD"),
        ("2 EUR / 1_000_000 tokens", Meter.INPUT, Fraction(2_000_000), "EUR"),
        ("0.1 USD / hour", Meter.AUDIO_SECONDS, Fraction(10**11, 3600), "USD"),
        ("0.006 USD / minute", Meter.AUDIO_SECONDS, Fraction(10**8), "USD"),
        ("10 USD / 1k searches", Meter.WEB_SEARCH, Fraction(10**10), "USD"),
        ("0.04 USD / image", Meter.IMAGES, Fraction(4 * 10**10), "USD"),
        ("15 USD / 1M characters", Meter.CHARACTERS, Fraction(15_000_000), "USD"),
        ("4 USD / 1k pages", Meter.PAGES, Fraction(4 * 10**9), "USD"),
        ("0", Meter.INPUT, Fraction(0), "USD"),
        ("0 USD", Meter.IMAGES, Fraction(0), "USD"),
    ],
)
def test_an_amount_is_exact(text: str, meter: Meter, pico_for_one: Fraction, currency: str) -> None:
    amount = read_amount(text, meter)
    assert (Fraction(amount.rate_pico, amount.per), amount.currency) == (pico_for_one, currency)


@pytest.mark.parametrize(
    ("text", "meter", "said"),
    [
        ("2.50", Meter.INPUT, "is no price"),
        ("2,50 USD / 1M tokens", Meter.INPUT, "is no price"),
        ("-1 USD / 1M tokens", Meter.INPUT, "is no price"),
        ("2_5 USD / 1M tokens", Meter.INPUT, "is no price"),
        ("\u0662 USD / 1M tokens", Meter.INPUT, "is no price"),
        ("1e-6 USD / token", Meter.INPUT, "is no price"),
        ("nan USD / token", Meter.INPUT, "is no price"),
        ("2.50 / 1M tokens", Meter.INPUT, "names no currency"),
        ("$2.50 EUR / 1M tokens", Meter.INPUT, "names two currencies"),
        ("0.04 USD / image", Meter.INPUT, "input is priced by the token"),
        ("2 USD / 1M tokens", Meter.WEB_SEARCH, "web_search is priced by the call"),
        ("1 USD / 0 tokens", Meter.INPUT, "no whole number of units"),
        ("0.000000000001 USD / 3 tokens", Meter.INPUT, ""),
        ("999999999999 USD / token", Meter.INPUT, "more than a million"),
    ],
)
def test_a_mistake_says_what_would_be_right(text: str, meter: Meter, said: str) -> None:
    if not said:
        amount = read_amount(text, meter)  # a third of a pico-USD: kept as a fraction, never rounded
        assert Fraction(amount.rate_pico, amount.per) == Fraction(1, 3)
        return
    with pytest.raises(Mistake) as found:
        read_amount(text, meter)
    assert said in found.value.message
    assert found.value.suggestion.startswith("Write it like ")


@given(
    st.sampled_from([meter for meter in Meter if meter not in (Meter.AUDIO_SECONDS, Meter.VIDEO_SECONDS)]),
    st.integers(0, 10**15),
    st.sampled_from([1, 1000, 10**6]),
)
def test_what_is_printed_is_read_as_the_same_rate(meter: Meter, rate_pico: int, per: int) -> None:
    text = print_amount(rate_pico, per, meter)
    if "." in text and len(text.split()[0].partition(".")[2]) > 12:
        return  # finer than anybody publishes; it is shown to its last digit all the same
    amount = read_amount(text, meter)
    assert Fraction(amount.rate_pico, amount.per) == Fraction(rate_pico, per)


def test_hours_are_times_of_the_week_in_utc() -> None:
    spans = read_hours(["Mon-Fri 01:00-04:00", "Sun 22:00-06:00"])
    inside = [1, 25, 3, 24 * 6 + 22, 24 * 6 + 23, 0, 5]
    outside = [6, 7, 24 + 4, 24 * 5 + 1, 24 * 6 + 21]
    assert all(is_within(spans, MONDAY + hour * HOUR) for hour in inside)
    assert not any(is_within(spans, MONDAY + hour * HOUR) for hour in outside)
    assert read_hours(["00:00-24:00"]) == ((0, 7 * 24 * 60),)
    for wrong in ("25:00-26:00", "Mon", "Mxn 01:00-02:00", "01:00-01:00", "1:00-2:00", "24:00-01:00"):
        with pytest.raises(Mistake):
            read_hours([wrong])


def test_days_counts_and_per_cents() -> None:
    assert read_day("2026-11-23") == MONDAY
    assert read_day("2026-11-23T01:00:00+01:00") == MONDAY
    assert [read_count(text, 1, 10**9) for text in ("200000", "200k", "200_000", "2M")] == [200_000] * 3 + [2_000_000]
    assert [read_percent(text, 0, 100) for text in ("15", "15 %", "2.5%")] == ["15", "15", "2.5"]
    assert read_rate_of_exchange(" 1.085 ") == "1.085"
    for read, wrong in [
        (read_day, "tomorrow"),
        (read_day, "9999-12-31"),
        (lambda text: read_count(text, 1, 10), "11"),
        (lambda text: read_count(text, 1, 10), "2.5"),
        (lambda text: read_percent(text, 0, 100), "101"),
        (lambda text: read_percent(text, 0, 100), "NaN"),
        (read_rate_of_exchange, "0"),
        (read_rate_of_exchange, "1,085"),
    ]:
        with pytest.raises(Mistake):
            read(wrong)
