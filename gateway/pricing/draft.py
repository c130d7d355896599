"""What a price source says of one model, before it becomes a sheet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from gateway.core.charge import PriceRow
from gateway.core.money import PICO_PER_NANO

PICO_PER_USD = 1_000_000_000 * PICO_PER_NANO
MAX_PER = 10**9


@dataclass(frozen=True, slots=True)
class Draft:
    """A source's rows, still without ids, and sizes of one model (0: not known). `unpriced` says why it has no rows
    although the source knows the model."""

    rows: tuple[PriceRow, ...] = ()
    context_window: int = 0
    max_output_tokens: int = 0
    unpriced: str = ""


def exact_rate(usd: Decimal, tokens: int) -> tuple[int, int]:
    """(pico-USD, per) of a price of `usd` for `tokens` tokens: integers, exact to nine digits below one pico-USD."""
    pico = usd * PICO_PER_USD / tokens
    per = 1
    while pico != pico.to_integral_value() and per < MAX_PER:
        pico *= 10
        per *= 10
    return int(pico.to_integral_value(ROUND_HALF_EVEN)), per


def identified(kind: str, model: str, row: PriceRow) -> PriceRow:
    """The row with an id made of its content, so that the same price has the same id whenever it is compiled.

    The id leaves out when a rate ends and which release of a source said so: neither changes what was charged.
    """
    source = row.source.partition(" ")[0]
    content = (kind, model, source, row.meter, row.tier, row.min_input, row.from_ms, row.rate_pico, row.per)
    digest = hashlib.sha256("\x1f".join(map(str, content)).encode()).hexdigest()
    return msgspec.structs.replace(row, id=f"pr_{digest[:16]}")
