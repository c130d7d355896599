"""Prices of the installed genai-prices package, or of a newer data file of it, as drafts.

Imported by the desk only: it costs 0.3 s and 60 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property

import msgspec
from genai_prices import types as genai
from genai_prices.data import providers as all_providers

from gateway.core.charge import PriceRow
from gateway.core.usage import Meter
from gateway.pricing.draft import Draft, exact_rate
from gateway.pricing.genai_data import BUNDLED_NAME, providers_of
from gateway.pricing.rows import STANDARD

_TOKENS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_METERS: dict[str, tuple[Meter, int]] = {
    "input_mtok": (Meter.INPUT, _TOKENS),
    "cache_read_mtok": (Meter.CACHE_READ, _TOKENS),
    "cache_write_mtok": (Meter.CACHE_WRITE, _TOKENS),
    "cache_write_1h_mtok": (Meter.CACHE_WRITE_1H, _TOKENS),
    "input_audio_mtok": (Meter.INPUT_AUDIO, _TOKENS),
    "cache_audio_read_mtok": (Meter.CACHE_READ_AUDIO, _TOKENS),
    "input_image_mtok": (Meter.INPUT_IMAGE, _TOKENS),
    "cache_image_read_mtok": (Meter.CACHE_READ_IMAGE, _TOKENS),
    "input_video_mtok": (Meter.INPUT_VIDEO, _TOKENS),
    "cache_video_read_mtok": (Meter.CACHE_READ_VIDEO, _TOKENS),
    "output_mtok": (Meter.OUTPUT, _TOKENS),
    "output_audio_mtok": (Meter.OUTPUT_AUDIO, _TOKENS),
    "output_image_mtok": (Meter.OUTPUT_IMAGE, _TOKENS),
    "output_video_mtok": (Meter.OUTPUT_VIDEO, _TOKENS),
    "output_reasoning_mtok": (Meter.REASONING, _TOKENS),
    "output_citation_mtok": (Meter.CITATION, _TOKENS),
    "input_mchars": (Meter.CHARACTERS, 1_000_000),
    "audio_hours": (Meter.AUDIO_SECONDS, 3600),
    "input_audio_hours": (Meter.AUDIO_SECONDS, 3600),
    "input_document_kpages": (Meter.PAGES, 1000),
    "input_annotated_document_kpages": (Meter.ANNOTATED_PAGES, 1000),
    "rerank_searches_kcount": (Meter.SEARCH_UNITS, 1000),
    "web_searches_kcount": (Meter.WEB_SEARCH, 1000),
    "social_searches_kcount": (Meter.X_SEARCH, 1000),
    "storage_searches_kcount": (Meter.FILE_SEARCH, 1000),
    "code_executions_kcount": (Meter.CODE_EXECUTION, 1000),
    "requests_kcount": (Meter.REQUEST, 1000),
}
"""What a price is of, and for how many of it."""

_TIERS: dict[str, tuple[dict[str, str], ...]] = {
    STANDARD: ({},),
    "flex": ({"service_tier": "flex"},),
    "priority": ({"service_tier": "priority"},),
    "fast": ({"service_tier": "fast"}, {"speed": "fast"}),
    "batch": ({"processing": "batch"},),
}


class GenaiPrices:
    """Drafts by genai-prices provider and model name."""

    def __init__(self, content: bytes = b"", name: str = BUNDLED_NAME) -> None:
        """`content`: a data file of genai-prices; empty: the installed package's own."""
        self.source = name
        self._content = content

    @cached_property
    def _providers(self) -> dict[str, genai.Provider]:
        found = providers_of(self._content) if self._content else all_providers
        return {provider.id: provider for provider in found}

    def ids(self, prefix: str) -> list[str]:
        """The ids of all providers that begin with `prefix`: a router has one for each provider behind it."""
        return sorted(name for name in self._providers if name.startswith(prefix))

    def names(self, provider_id: str) -> list[str]:
        """Every model name the provider's data spells out; names matched only by a pattern are not among them."""
        provider = self._providers.get(provider_id)
        models = provider.models if provider is not None else []
        return sorted({name for model in models for name in (model.id, *_equals(model.match))})

    def draft(self, provider_id: str, model: str) -> Draft | None:
        """What is known of a model, matched as genai-prices matches; None: not known. Rates come from the provider
        itself, never from one it resells."""
        provider = self._providers.get(provider_id)
        info = provider.find_model(model) if provider is not None else None
        return None if info is None else _draft(info, self.source)


