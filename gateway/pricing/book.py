"""The price book: sheets compiled from overrides, genai-prices, and the gaps from a vendored litellm map.

For the desk only: workers get compiled sheets and import none of this. Sources in order:

1. an override's rates replace, per tier and meter, what the sources say from the override's own start on;
2. genai-prices, with its history;
3. the litellm map: models, tiers and meters genai-prices does not have, and sizes. Of a model that both know it is
   believed only where the two agree on what plain input and output cost today.

Kinds on one's own hardware have explicit rows of 0 for whatever model, source `local`: free is not unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.usage import Meter
from gateway.pricing import demo
from gateway.pricing.draft import Draft, identified
from gateway.pricing.genai import GenaiPrices
from gateway.pricing.litellm_map import LitellmMap
from gateway.pricing.rows import STANDARD

_NOTHING = Draft()


class Override(msgspec.Struct, frozen=True):
    """Rows of one model at one kind of provider that replace the sources'. A row without an id is given one.

    A local model is free by an override of rate 0; without rows it is unpriced.
    """

    kind: str
    model: str
    rows: tuple[PriceRow, ...]
    context_window: int = 0
    max_output_tokens: int = 0


class Vendor(msgspec.Struct, frozen=True):
    """Where a kind of provider's prices are: its id in genai-prices and in the litellm map. `fee_prefixes` are models
    that bill a fee for each call which no usage reports: they stay unpriced rather than too cheap."""

    genai: str
    litellm: str
    fee_prefixes: tuple[str, ...] = ()


VENDORS: dict[str, Vendor] = {
    "openai": Vendor("openai", "openai", ("gpt-4o-search-preview", "gpt-4o-mini-search-preview", "gpt-5-search-api")),
    "anthropic": Vendor("anthropic", "anthropic"),
    "gemini": Vendor("google", "gemini"),
    "mistral": Vendor("mistral", "mistral"),
    "groq": Vendor("groq", "groq"),
    "deepseek": Vendor("deepseek", "deepseek"),
    "xai": Vendor("x-ai", "xai"),
    "together": Vendor("together", "together_ai"),
    "fireworks": Vendor("fireworks", "fireworks_ai"),
    "openrouter": Vendor("openrouter", "openrouter"),
    "cerebras": Vendor("cerebras", "cerebras"),
    "perplexity": Vendor("perplexity", "perplexity"),
    "azure_openai": Vendor("azure", "azure"),
}

FREE_KINDS = frozenset({"llama_cpp", "lm_studio", "nim", "ollama", "sglang", "tgi", "vllm"})
"""Servers on one's own hardware: a call costs nothing."""
LOCAL = "local"
EVERY_MODEL = "*"
"""The name under which a free kind's prices stand for models that only a wildcard names."""
_FREE_TIERS = (STANDARD, "flex", "priority", "fast", "scale", "batch")
_FREE = Draft(
    tuple(PriceRow("", meter, 0, tier=tier, source=LOCAL) for tier in _FREE_TIERS for meter in Meter),
)
_ROUTER, _ROUTED = "huggingface", "huggingface_"
_PROXIES = frozenset({"litellm", "annex"})
"""Kinds whose models are named as litellm routes them: `vendor/model`."""
_UNPRICED = {
    "hf_endpoint": Draft(unpriced="it is billed by the hour, not by calls"),
    "nvidia": Draft(unpriced="it is sold by contract, not at a published price"),
    _ROUTER: Draft(unpriced="no price source knows it at that provider; name one as in openai/gpt-oss-120b:groq"),
    "litellm": Draft(unpriced="the proxy's own name for it has no price; give it priced_as: openai/… or the like"),
}


