"""What a price source says of one model, before it becomes a sheet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from gateway.core.charge import PriceRow, Uplift
from gateway.core.money import PICO_PER_NANO

PICO_PER_USD = 1_000_000_000 * PICO_PER_NANO
MAX_PER = 10**9
MOST_RATE_PICO = 10**18
"""A million USD: no rate is higher, and each fits into 64 bits."""
MOST_PLACES = 30
"""Digits before or behind the decimal point of a price that is read at all."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A source's rows, still without ids, and sizes of one model (0: not known). `unpriced` says why it has no rows
    although the source knows the model; `unbounded` why no request to it has a bound. `hourly`: its rows know the hour.
    `reasons`: it thinks before it answers."""

    rows: tuple[PriceRow, ...] = ()
    context_window: int = 0
    max_output_tokens: int = 0
    unpriced: str = ""
    uplifts: tuple[Uplift, ...] = ()
    unbounded: str = ""
    hourly: bool = False
    reasons: bool = False


def exact_rate(usd: Decimal, units: int) -> tuple[int, int]:
    """(pico-USD, per) of a price of `usd` for `units` units: integers, exact to nine digits below one pico-USD.

    A price that is not exact for one unit (0.1 USD an hour, in seconds) keeps the units it was published for. Raises
    ValueError for what is no price of this world: 1e999999 would fill the memory with digits.
    """
    if not usd.is_finite() or (usd and abs(usd.adjusted()) > MOST_PLACES):
        raise ValueError(f"{str(usd)[:40]} is no price in USD")
    rate = _scaled(usd * PICO_PER_USD / units, 1)
    if rate is None:
        rate = _scaled(usd * PICO_PER_USD, units)
    if rate is None:
        pico = usd * PICO_PER_USD * MAX_PER / units
        return int(pico.to_integral_value(ROUND_HALF_EVEN)), MAX_PER
    return rate


def _scaled(pico: Decimal, per: int) -> tuple[int, int] | None:
    factor = 1
    while pico != pico.to_integral_value():
        if factor == MAX_PER:
            return None
        pico, factor = pico * 10, factor * 10
    return int(pico), per * factor


def identified(kind: str, model: str, row: PriceRow) -> PriceRow:
    """The row with an id made of its content, so that the same price has the same id whenever it is compiled.

    The id leaves out when a rate ends and which release of a source said so: neither changes what was charged. What is
    agreed besides the rate is in it, and so are the hours, where there are any.
    """
    source = row.source.partition(" ")[0]
    content: tuple[object, ...] = (
        kind, model, source, row.meter, row.tier, row.min_input, row.from_ms, row.rate_pico, row.per,
    )  # fmt: skip
    if row.week or row.terms is not None:
        content = (*content, row.week, row.terms)
    digest = hashlib.sha256("\x1f".join(map(str, content)).encode()).hexdigest()
    return msgspec.structs.replace(row, id=f"pr_{digest[:16]}")
