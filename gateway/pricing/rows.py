"""Which price row is for a meter: by tier, prompt size, time and place. The one place that chooses."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

import msgspec

from gateway.core.charge import MILLION, PriceRow, PriceSheet, Terms
from gateway.core.usage import TOKEN_METERS, Meter
from gateway.pricing.week import is_within

STANDARD = "standard"

STANDARD_WORDS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "unspecified"})
"""What is billed at standard rates: the words for it, and `auto`, which is asked for but never served."""

NO_REGIONS = frozenset({"", "global", "not_available"})
"""Words for a place without an uplift. `not_available`: Anthropic's for models that are computed anywhere."""

FALLBACKS: dict[str, str] = {Meter.CACHE_READ: Meter.INPUT, Meter.CACHE_WRITE: Meter.INPUT}
"""A vendor without a price for these bills such tokens as plain input. The others have no fallback: audio, images and
hour-long cache writes cost several times as much as plain input, so a missing row means unpriced."""
_LONG_WRITES = frozenset({Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H})


def billed_tier(served: str, requested: str, echoed: bool) -> str:
    """The tier to bill: what the reply says was served. A reply that does not say means standard, except from a
    provider documented not to echo it (`echoed` False), where what was asked for counts."""
    tier = served or ("" if echoed else requested)
    return STANDARD if tier in STANDARD_WORDS else tier


def rows_for(
    sheet: PriceSheet, tier: str, input_tokens: int, at_ms: int, served_region: str = "", region: str = ""
) -> dict[str, PriceRow]:
    """The row of each meter at one tier for a prompt of `input_tokens` in all.

    A cliff row is for prompts strictly longer than its `min_input`; of several the highest counts, of those the ones
    for this hour, and of equal ones the one that came into effect last. `served_region` is what the reply says,
    `region` that of the deployment's address; their uplifts multiply. No rows at all where one is not in the sheet.
    """
    chosen: dict[str, PriceRow] = {}
    for row in sheet.rows:
        if (
            row.tier != tier
            or (row.min_input and row.min_input >= input_tokens)
            or row.from_ms > at_ms
            or (row.to_ms and row.to_ms <= at_ms)
            or (row.week and not is_within(row.week, at_ms))
        ):
            continue
        present = chosen.get(row.meter)
        if present is None or _precedes(present, row):
            chosen[row.meter] = row
    if served_region or region:
        factor = uplift_of(sheet, served_region, region)
        if factor is None:
            return {}
        if factor != (1, 1):
            return {meter: uplifted(row, *factor) for meter, row in chosen.items()}
    return chosen


def _precedes(present: PriceRow, row: PriceRow) -> bool:
    return (row.min_input, bool(row.week), row.from_ms) > (present.min_input, bool(present.week), present.from_ms)


def uplift_of(sheet: PriceSheet, served_region: str, region: str) -> tuple[int, int] | None:
    """The exact factor for where a call was computed, as a fraction; None: the sheet does not know that place."""
    top, bottom = 1, 1
    for word, by_reply in ((served_region, True), (region, False)):
        if word in NO_REGIONS:
            continue
        found = [uplift.ppm for uplift in sheet.uplifts if uplift.region == word and uplift.by_reply == by_reply]
        if not found:
            return None
        top, bottom = top * found[0], bottom * MILLION
    shared = gcd(top, bottom)
    return top // shared, bottom // shared


def uplifted(row: PriceRow, top: int, bottom: int) -> PriceRow:
    """A token row with its rates × top / bottom, exactly; a row of anything else as it is."""
    if row.meter not in TOKEN_METERS or top == bottom:
        return row
    factor = Fraction(top, bottom)
    terms = row.terms or Terms()
    listed, billed, native = [
        None if rate is None else Fraction(rate, row.per) * factor
        for rate in (terms.list_pico, terms.billed_pico, terms.native_pico)
    ]
    terms = msgspec.structs.replace(terms, uplift_ppm=MILLION * top // bottom)
    return with_rates(row, terms, Fraction(row.rate_pico, row.per) * factor, listed, billed, native)


def with_rates(
    row: PriceRow,
    terms: Terms,
    rate: Fraction,
    listed: Fraction | None = None,
    billed: Fraction | None = None,
    native: Fraction | None = None,
) -> PriceRow:
    """The row with other rates, in pico-USD for one unit: whole numbers per one `per` for all of them, exactly."""
    own, others = rate, (listed, billed, native)
    per = lcm(own.denominator, *[other.denominator for other in others if other is not None])
    list_pico, billed_pico, native_pico = [None if other is None else int(other * per) for other in others]
    terms = msgspec.structs.replace(terms, list_pico=list_pico, billed_pico=billed_pico, native_pico=native_pico)
    return msgspec.structs.replace(row, rate_pico=int(own * per), per=per, terms=terms)


def row_of(chosen: dict[str, PriceRow], meter: str) -> PriceRow | None:
    """The row of a meter, or of the meter it is billed as when it has none; None: unpriced."""
    row = chosen.get(meter)
    if row is not None:
        return row
    if meter in _LONG_WRITES and Meter.CACHE_WRITE not in chosen:
        return chosen.get(Meter.INPUT)
    fallback = FALLBACKS.get(meter)
    return None if fallback is None else chosen.get(fallback)