class PriceBook:
    """Sheets by kind and model. Sources are loaded when first needed and kept."""

    def __init__(self, overrides: Iterable[Override] = (), since_ms: int = 0) -> None:
        """`since_ms`: rows that ended before it are left out, as a worker never prices the past."""
        self._overrides = {(override.kind, override.model): override for override in overrides}
        self._since_ms = since_ms
        self._genai = GenaiPrices()
        self._litellm = LitellmMap()

    def names(self, kind: str) -> list[str]:
        """Every model of a kind that a source spells out."""
        own = {model for of_kind, model in self._overrides if of_kind == kind}
        if kind == demo.KIND:
            return sorted(own.union(demo.names()))
        if kind in FREE_KINDS:
            return sorted(own.union((EVERY_MODEL,)))
        if kind == _ROUTER:
            routed = [
                (name, id_.removeprefix(_ROUTED)) for id_ in self._genai.ids(_ROUTED) for name in self._genai.names(id_)
            ]
            return sorted(own.union(f"{name}:{provider}" for name, provider in routed))
        vendor = VENDORS.get(kind)
        if vendor is None:
            return sorted(own)
        return sorted(own.union(self._genai.names(vendor.genai), self._litellm.names(vendor.litellm)))

    def sheets_for(self, kind: str, models: Iterable[str] | None = None) -> dict[str, PriceSheet]:
        """Sheets by model name, for the models named or (None) for all of the kind. Models without a price are
        missing: `why_unpriced` tells why."""
        names = self.names(kind) if models is None else models
        return {name: sheet for name in names if (sheet := self.sheet(kind, name)) is not None}

    def sheet(self, kind: str, model: str) -> PriceSheet | None:
        """The prices of one model, or None when it has none."""
        override = self._overrides.get((kind, model))
        draft = self._draft(kind, model)
        rows = draft.rows
        if override is not None:
            rows = _overridden(rows, override.rows)
        rows = (*rows, *_image_rows(rows))
        if self._since_ms:
            rows = tuple(row for row in rows if row.to_ms == 0 or row.to_ms > self._since_ms)
        if not rows:
            return None
        return PriceSheet(
            model=model,
            rows=tuple(sorted((row if row.id else identified(kind, model, row) for row in rows), key=_order)),
            context_window=(override.context_window if override else 0) or draft.context_window,
            max_output_tokens=(override.max_output_tokens if override else 0) or draft.max_output_tokens,
        )

    def why_unpriced(self, kind: str, model: str) -> str:
        """Why a model has no sheet: ends the sentence "it has no price: …". Empty when it has one."""
        if self.sheet(kind, model) is not None:
            return ""
        return self._draft(kind, model).unpriced or "no price source knows it"

    def _draft(self, kind: str, model: str) -> Draft:
        """What the sources together say of a model, without overrides."""
        if kind == demo.KIND:
            return demo.draft(model) or _NOTHING
        if kind in FREE_KINDS:
            return _FREE
        vendor, name = _vendor(kind, model)
        found = self._proxied(kind, model) if vendor is None else self._vendor_draft(vendor, name)
        return found if found.rows or found.unpriced else _UNPRICED.get(kind, found)

    def _proxied(self, kind: str, model: str) -> Draft:
        second = self._litellm.routed(model) if kind in _PROXIES and "/" in model else None
        if second is None:
            return _NOTHING
        return Draft(
            _completed(second.rows, second.rows), second.context_window, second.max_output_tokens, second.unpriced
        )

    def _vendor_draft(self, vendor: Vendor, model: str) -> Draft:
        if vendor.fee_prefixes and model.startswith(vendor.fee_prefixes):
            return Draft(unpriced="each call bills a search fee that its usage does not report")
        first = self._genai.draft(vendor.genai, model)
        second = self._litellm.draft(vendor.litellm, model) or _NOTHING
        if first is None:
            return Draft(
                _completed(second.rows, second.rows), second.context_window, second.max_output_tokens, second.unpriced
            )
        return Draft(
            rows=(*first.rows, *_gaps(first.rows, second.rows)),
            context_window=max(first.context_window, second.context_window),
            max_output_tokens=second.max_output_tokens,
            unpriced=first.unpriced,
        )


def sheets_for(
    kind: str, models: Iterable[str] | None = None, overrides: Iterable[Override] = ()
) -> dict[str, PriceSheet]:
    """`PriceBook(overrides).sheets_for(kind, models)`, for a single question."""
    return PriceBook(overrides).sheets_for(kind, models)


