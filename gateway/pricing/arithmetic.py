"""Usage × rates = lines. Exact integers, one half-even rounding per line; a missing price is None, never 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.core.charge import Charge, CostState, Line, PinnedRate, PriceRow, PriceSheet, Terms
from gateway.core.money import PICO_PER_NANO, line_nusd
from gateway.core.usage import Meter, Usage, UsageSource, prompt_tokens
from gateway.pricing.rows import STANDARD, STANDARD_WORDS, row_of, rows_for

Rows = dict[str, PriceRow]
"""The row of each meter, as chosen for one call."""
FindRows = Callable[[PriceSheet, str, Mapping[Meter, int], int, str, str], Rows]
"""`chosen_rows`, or one that remembers what it found."""
SheetOf = Callable[[str], PriceSheet | None]
"""The sheet of another model at the same kind of provider, by its name."""

_PRICED, _ESTIMATED, _UNPRICED = CostState.PRICED, CostState.ESTIMATED, CostState.UNPRICED
_FROM_CACHE, _FROM_NOWHERE, _GUESSED = UsageSource.CACHE, UsageSource.NONE, UsageSource.ESTIMATED
_FREE = Charge(CostState.PRICED, (), 0, 0)
_REQUEST, _REASONING, _OUTPUT = Meter.REQUEST, Meter.REASONING, Meter.OUTPUT
_SIZED_REQUESTS = {"low": Meter.REQUEST_LOW, "medium": Meter.REQUEST_MEDIUM, "high": Meter.REQUEST_HIGH}


def chosen_rows(
    sheet: PriceSheet, tier: str, meters: Mapping[Meter, int], at_ms: int, served_region: str, region: str
) -> Rows:
    """The rows of one tier in effect at `at_ms` for a prompt of these meters, in these regions (`rows_for`)."""
    return rows_for(sheet, tier, prompt_tokens(meters), at_ms, served_region, region)


def charge(
    usage: Usage,
    sheet: PriceSheet | None,
    at_ms: int,
    requested_tier: str = "",
    *,
    tier_echoed: bool = True,
    region: str = "",
    sheet_of: SheetOf | None = None,
    find: FindRows = chosen_rows,
) -> Charge:
    """What `usage` costs by the prices in effect at `at_ms`, ms UTC.

    The served tier decides, not the requested one; cliffs are decided on all input tokens, cached ones included, of
    each model run by itself. `region` is that of the deployment's address. `sheet_of` prices the runs of other models
    inside this reply. What our own cache answered costs nothing and has no lines (`savings`: what it would have cost).
    Unpriced (amounts None) are: a usage with a fault or from nowhere, a model without a sheet, a tier or region without
    rows, a meter without a row.
    """
    source = usage.source
    if source is _FROM_CACHE:
        return _FREE
    if sheet is None or usage.fault or source is _FROM_NOWHERE:
        return _unpriced(usage)
    tier = usage.served_tier or ("" if tier_echoed else requested_tier)
    if tier in STANDARD_WORDS:
        tier = STANDARD
    if usage.parts:
        lines, total, plain = _part_lines(usage, sheet, tier, at_ms, region, sheet_of, find)
    else:
        rows = find(sheet, tier, usage.meters, at_ms, usage.region, region)
        if not rows:
            return _unpriced(usage)
        if usage.reasoning_tokens or _REQUEST in rows:
            lines, total, plain = _more_lines(usage, rows)
        else:
            lines, total, plain = _lines(usage.meters, rows)
    if total is None:
        return Charge(_UNPRICED, tuple(lines), None, None)
    state = _ESTIMATED if source is _GUESSED else _PRICED
    return Charge(state, tuple(lines), total, total) if plain else _summed(state, lines, total)


def _lines(meters: Mapping[Meter, int], rows: Rows) -> tuple[list[Line], int | None, bool]:
    """The lines of one model run, the sum of their effective amounts, and whether all four amounts are the same."""
    lines: list[Line] = []
    total = 0
    known = plain = True
    for meter, quantity in meters.items():
        row = rows.get(meter) or row_of(rows, meter)
        if row is None or quantity < 0:
            lines.append(Line(meter, quantity, None, 1, None, None, ""))
            known = False
        elif row.terms is None:
            rate_pico, per = row.rate_pico, row.per
            scale = per * PICO_PER_NANO
            nusd, rest = divmod(quantity * rate_pico, scale)  # `line_nusd`, without its two calls
            rest *= 2
            if rest > scale or (rest == scale and nusd & 1):
                nusd += 1
            lines.append(Line(meter, quantity, rate_pico, per, nusd, nusd, row.id))
            total += nusd
        else:
            lines.append(_told(meter, quantity, row, row.terms))
            total += lines[-1].effective_nusd or 0
            plain = False
    return lines, total if known else None, plain


def _told(meter: str, quantity: int, row: PriceRow, terms: Terms) -> Line:
    """The line of a row with more than a rate: a list price, a margin, a least quantity, an uplift, a currency."""
    quantity = max(quantity, terms.min_quantity)
    effective = line_nusd(row.rate_pico, quantity, row.per)
    return Line(
        meter=meter,
        quantity=quantity,
        rate_pico=row.rate_pico,
        per=row.per,
        list_nusd=effective if terms.list_pico is None else line_nusd(terms.list_pico, quantity, row.per),
        effective_nusd=effective,
        row_id=row.id,
        own_billed_nusd=None if terms.billed_pico is None else line_nusd(terms.billed_pico, quantity, row.per),
        uplift_ppm=terms.uplift_ppm,
        currency=terms.currency,
        native_nano=None if terms.native_pico is None else line_nusd(terms.native_pico, quantity, row.per),
    )


def _more_lines(usage: Usage, rows: Rows) -> tuple[list[Line], int | None, bool]:
    """With the fee of the request, and reasoning by a rate of its own where it has one."""
    meters: Mapping[Meter, int] = usage.meters
    if usage.reasoning_tokens and _REASONING in rows:
        meters = _reasoning_apart(meters, usage.reasoning_tokens)
    lines, total, plain = _lines(meters, rows)
    if _REQUEST in rows:
        fee = _request_fee(usage, rows)
        lines.append(fee)
        total = None if total is None else total + (fee.effective_nusd or 0)
        plain = False
    return lines, total, plain


def _request_fee(usage: Usage, rows: Rows) -> Line:
    """What one request costs besides its tokens: by how much it searched, else the plain (dearest) fee."""
    row = rows.get(_SIZED_REQUESTS.get(usage.search_size, _REQUEST)) or rows[_REQUEST]
    return _told(row.meter, 1, row, row.terms or Terms())


def _reasoning_apart(meters: Mapping[Meter, int], reasoning_tokens: int) -> dict[Meter, int]:
    reasoning = min(reasoning_tokens, meters.get(_OUTPUT, 0))
    apart = {meter: n - reasoning if meter == _OUTPUT else n for meter, n in meters.items()}
    apart[_REASONING] = apart.get(_REASONING, 0) + reasoning
    return {meter: n for meter, n in apart.items() if n}


def _part_lines(
    usage: Usage, sheet: PriceSheet, tier: str, at_ms: int, region: str, sheet_of: SheetOf | None, find: FindRows
) -> tuple[list[Line], int | None, bool]:
    """The lines of every model run, each with the prices of its own model and for its own prompt."""
    lines: list[Line] = []
    total: int | None = 0
    for part in usage.parts:
        own = sheet if part.model in ("", sheet.model) else sheet_of(part.model) if sheet_of is not None else None
        rows = {} if own is None else find(own, tier, part.meters, at_ms, usage.region, region)
        found, cost, _ = _lines(part.meters, rows)
        lines.extend([_of_part(line, part.label) for line in found])
        total = None if total is None or cost is None else total + cost
    return lines, total, False


def _of_part(line: Line, label: str) -> Line:
    return Line(
        line.meter,
        line.quantity,
        line.rate_pico,
        line.per,
        line.list_nusd,
        line.effective_nusd,
        line.row_id,
        line.own_billed_nusd,
        line.uplift_ppm,
        label,
        line.currency,
        line.native_nano,
    )


def _summed(state: CostState, lines: list[Line], total: int) -> Charge:
    billed = sum([line.billed_nusd or 0 for line in lines])
    listed = sum([line.list_nusd or 0 for line in lines])
    return Charge(state, tuple(lines), listed, total, None if billed == total else billed)


def pinned(sheet: PriceSheet, at_ms: int, region: str = "") -> tuple[PinnedRate, ...]:
    """The standard input and output rates in effect, for HOLD: they price an estimate after a crash."""
    chosen = rows_for(sheet, STANDARD, 0, at_ms, "", region)
    return tuple([_pin(row) for row in (chosen.get(Meter.INPUT), chosen.get(Meter.OUTPUT)) if row is not None])


def _pin(row: PriceRow) -> PinnedRate:
    if row.terms is None:
        return PinnedRate(row.id, row.meter, row.rate_pico, row.per)
    return PinnedRate(row.id, row.meter, row.rate_pico, row.per, row.terms.list_pico, row.terms.billed_pico)


def _unpriced(usage: Usage) -> Charge:
    lines = tuple([Line(meter, quantity, None, 1, None, None, "") for meter, quantity in usage.meters.items()])
    return Charge(state=CostState.UNPRICED, lines=lines, list_nusd=None, effective_nusd=None)
