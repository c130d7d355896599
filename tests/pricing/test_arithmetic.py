"""Charges: exact, rounded once a line, and never a silent 0."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.charge import CostState, PriceRow, PriceSheet
from gateway.core.usage import INPUT_METERS, Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge, pinned
from tests.pricing.examples import AT_MS, PLAIN, row, sheet, usage

METERS = [meter for meter in Meter if not meter.startswith("request") and meter is not Meter.REASONING]
"""All that a usage can hold; a request's fee and reasoning are on lines only."""


def by_decimal(quantity: int, rate_pico: int, per: int) -> int:
    """A line as a bookkeeper would do it: nano-USD of quantity × price, to the nearest, ties to even."""
    return int((Decimal(quantity) * Decimal(rate_pico) / Decimal(per) / 1000).quantize(Decimal(1), ROUND_HALF_EVEN))


def test_a_hundred_thousand_random_usages_agree_with_decimal() -> None:
    """Every meter, two context tiers, odd rates and `per`s; 500 sheets with 200 usages each."""
    chance = random.Random(20261125)
    checked = 0
    for _ in range(500):
        rows = [
            PriceRow(
                id=f"{meter}/{cliff}",
                meter=meter,
                rate_pico=chance.choice([chance.randrange(10**9), chance.randrange(10**4), 0, 500, 1500]),
                per=chance.choice([1, 1, 1, 10, 1000, 3600]),
                min_input=cliff,
            )
            for meter in METERS
            for cliff in (0, 1000)
        ]
        prices = sheet(*rows)
        by_cliff = {cliff: {found.meter: found for found in rows if found.min_input == cliff} for cliff in (0, 1000)}
        for _ in range(200):
            meters = {
                meter: chance.choice([chance.randrange(1, 10), chance.randrange(1, 10**7)])
                for meter in chance.sample(METERS, chance.randrange(7))
            }
            charged = charge(Usage(meters, UsageSource.PROVIDER), prices, AT_MS)
            prompt = sum(n for meter, n in meters.items() if meter in INPUT_METERS)
            rates = by_cliff[1000 if prompt > 1000 else 0]
            expected = [by_decimal(n, rates[meter].rate_pico, rates[meter].per) for meter, n in meters.items()]
            assert [line.effective_nusd for line in charged.lines] == expected
            assert charged.effective_nusd == charged.list_nusd == charged.billed_nusd == sum(expected)
            assert charged.state is CostState.PRICED
            checked += 1
    assert checked == 100_000


@pytest.mark.parametrize(
    ("rate_pico", "per", "quantity", "nusd"),
    [
        (500, 1, 1, 0),
        (1500, 1, 1, 2),
        (2500, 1, 1, 2),
        (501, 1, 1, 1),
        (499, 1, 1, 0),
        (5, 1000, 10**5, 0),
        (15, 1000, 10**5, 2),
    ],
)
def test_half_even(rate_pico: int, per: int, quantity: int, nusd: int) -> None:
    only = PriceSheet("m", (PriceRow(id="r", meter="input", rate_pico=rate_pico, per=per),))
    charged = charge(usage(quantity), only, AT_MS)
    assert charged.effective_nusd == nusd


def test_each_line_is_rounded_by_itself() -> None:
    """Two halves of a nano-USD are 0 + 0, not 1: the total is the sum of the lines."""
    halves = sheet(row(Meter.INPUT, "0.0005"), row(Meter.OUTPUT, "0.0005"))
    charged = charge(usage(1, 1), halves, AT_MS)
    assert [line.effective_nusd for line in charged.lines] == [0, 0]
    assert charged.effective_nusd == 0


def test_lines_name_their_rows() -> None:
    charged = charge(usage(1_000_000, 500_000), PLAIN, AT_MS)
    assert [
        (line.meter, line.quantity, line.rate_pico, line.effective_nusd, line.row_id) for line in charged.lines
    ] == [
        ("input", 1_000_000, 1_000_000, 10**9, "input/standard/0/0"),
        ("output", 500_000, 4_000_000, 2 * 10**9, "output/standard/0/0"),
    ]
    assert charged.effective_nusd == charged.list_nusd == 3 * 10**9