def _vendor(kind: str, model: str) -> tuple[Vendor | None, str]:
    """Whose prices a model has, and its name there. A router's model says it at the end (`model:groq`), a proxy's at
    the beginning (`openai/model`, in litellm's names of vendors)."""
    if kind == _ROUTER:
        name, _, provider = model.rpartition(":")
        return (Vendor(_ROUTED + provider, "") if name else None), name
    if kind in _PROXIES:
        prefix, _, name = model.partition("/")
        return next((vendor for vendor in VENDORS.values() if name and vendor.litellm == prefix), None), name
    return VENDORS.get(kind), model


def _order(row: PriceRow) -> tuple[bool, str, str, int, int]:
    return row.tier != STANDARD, row.tier, row.meter, row.min_input, row.from_ms


def _group(row: PriceRow) -> tuple[str, str]:
    return row.tier, row.meter


def _gaps(first: Sequence[PriceRow], second: Sequence[PriceRow]) -> tuple[PriceRow, ...]:
    """What the second source adds to a model both know: the meters and tiers that the first does not have.

    Nothing where they disagree on the present price of plain tokens: then they speak of different things. A tier is
    taken only with its input and output rates.
    """
    if not first or _plain(first) != _plain(second):
        return ()
    present = {_group(row) for row in first}
    tiers = {tier for tier, _ in present}
    needed = {Meter.INPUT} | ({Meter.OUTPUT} if (STANDARD, Meter.OUTPUT) in present else set())
    offered = {tier: {row.meter for row in second if row.tier == tier} for tier in {row.tier for row in second}}
    taken = tuple(
        row for row in second if _group(row) not in present and (row.tier in tiers or needed <= offered[row.tier])
    )
    return _completed(taken, (*first, *(row for row in taken if row.tier == STANDARD)), skip=tiers)


def _plain(rows: Sequence[PriceRow]) -> set[tuple[str, int, int]]:
    """The present standard rates of plain input and output below any cliff."""
    return {
        (row.meter, row.rate_pico, row.per)
        for row in rows
        if row.tier == STANDARD and not row.min_input and not row.to_ms and row.meter in (Meter.INPUT, Meter.OUTPUT)
    }


def _completed(
    rows: Sequence[PriceRow], standard: Sequence[PriceRow], skip: Iterable[str] = ()
) -> tuple[PriceRow, ...]:
    """The rows, with each tier given the standard rates of the meters it does not name: that is how vendors bill them
    (OpenAI's batch table has no cached rate, and cached input costs there what it costs elsewhere)."""
    tiers = {row.tier for row in rows} - {STANDARD, *skip}
    present = {_group(row) for row in rows}
    return (
        *rows,
        *(
            msgspec.structs.replace(row, tier=tier)
            for tier in sorted(tiers)
            for row in standard
            if row.tier == STANDARD and (tier, row.meter) not in present
        ),
    )


def _overridden(rows: Sequence[PriceRow], own: Sequence[PriceRow]) -> tuple[PriceRow, ...]:
    """The rows up to where an override of the same tier and meter begins, then the override's."""
    starts: dict[tuple[str, str], int] = {}
    for row in own:
        starts[_group(row)] = min(row.from_ms, starts.get(_group(row), row.from_ms))
    kept: list[PriceRow] = []
    for row in rows:
        start = starts.get(_group(row))
        if start is None:
            kept.append(row)
        elif row.from_ms < start:
            kept.append(row if 0 < row.to_ms <= start else msgspec.structs.replace(row, to_ms=start))
    return (*kept, *own)


def _image_rows(rows: Sequence[PriceRow]) -> tuple[PriceRow, ...]:
    """Image tokens at the price of plain input, for a model whose vendor gives them no price of their own: explicit
    rows, because a meter without a row is unpriced."""
    meters = {row.meter for row in rows}
    if Meter.INPUT_IMAGE in meters or Meter.OUTPUT not in meters:
        return ()
    return tuple(
        msgspec.structs.replace(row, id="", meter=Meter.INPUT_IMAGE) for row in rows if row.meter == Meter.INPUT
    )
