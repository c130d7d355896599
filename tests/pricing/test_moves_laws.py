"""Whatever the rows: where no move wants a yes, no call that had a price costs more than a quarter more or less, nor is
charged so inside, now or later."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.charge import PriceRow, PriceSheet, Terms
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge
from gateway.pricing.draft import identified
from gateway.pricing.moves import moves

NOW = 1_795_392_000_000
HOUR = 3_600_000
METERS = (
    Meter.INPUT, Meter.OUTPUT, Meter.CACHE_READ, Meter.CACHE_WRITE, Meter.CACHE_WRITE_1H, Meter.REASONING,
    Meter.REQUEST, Meter.REQUEST_LOW,
)  # fmt: skip
MOMENTS = st.sampled_from([0, NOW - HOUR, NOW + HOUR, NOW + 30 * HOUR, NOW + 400 * HOUR])
RATES = st.sampled_from([0, 100_000, 110_000, 120_000, 200_000])


@st.composite
def rows(draw: st.DrawFn) -> PriceRow:
    meter = draw(st.sampled_from(METERS))
    scale = 10**9 if meter.startswith("request") else 1  # a fee weighs as much as many tokens
    billed, least = draw(st.sampled_from([None, None, 110_000, 900_000])), draw(st.sampled_from([0, 0, 5]))
    billed = None if billed is None else billed * scale
    row = PriceRow(
        "",
        meter,
        draw(RATES) * scale,
        tier=draw(st.sampled_from(["standard", "flex"])),
        min_input=draw(st.sampled_from([0, 0, 50])),
        from_ms=draw(MOMENTS),
        week=draw(st.sampled_from([(), (), ((60, 600),)])),
        terms=None if billed is None and not least else Terms(billed_pico=billed, min_quantity=least),
    )
    return identified("k", "m", row)


@st.composite
def alike(draw: st.DrawFn, row: PriceRow) -> PriceRow:
    """A row near another: what a person writes who changes a price."""
    other = draw(rows().filter(lambda one: one.meter.startswith("request") == row.meter.startswith("request")))
    rate = draw(st.sampled_from([row.rate_pico, row.rate_pico * 11 // 10, other.rate_pico]))
    terms = draw(st.sampled_from([row.terms, other.terms]))
    return identified("k", "m", msgspec.structs.replace(row, rate_pico=rate, from_ms=draw(MOMENTS), terms=terms))


SHEETS = st.lists(rows(), min_size=1, max_size=7).map(lambda found: PriceSheet("m", tuple(found)))
QUANTITIES = st.dictionaries(st.sampled_from(METERS[:5]), st.sampled_from([1, 3, 60_000, 1_000_000]), min_size=1)


@given(SHEETS, st.lists(rows(), max_size=2), st.integers(0, 6), QUANTITIES, st.booleans(), st.data())
@settings(max_examples=1500, deadline=None)
def test_what_wants_no_yes_moves_no_call_far(
    before: PriceSheet, added: list[PriceRow], kept: int, meters: dict[Meter, int], thinks: bool, data: st.DataObject
) -> None:
    changed = [data.draw(alike(data.draw(st.sampled_from(before.rows)))) for _ in range(data.draw(st.integers(0, 2)))]
    after = PriceSheet("m", (*before.rows[: kept or None], *added, *changed))
    if any(move.wants_confirmation for move in moves(before, after, NOW)):
        return
    at_ms = NOW + data.draw(st.integers(0, 500)) * HOUR
    usage = Usage(
        source=UsageSource.PROVIDER,
        meters=meters,
        reasoning_tokens=meters.get(Meter.OUTPUT, 0) if thinks else 0,
        served_tier=data.draw(st.sampled_from(["", "flex"])),
        search_size=data.draw(st.sampled_from(["", "low"])),
    )
    old, new = charge(usage, before, at_ms), charge(usage, after, at_ms)
    if old.effective_nusd is None or old.billed_nusd is None:
        return
    assert new.effective_nusd is not None
    assert new.billed_nusd is not None
    rounding = len(old.lines) + len(new.lines)
    assert abs(new.effective_nusd - old.effective_nusd) * 4 <= old.effective_nusd + 4 * rounding
    assert abs(new.billed_nusd - old.billed_nusd) * 4 <= old.billed_nusd + 4 * rounding
