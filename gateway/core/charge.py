"""Prices as rows, and a charge as lines. All amounts are integer nano-USD, rates integer pico-USD per `per` units."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PriceRow(msgspec.Struct, frozen=True, array_like=True):
    """One rate of one meter under its conditions. Immutable; effective on [from_ms, to_ms), to_ms 0 = open.

    `tier` is the served service tier it is for (`standard`, `flex`, `priority`, `batch`). `min_input` is the prompt
    size above which (strictly) it applies: a cliff on the total prompt, not a marginal band. `source` says where it
    comes from (`genai-prices 0.2.3`, `litellm-map …`, `file:policies/prices.yaml`, `demo`).
    """

    id: str
    meter: str
    rate_pico: int
    per: int = 1
    tier: str = "standard"
    min_input: int = 0
    from_ms: int = 0
    to_ms: int = 0
    source: str = ""


class PriceSheet(msgspec.Struct, frozen=True, array_like=True):
    """All rows of one model at one kind of provider, and the sizes that bound a call. 0 = not known."""

    model: str
    rows: tuple[PriceRow, ...]
    context_window: int = 0
    max_output_tokens: int = 0


class PinnedRate(msgspec.Struct, frozen=True, array_like=True):
    """A rate as fixed at reserve and written into HOLD, so a crash can be priced without the price book."""

    row_id: str
    meter: str
    rate_pico: int
    per: int


class CostState(StrEnum):
    PRICED = "priced"
    UNPRICED = "unpriced"
    ESTIMATED = "estimated"


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One meter of one attempt: quantity × rate, rounded once. Unpriced lines have rate and amounts None."""

    meter: str
    quantity: int
    rate_pico: int | None
    per: int
    list_nusd: int | None
    effective_nusd: int | None
    row_id: str


class Charge(msgspec.Struct, frozen=True):
    """Priced usage. Totals are the sums of the lines; None when any line is unpriced (never 0)."""

    state: CostState
    lines: tuple[Line, ...]
    list_nusd: int | None
    effective_nusd: int | None
