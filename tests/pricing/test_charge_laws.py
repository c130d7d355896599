"""Laws of a charge, over any rows: monotone in quantities and rates, additive within rounding, the sum of its lines."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core.charge import Charge, PriceRow, PriceSheet, Terms, Uplift
from gateway.core.money import PICO_PER_NANO
from gateway.core.usage import INPUT_METERS, Meter, Usage, UsageSource
from gateway.pricing.agreements import Agreement, agreed
from gateway.pricing.arithmetic import charge
from gateway.pricing.remembered import Prices

IN_USAGES = [meter for meter in Meter if not meter.startswith("request") and meter is not Meter.REASONING]
AMOUNTS = ("list_nusd", "contracted_nusd", "effective_nusd", "billed_nusd")
RATES = st.one_of(st.integers(0, 2000), st.integers(0, 10**12))
TERMS = st.one_of(
    st.none(),
    st.builds(
        Terms,
        list_pico=st.one_of(st.none(), RATES),
        billed_pico=st.one_of(st.none(), RATES),
        min_quantity=st.sampled_from([0, 0, 10]),
    ),
)


@st.composite
def sheets(draw: st.DrawFn, cliffs: bool = False) -> PriceSheet:
    """A row for every meter, and with `cliffs` a dearer one for longer prompts."""
    rows = []
    for meter in IN_USAGES:
        row = PriceRow(
            f"{meter}/0", meter, draw(RATES), per=draw(st.sampled_from([1, 1, 1000, 3600])), terms=draw(TERMS)
        )
        rows.append(row)
        if cliffs and draw(st.booleans()):
            factor = draw(st.integers(1, 4))
            rows.append(msgspec.structs.replace(row, id=f"{meter}/1", rate_pico=row.rate_pico * factor, min_input=500))
    return PriceSheet("m", tuple(rows), uplifts=(Uplift("us", 1_100_000, by_reply=True),))


METERS = st.dictionaries(st.sampled_from(IN_USAGES), st.integers(1, 10**9), max_size=6)
REGIONS = st.sampled_from(["", "us"])


def cost(sheet: PriceSheet, meters: dict[Meter, int], region: str = "") -> Charge:
    charged = charge(Usage(meters, UsageSource.PROVIDER, region=region), sheet, 0)
    assert charged.effective_nusd is not None
    return charged


def total(charged: Charge, amount: str) -> int:
    value = getattr(charged, amount)
    assert isinstance(value, int)
    return value


@settings(deadline=None)
@given(sheets(cliffs=True), METERS, REGIONS)
def test_lines_sum_to_the_total_in_all_four_amounts(sheet: PriceSheet, meters: dict[Meter, int], region: str) -> None:
    charged = cost(sheet, meters, region)
    for amount in AMOUNTS:
        assert sum(getattr(line, amount) for line in charged.lines) == total(charged, amount)
    assert [line.meter for line in charged.lines] == list(meters)


@settings(deadline=None)
@given(sheets(cliffs=True), METERS, REGIONS)
def test_a_line_is_quantity_times_rate_by_decimal(sheet: PriceSheet, meters: dict[Meter, int], region: str) -> None:
    for line in cost(sheet, meters, region).lines:
        assert line.rate_pico is not None
        with localcontext(prec=60):
            exact = Decimal(line.quantity) * line.rate_pico / (line.per * PICO_PER_NANO)  # once: a tie stays one
            assert line.effective_nusd == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


@settings(deadline=None)
@given(sheets(cliffs=True), METERS, st.sampled_from(IN_USAGES), st.integers(1, 10**6), REGIONS)
def test_more_of_anything_never_costs_less(
    sheet: PriceSheet, meters: dict[Meter, int], meter: Meter, more: int, region: str
) -> None:
    """Even over a cliff, as those are dearer here: all tokens move to the upper rate. (Amounts that differ from the
    rate have rows of their own and are the same above the cliff.)"""
    larger = meters | {meter: meters.get(meter, 0) + more}
    for amount in AMOUNTS:
        assert total(cost(sheet, meters, region), amount) <= total(cost(sheet, larger, region), amount)


@settings(deadline=None)
@given(sheets(), METERS, st.integers(0, 10**9))
def test_a_dearer_rate_never_costs_less(sheet: PriceSheet, meters: dict[Meter, int], more: int) -> None:
    for index, row in enumerate(sheet.rows):
        if row.meter not in meters:
            continue
        dearer = msgspec.structs.replace(row, rate_pico=row.rate_pico + more)
        rows = (*sheet.rows[:index], dearer, *sheet.rows[index + 1 :])
        other = cost(msgspec.structs.replace(sheet, rows=rows), meters)
        assert total(cost(sheet, meters), "effective_nusd") <= total(other, "effective_nusd")


@settings(deadline=None)
@given(sheets(), METERS, METERS, REGIONS)
def test_two_calls_cost_what_one_of_both_does_but_for_rounding(
    sheet: PriceSheet, first: dict[Meter, int], second: dict[Meter, int], region: str
) -> None:
    assume(not any(row.terms and row.terms.min_quantity and row.meter in first | second for row in sheet.rows))
    both = {meter: first.get(meter, 0) + second.get(meter, 0) for meter in {**first, **second}}
    for amount in AMOUNTS:
        apart = total(cost(sheet, first, region), amount) + total(cost(sheet, second, region), amount)
        lines = len(first) + len(second) + len(both)
        assert abs(apart - total(cost(sheet, both, region), amount)) * 2 <= lines, "half a nano-USD a line"


@settings(deadline=None)
@given(sheets(cliffs=True), METERS, st.integers(0, 100), st.integers(-50, 200))
def test_agreements_keep_the_list_and_order_the_amounts(
    sheet: PriceSheet, meters: dict[Meter, int], discount: int, margin: int
) -> None:
    plain = msgspec.structs.replace(sheet, rows=tuple(msgspec.structs.replace(row, terms=None) for row in sheet.rows))
    terms = Agreement("k", discount_pct=f"{discount}.5" if discount < 100 else "100", margin_pct=str(margin))
    after = cost(msgspec.structs.replace(plain, rows=agreed(plain.rows, [terms])), meters)
    before = cost(plain, meters)
    assert after.list_nusd == before.effective_nusd == before.list_nusd
    share = (100 - Fraction(terms.discount_pct)) / 100
    for line, listed in zip(after.lines, before.lines, strict=True):
        assert line.list_nusd == listed.list_nusd
        assert line.effective_nusd is not None
        assert listed.rate_pico is not None
        owed = Fraction(listed.rate_pico * line.quantity, listed.per * PICO_PER_NANO) * share
        assert line.effective_nusd == round(owed), "rounded once, half-even, from the list"
        assert line.billed_nusd == round(owed * (100 + margin) / 100)


@settings(deadline=None)
@given(sheets(cliffs=True), st.lists(st.tuples(METERS, REGIONS), max_size=6))
def test_what_is_remembered_costs_the_same(sheet: PriceSheet, calls: list[tuple[dict[Meter, int], str]]) -> None:
    prices = Prices()
    for meters, region in calls:
        used = Usage(meters, UsageSource.PROVIDER, region=region, reasoning_tokens=3)
        assert prices.charge(used, sheet, 5) == charge(used, sheet, 5)


def test_the_laws_are_tried_on_every_meter() -> None:
    assert set(IN_USAGES) >= INPUT_METERS
    assert len(IN_USAGES) == len(Meter) - 5