def _equals(match: genai.MatchLogic) -> Iterator[str]:
    if isinstance(match, genai.ClauseEquals):
        yield match.equals
    elif isinstance(match, genai.ClauseOr):
        for clause in match.or_:
            yield from _equals(clause)


def _draft(info: genai.ModelInfo, source: str) -> Draft:
    window = info.context_window or 0
    if isinstance(info.prices, list) and any(
        isinstance(price.constraint, genai.TimeOfDateConstraint) for price in info.prices
    ):
        return Draft(context_window=window, unpriced="its price depends on the time of day")
    starts = _starts(info)
    for start in starts:
        for key, value in vars(info.get_prices(start)).items():
            if value is not None and key not in _METERS and not key.startswith("_"):
                return Draft(context_window=window, unpriced=f"no meter counts what its price {key} is of")
    rows = tuple(_rows(info, starts, source))
    fees = any(row.meter == Meter.REQUEST for row in rows)
    return Draft((*rows, *_included(rows)) if fees else rows, window, unpriced="" if rows else "it has no price there")


def _included(rows: tuple[PriceRow, ...]) -> Iterator[PriceRow]:
    """Explicit rows of 0 for what the fee of a request includes."""
    present = {row.meter for row in rows}
    for row in rows:
        if row.meter == Meter.REQUEST:
            for meter in (Meter.WEB_SEARCH, Meter.CITATION):
                if meter not in present:
                    yield msgspec.structs.replace(row, meter=meter, rate_pico=0, per=1)


def _starts(info: genai.ModelInfo) -> list[datetime]:
    """The instants at which any of a model's prices changes, the beginning of time first. Days are UTC days."""
    conditions: list[genai.ConditionalPrice | genai.PriceVariant] = [*(info.price_variants or [])]
    if isinstance(info.prices, list):
        conditions += info.prices
    days = {
        condition.constraint.start_date
        for condition in conditions
        if isinstance(condition.constraint, genai.StartDateConstraint)
    }
    return [_EPOCH, *(datetime(day.year, day.month, day.day, tzinfo=UTC) for day in sorted(days))]


def _rows(info: genai.ModelInfo, starts: list[datetime], source: str) -> Iterator[PriceRow]:
    bounds = [(start - _EPOCH) // timedelta(milliseconds=1) for start in starts]
    for tier, contexts in _TIERS.items():
        # What is in effect in each span of time, so that a price that does not change stays one row.
        spans = [_offered_rates(info, contexts, start) for start in starts]
        for key in sorted({key for span in spans for key in span}):
            meter, min_input = key
            for from_ms, to_ms, (rate_pico, per) in _runs([span.get(key) for span in spans], bounds):
                yield PriceRow("", meter, rate_pico, per, tier, min_input, from_ms, to_ms, source)


def _runs(values: list[tuple[int, int] | None], bounds: list[int]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """(from, to, rate) with equal neighbours joined: each from where it begins to where another begins (0: open)."""
    ends = [*bounds[1:], 0]
    start = 0
    for index, value in enumerate(values):
        if index + 1 < len(values) and values[index + 1] == value:
            continue
        if value is not None:
            yield bounds[start], ends[index], value
        start = index + 1


def _offered_rates(
    info: genai.ModelInfo, contexts: tuple[dict[str, str], ...], at: datetime
) -> dict[tuple[Meter, int], tuple[int, int]]:
    for context in contexts:
        if _offers(info, context, at):
            return _span_rates(info.get_prices(at, context))
    return {}


def _offers(info: genai.ModelInfo, context: dict[str, str], at: datetime) -> bool:
    """Whether a tier has prices of its own at a time: without this, asking for it would yield the standard ones."""
    return not context or any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or []
    )


def _span_rates(prices: genai.ModelPrice) -> dict[tuple[Meter, int], tuple[int, int]]:
    rates: dict[tuple[Meter, int], tuple[int, int]] = {}
    for key, (meter, units) in _METERS.items():
        price: Decimal | genai.TieredPrices | None = getattr(prices, key)
        if isinstance(price, genai.TieredPrices):
            rates[meter, 0] = exact_rate(price.base, units)
            for tier in price.tiers:
                rates[meter, tier.start] = exact_rate(tier.price, units)
        elif price is not None:
            rates[meter, 0] = exact_rate(price, units)
    return rates
