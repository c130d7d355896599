"""Usage × rates = lines. Exact integers, one half-even rounding per line; a missing price is None, never 0."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.charge import Charge, CostState, Line, PinnedRate, PriceRow, PriceSheet
from gateway.core.money import line_nusd
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.rows import STANDARD, billed_tier, row_of, rows_for

FindRows = Callable[[PriceSheet, str, int, int], dict[str, PriceRow]]
"""`rows_for`, or one that remembers what it found."""


def charge(
    usage: Usage,
    sheet: PriceSheet | None,
    at_ms: int,
    requested_tier: str = "",
    *,
    tier_echoed: bool = True,
    find: FindRows | None = None,
) -> Charge:
    """What `usage` costs by the prices in effect at `at_ms`, ms UTC.

    The served tier decides, not the requested one (`billed_tier`); cliffs are decided on all input tokens, cached ones
    included. Unpriced (amounts None) are: a usage with a fault or from nowhere, a model without a sheet, a tier
    without rows, a meter without a row. List and effective amounts are the same until contracts exist.
    """
    if sheet is None or usage.fault or usage.source is UsageSource.NONE:
        return _unpriced(usage)
    tier = billed_tier(usage.served_tier, requested_tier, tier_echoed)
    chosen = (find or rows_for)(sheet, tier, usage.input_tokens(), at_ms)
    if not chosen:
        return _unpriced(usage)
    lines: list[Line] = []
    total: int | None = 0
    for meter, quantity in usage.meters.items():
        row = row_of(chosen, meter)
        line = _line(meter, quantity, row)
        lines.append(line)
        total = None if total is None or line.effective_nusd is None else total + line.effective_nusd
    if total is None:
        state = CostState.UNPRICED
    else:
        state = CostState.ESTIMATED if usage.source is UsageSource.ESTIMATED else CostState.PRICED
    return Charge(state=state, lines=tuple(lines), list_nusd=total, effective_nusd=total)


def pinned(sheet: PriceSheet, at_ms: int) -> tuple[PinnedRate, ...]:
    """The standard input and output rates in effect, for HOLD: they price an estimate after a crash."""
    chosen = rows_for(sheet, STANDARD, 0, at_ms)
    return tuple(
        [
            PinnedRate(row.id, row.meter, row.rate_pico, row.per)
            for row in (chosen.get(Meter.INPUT), chosen.get(Meter.OUTPUT))
            if row is not None
        ]
    )


def _line(meter: str, quantity: int, row: PriceRow | None) -> Line:
    if row is None or quantity < 0:
        return Line(meter, quantity, None, 1, None, None, "")
    nusd = line_nusd(row.rate_pico, quantity, row.per)
    return Line(meter, quantity, row.rate_pico, row.per, nusd, nusd, row.id)


def _unpriced(usage: Usage) -> Charge:
    lines = tuple(_line(meter, quantity, None) for meter, quantity in usage.meters.items())
    return Charge(state=CostState.UNPRICED, lines=lines, list_nusd=None, effective_nusd=None)
