"""Prices of the simulated provider: made up, labelled `demo`, and shaped like a real vendor's."""

from __future__ import annotations

from decimal import Decimal

from gateway.core.charge import PriceRow
from gateway.core.usage import Meter
from gateway.pricing.draft import Draft, exact_rate
from gateway.pricing.rows import STANDARD

KIND = "simulated"
SOURCE = "demo"

_WINDOW = 128_000
_LONGEST = 16_384
_TIERS = {STANDARD: Decimal(1), "flex": Decimal("0.5"), "priority": Decimal(2)}
_CHAT = {
    # USD per million tokens: input, cached input, output
    "sim-small": ("0.15", "0.075", "0.60"),
    "sim-large": ("2.50", "1.25", "10"),
    "sim-reasoning": ("1.25", "0.125", "10"),
}
_EMBED = {"sim-embed": "0.02"}


def names() -> list[str]:
    return [*_CHAT, *_EMBED]


def draft(model: str) -> Draft | None:
    """The prices of a simulated model; None: there is no such model, so it has no price either."""
    if model in _EMBED:
        return Draft((_row(Meter.INPUT, STANDARD, Decimal(_EMBED[model])),), context_window=8_192)
    prices = _CHAT.get(model)
    if prices is None:
        return None
    meters = (Meter.INPUT, Meter.CACHE_READ, Meter.OUTPUT)
    return Draft(
        rows=tuple(
            _row(meter, tier, Decimal(price) * factor)
            for tier, factor in _TIERS.items()
            for meter, price in zip(meters, prices, strict=True)
        ),
        context_window=_WINDOW,
        max_output_tokens=_LONGEST,
    )


def _row(meter: Meter, tier: str, usd_per_mtok: Decimal) -> PriceRow:
    rate_pico, per = exact_rate(usd_per_mtok, 1_000_000)
    return PriceRow(id="", meter=meter, rate_pico=rate_pico, per=per, tier=tier, source=SOURCE)