TIERED = sheet(
    *PLAIN.rows,
    row(Meter.INPUT, "0.5", tier="flex"),
    row(Meter.OUTPUT, "2", tier="flex"),
    row(Meter.INPUT, "2", tier="priority"),
    row(Meter.OUTPUT, "8", tier="priority"),
)


@pytest.mark.parametrize(
    ("served", "requested", "nusd"),
    [
        ("", "", 5_000),
        ("", "priority", 5_000),
        ("default", "priority", 5_000),
        ("standard", "", 5_000),
        ("auto", "flex", 5_000),
        ("flex", "priority", 2_500),
        ("priority", "fast", 10_000),
    ],
)
def test_the_served_tier_is_billed(served: str, requested: str, nusd: int) -> None:
    assert charge(usage(1, 1, tier=served), TIERED, AT_MS, requested).effective_nusd == nusd


def test_a_provider_that_does_not_echo_is_billed_as_asked() -> None:
    assert charge(usage(1, 1), TIERED, AT_MS, "flex", tier_echoed=False).effective_nusd == 2_500
    assert charge(usage(1, 1), TIERED, AT_MS, "auto", tier_echoed=False).effective_nusd == 5_000
    assert charge(usage(1, 1, tier="priority"), TIERED, AT_MS, "flex", tier_echoed=False).effective_nusd == 10_000


CLIFF = sheet(
    *PLAIN.rows,
    row(Meter.CACHE_READ, "0.1"),
    row(Meter.INPUT, "2", min_input=1000),
    row(Meter.CACHE_READ, "0.2", min_input=1000),
    row(Meter.OUTPUT, "6", min_input=1000),
    row(Meter.INPUT, "3", min_input=5000),
)


@pytest.mark.parametrize(
    ("input", "cached", "rates"),
    [
        (1000, 0, ["1", "4"]),
        (1001, 0, ["2", "6"]),
        (1, 999, ["1", "0.1", "4"]),
        (1, 1000, ["2", "0.2", "6"]),
        (5001, 0, ["3", "6"]),
        (5000, 1, ["3", "0.2", "6"]),
        (0, 0, ["4"]),
    ],
)
def test_a_cliff_is_strict_and_counts_cached_tokens(input: int, cached: int, rates: list[str]) -> None:
    charged = charge(usage(input, 7, cache_read=cached), CLIFF, AT_MS)
    order = [Meter.INPUT, Meter.CACHE_READ, Meter.OUTPUT]
    found = sorted(charged.lines, key=lambda line: order.index(Meter(line.meter)))
    assert [Decimal(line.rate_pico or 0) / 10**6 for line in found] == [Decimal(rate) for rate in rates]


def test_prices_are_those_in_effect() -> None:
    dated = sheet(
        row(Meter.INPUT, "10", to_ms=2000),
        row(Meter.INPUT, "2", from_ms=2000, to_ms=3000),
        row(Meter.INPUT, "1", from_ms=3000),
    )
    assert [charge(usage(1), dated, at_ms).effective_nusd for at_ms in (0, 1999, 2000, 2999, 3000, 10**13)] == [
        10_000, 10_000, 2_000, 2_000, 1_000, 1_000,
    ]  # fmt: skip


def test_a_price_that_has_ended_is_none() -> None:
    ended = sheet(row(Meter.INPUT, "10", from_ms=1000, to_ms=2000))
    assert [charge(usage(1), ended, at_ms).effective_nusd for at_ms in (999, 1000, 1999, 2000)] == [
        None, 10_000, 10_000, None,
    ]  # fmt: skip


def test_of_two_rows_in_effect_the_later_counts() -> None:
    doubled = sheet(row(Meter.INPUT, "10"), row(Meter.INPUT, "2", from_ms=2000))
    assert charge(usage(1), doubled, 2000).effective_nusd == 2_000
    assert charge(usage(1), sheet(*reversed(doubled.rows)), 2000).effective_nusd == 2_000


