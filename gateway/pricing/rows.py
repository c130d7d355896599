"""Which price row is for a meter: by tier, prompt size and time. The one place that chooses."""

from __future__ import annotations

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.usage import Meter

STANDARD = "standard"

_STANDARD_WORDS = frozenset({"", "auto", "default", "standard", "standard_only"})
"""What is billed at standard rates: the words for it, and `auto`, which is asked for but never served."""

FALLBACKS: dict[str, str] = {Meter.CACHE_READ: Meter.INPUT, Meter.CACHE_WRITE: Meter.INPUT}
"""A vendor without a price for these bills such tokens as plain input. The others have no fallback: audio, images and
hour-long cache writes cost several times as much as plain input, so a missing row means unpriced."""


def billed_tier(served: str, requested: str, echoed: bool) -> str:
    """The tier to bill: what the reply says was served. A reply that does not say means standard, except from a
    provider documented not to echo it (`echoed` False), where what was asked for counts."""
    tier = served or ("" if echoed else requested)
    return STANDARD if tier in _STANDARD_WORDS else tier


def rows_for(sheet: PriceSheet, tier: str, input_tokens: int, at_ms: int) -> dict[str, PriceRow]:
    """The row of each meter at one tier for a prompt of `input_tokens` in all.

    A cliff row is for prompts strictly longer than its `min_input`; of several the highest counts, and of equal ones
    the one that came into effect last.
    """
    chosen: dict[str, PriceRow] = {}
    for row in sheet.rows:
        if (
            row.tier != tier
            or (row.min_input and row.min_input >= input_tokens)
            or row.from_ms > at_ms
            or (row.to_ms and row.to_ms <= at_ms)
        ):
            continue
        present = chosen.get(row.meter)
        if present is None or (row.min_input, row.from_ms) > (present.min_input, present.from_ms):
            chosen[row.meter] = row
    return chosen


def row_of(chosen: dict[str, PriceRow], meter: str) -> PriceRow | None:
    """The row of a meter, or of the meter it is billed as when it has none; None: unpriced."""
    row = chosen.get(meter)
    if row is not None:
        return row
    if meter == Meter.CACHE_WRITE_1H and Meter.CACHE_WRITE not in chosen:
        return chosen.get(Meter.INPUT)
    fallback = FALLBACKS.get(meter)
    return None if fallback is None else chosen.get(fallback)
