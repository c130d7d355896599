"""Prices as rows, and a charge as lines. All amounts are integer nano-USD, rates integer pico-USD per `per` units.

Four amounts, in FOCUS' words. *List*: the vendor's public price. *Contracted*: after what was negotiated with it.
*Effective*: what is owed; the same as contracted until prepaid capacity is spread over its use. *Billed*: what the
organisation is charged inside, its margin included. Each is rounded once, from exact rates, never from another amount.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

MILLION = 1_000_000
"""A factor in parts per million: 1.1 is 1 100 000."""


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What there is to a row besides its rate, where there is more. All rates per the row's `per`.

    `list_pico` and `billed_pico` are the rates of the list and with the margin (None: the row's own). `min_quantity`:
    less than this is billed as this. A row agreed in another `currency` keeps its rate there (`native_pico`) and the
    exact rate of exchange, USD for one (`fx`). `uplift_ppm`, only on rows chosen for a call: the factor for where it is
    computed, which the rates already hold (0: none).
    """

    list_pico: int | None = None
    billed_pico: int | None = None
    min_quantity: int = 0
    currency: str = ""
    native_pico: int | None = None
    fx: str = ""
    uplift_ppm: int = 0


class PriceRow(msgspec.Struct, frozen=True, array_like=True):
    """One rate of one meter under its conditions. Immutable; effective on [from_ms, to_ms), to_ms 0 = open.

    `rate_pico` is the contracted rate, what is owed; it is the list's too unless `terms` say otherwise. `tier` is the
    served service tier it is for (`standard`, `flex`, `priority`, `fast`, `batch`). `min_input` is the prompt size
    above which (strictly) it applies: a cliff on the total prompt, not a marginal band. `source` says where it comes
    from (`genai-prices 0.2.3`, `litellm-map …`, `file:policies/prices.yaml`, `demo`). `week` are the times it is for,
    [from, to) in minutes since Monday 00:00 UTC (empty: always).
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
    week: tuple[tuple[int, int], ...] = ()
    terms: Terms | None = None


class Uplift(msgspec.Struct, frozen=True, array_like=True):
    """A factor on every token rate for where a call is computed: 1 100 000 ppm is 10 % more.

    `region` is the word for it: the reply's (`us` in Anthropic's `inference_geo`) where `by_reply`, else that of the
    address a deployment calls (`eu`). One that the reply tells may come unasked, by a setting at the provider.
    """

    region: str
    ppm: int
    by_reply: bool = False


class PriceSheet(msgspec.Struct, frozen=True, array_like=True):
    """All rows of one model at one kind of provider, and the sizes that bound a call. 0 = not known.

    `output_beyond`: tokens that may be billed as output besides what the caller's limit allows (reasoning outside of
    it). `unbounded` says why no request to this model has a bound (empty: it has one).
    """

    model: str
    rows: tuple[PriceRow, ...]
    context_window: int = 0
    max_output_tokens: int = 0
    uplifts: tuple[Uplift, ...] = ()
    output_beyond: int = 0
    unbounded: str = ""


class PinnedRate(msgspec.Struct, frozen=True, array_like=True):
    """A rate as fixed at reserve and written into HOLD, so a crash can be priced without the price book.

    `list_pico` and `billed_pico` as in a row: None is the same rate."""

    row_id: str
    meter: str
    rate_pico: int
    per: int
    list_pico: int | None = None
    billed_pico: int | None = None


class CostState(StrEnum):
    PRICED = "priced"
    UNPRICED = "unpriced"
    ESTIMATED = "estimated"


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One meter of one attempt: quantity × rate, rounded once. Unpriced lines have rate and amounts None.

    `rate_pico` per `per` is what the effective amount was computed with: contracted, `uplift_ppm` (0: none) included.
    `part` names the model run it belongs to, where a reply had several. `native_nano` is the effective amount in the
    row's own `currency`, where that is not USD.
    """

    meter: str
    quantity: int
    rate_pico: int | None
    per: int
    list_nusd: int | None
    effective_nusd: int | None
    row_id: str
    own_billed_nusd: int | None = None
    """None: the same as effective. Read `billed_nusd`."""
    uplift_ppm: int = 0
    part: str = ""
    currency: str = ""
    native_nano: int | None = None

    @property
    def contracted_nusd(self) -> int | None:
        return self.effective_nusd

    @property
    def billed_nusd(self) -> int | None:
        return self.effective_nusd if self.own_billed_nusd is None else self.own_billed_nusd


class Charge(msgspec.Struct, frozen=True):
    """Priced usage. Totals are the sums of the lines; None when any line is unpriced (never 0)."""

    state: CostState
    lines: tuple[Line, ...]
    list_nusd: int | None
    effective_nusd: int | None
    own_billed_nusd: int | None = None
    """None: the same as effective. Read `billed_nusd`."""

    @property
    def contracted_nusd(self) -> int | None:
        return self.effective_nusd

    @property
    def billed_nusd(self) -> int | None:
        return self.effective_nusd if self.own_billed_nusd is None else self.own_billed_nusd