@pytest.mark.parametrize("meter", ["cache_read", "cache_write", "cache_write_1h"])
def test_caching_without_a_price_is_plain_input(meter: str) -> None:
    charged = charge(usage(**{meter: 10}), PLAIN, AT_MS)
    (line,) = charged.lines
    assert (line.meter, line.effective_nusd, line.row_id) == (meter, 10_000, "input/standard/0/0")


def test_an_hour_long_write_is_not_priced_as_a_short_one() -> None:
    writes = sheet(*PLAIN.rows, row(Meter.CACHE_WRITE, "1.25"))
    assert charge(usage(cache_write=4), writes, AT_MS).effective_nusd == 5_000
    assert charge(usage(cache_write_1h=4), writes, AT_MS).effective_nusd is None


@pytest.mark.parametrize(
    ("asked", "prices"),
    [
        (usage(1, 1), None),
        (usage(1, 1), sheet()),
        (usage(1, 1, fault="cached 5 exceeds prompt 1"), PLAIN),
        (usage(1, 1, tier="scale"), PLAIN),
        (usage(1, 1, source=UsageSource.NONE), PLAIN),
        (Usage({}, UsageSource.NONE), PLAIN),
        (Usage({}, UsageSource.PROVIDER), None),
        (usage(1, 1, input_audio=1), PLAIN),
        (usage(1, 1, cache_read_audio=1), PLAIN),
        (usage(1, 1, input_image=1), PLAIN),
        (usage(1, 1, output_audio=1), PLAIN),
        (usage(-5, 1), PLAIN),
        (usage(1, 1), sheet(row(Meter.INPUT, "1"), row(Meter.OUTPUT, "1", from_ms=AT_MS + 1))),
        (usage(1, 1), sheet(row(Meter.INPUT, "1"), row(Meter.OUTPUT, "1", tier="flex"))),
    ],
)
def test_unpriced_is_none_never_zero(asked: Usage, prices: PriceSheet | None) -> None:
    charged = charge(asked, prices, AT_MS)
    assert (charged.state, charged.effective_nusd, charged.list_nusd) == (CostState.UNPRICED, None, None)
    assert {line.meter: line.quantity for line in charged.lines} == asked.meters
    for line in charged.lines:
        assert (line.rate_pico is None) == (line.effective_nusd is None) == (line.row_id == "")


def test_free_is_a_price() -> None:
    free = sheet(row(Meter.INPUT, "0"), row(Meter.OUTPUT, "0"))
    charged = charge(usage(10, 10), free, AT_MS)
    assert (charged.state, charged.effective_nusd) == (CostState.PRICED, 0)


def test_an_explicit_zero_usage_costs_nothing() -> None:
    charged = charge(Usage({}, UsageSource.PROVIDER), PLAIN, AT_MS)
    assert (charged.state, charged.effective_nusd, charged.lines) == (CostState.PRICED, 0, ())


def test_an_estimate_says_so() -> None:
    assert charge(usage(1, 1, source=UsageSource.ESTIMATED), PLAIN, AT_MS).state is CostState.ESTIMATED
    assert charge(usage(1, 1, source=UsageSource.ESTIMATED), None, AT_MS).state is CostState.UNPRICED


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12))
def test_pinned_rates_are_the_standard_ones_in_effect(input: int, output: int, at_ms: int) -> None:
    rates = {rate.meter: rate for rate in pinned(CLIFF, at_ms)}
    assert list(rates) == ["input", "output"]
    small = charge(usage(min(input, 1000), output), CLIFF, at_ms)
    for line in small.lines:
        assert (line.row_id, line.rate_pico, line.per) == (
            rates[line.meter].row_id, rates[line.meter].rate_pico, rates[line.meter].per,
        )  # fmt: skip


def test_pinned_knows_what_is_not_priced() -> None:
    assert pinned(sheet(), AT_MS) == ()
    assert [rate.meter for rate in pinned(sheet(row(Meter.INPUT, "1")), AT_MS)] == ["input"]
    assert pinned(sheet(row(Meter.INPUT, "1", from_ms=AT_MS + 1)), AT_MS) == ()
