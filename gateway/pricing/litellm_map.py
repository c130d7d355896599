"""Prices and sizes of a vendored litellm map as drafts: what fills the gaps. `data/README.md` says where it is from."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import msgspec

from gateway.core.charge import MILLION, PriceRow, Uplift
from gateway.core.errors import ConfigInvalid
from gateway.core.usage import Meter
from gateway.pricing.draft import PICO_PER_USD, Draft, exact_rate
from gateway.pricing.rows import STANDARD
from gateway.pricing.week import joined, others

SUM_FILE = "litellm-model-prices.sha256"
"""Holds the digest and the name of the vendored file; the name tells litellm's version."""

_NAME = re.compile(r"^litellm-model-prices-(?P<version>[0-9][0-9A-Za-z.]*)\.json\.gz$")
_DAY = 24 * 60
_TOKEN_MODES = frozenset({"chat", "completion", "responses", "embedding", "realtime"})
_MODES = _TOKEN_MODES | {
    "audio_speech", "audio_transcription", "image_edit", "image_generation", "ocr", "rerank",
}  # fmt: skip

_METERS: dict[str, Meter] = {
    "input_cost_per_token": Meter.INPUT,
    "cache_read_input_token_cost": Meter.CACHE_READ,
    "cache_creation_input_token_cost": Meter.CACHE_WRITE,
    "cache_creation_input_token_cost_above_1hr": Meter.CACHE_WRITE_1H,
    "cache_creation_input_token_cost_above_12hr": Meter.CACHE_WRITE_12H,
    "input_cost_per_audio_token": Meter.INPUT_AUDIO,
    "cache_read_input_audio_token_cost": Meter.CACHE_READ_AUDIO,
    "input_cost_per_image_token": Meter.INPUT_IMAGE,
    "cache_read_input_image_token_cost": Meter.CACHE_READ_IMAGE,
    "input_cost_per_video_token": Meter.INPUT_VIDEO,
    "output_cost_per_token": Meter.OUTPUT,
    "output_cost_per_audio_token": Meter.OUTPUT_AUDIO,
    "output_cost_per_image_token": Meter.OUTPUT_IMAGE,
    "output_cost_per_video_token": Meter.OUTPUT_VIDEO,
    "output_cost_per_reasoning_token": Meter.REASONING,
    "citation_cost_per_token": Meter.CITATION,
    "input_cost_per_request": Meter.REQUEST,
    "google_maps_grounding_cost_per_query": Meter.MAPS_SEARCH,
}
_UNIT_METERS: dict[str, dict[str, Meter]] = {
    "audio_speech": {"input_cost_per_character": Meter.CHARACTERS},
    "audio_transcription": {"input_cost_per_second": Meter.AUDIO_SECONDS},
    "image_edit": {"output_cost_per_image": Meter.IMAGES},
    "image_generation": {"output_cost_per_image": Meter.IMAGES},
    "ocr": {"ocr_cost_per_page": Meter.PAGES, "annotation_cost_per_page": Meter.ANNOTATED_PAGES},
    "rerank": {"input_cost_per_query": Meter.SEARCH_UNITS},
}
"""By mode: what a model is billed by instead of tokens. Besides tokens such a price is another way to say the same."""
_SEARCH_SIZES = {
    "search_context_size_low": Meter.REQUEST_LOW,
    "search_context_size_medium": Meter.REQUEST_MEDIUM,
    "search_context_size_high": Meter.REQUEST_HIGH,
}
_TIERS = {"": STANDARD, "flex": "flex", "priority": "priority", "ultrafast": "ultrafast", "batches": "batch"}
_KEY = re.compile(
    r"^(?P<price>[a-z_]+?(?:_above_1(?:2)?hr?)?)(?:_above_(?P<cliff>\d+)k_tokens)?(?:_(?P<tier>flex|priority|ultrafast|batches))?$"
)
_REGIONS = {
    "regional_processing_uplift_multiplier_eu": "eu",
    "regional_processing_uplift_multiplier_us": "us",
    "fedramp_uplift_multiplier": "fedramp",
    "regional_endpoint_uplift_multiplier": "regional",
}
_UNMETERED: dict[str, str] = {
    "tiered_pricing": "its price tiers are not modelled",
    "output_cost_per_video_per_second": "it is billed by seconds of video",
}


def is_price(key: str) -> bool:
    """Whether a member of an entry is a price that is read here."""
    match = _KEY.match(key)
    own = key.removesuffix("_batches")
    return bool(match and match["price"] in _METERS) or any(own in units for units in _UNIT_METERS.values())


class LitellmMap:
    """Drafts by litellm provider and model name. Raises ConfigInvalid when the file is not the one vendored."""

    def __init__(self, folder: Traversable | None = None, *, content: bytes = b"", name: str = "") -> None:
        """`content` is another map's JSON, and `name` what it is called; without, the vendored one is read."""
        self._folder = folder if folder is not None else files("gateway.pricing") / "data"
        self._content = content
        self._name = name

    @cached_property
    def _vendored(self) -> tuple[str, str]:
        digest, _, name = (self._folder / SUM_FILE).read_text("ascii").strip().partition("  ")
        return digest, name

    @property
    def version(self) -> str:
        match = _NAME.match(self._vendored[1])
        if match is None:
            raise ConfigInvalid(f"{SUM_FILE} names {self._vendored[1]!r}, which is not a vendored price map")
        return match["version"]

    @property
    def source(self) -> str:
        return self._name or f"litellm-map {self.version}"

    def read(self) -> bytes:
        """The map's JSON. Raises ConfigInvalid when the vendored file is not the one that was vendored."""
        if self._content:
            return self._content
        digest, name = self._vendored
        packed = (self._folder / name).read_bytes()
        if hashlib.sha256(packed).hexdigest() != digest:
            raise ConfigInvalid(f"{name} is not the file that was vendored: its SHA-256 differs from {SUM_FILE}")
        return gzip.decompress(packed)

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        # Decimal from the text: the file was written from doubles, but must not become doubles again.
        entries: dict[str, dict[str, Any]] = json.loads(self.read(), parse_float=Decimal)
        return entries

    @cached_property
    def _models(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Entries by provider and by name without the provider's prefix."""
        models: dict[str, dict[str, dict[str, Any]]] = {}
        for key, entry in self._entries.items():
            provider = entry.get("litellm_provider", "")
            if entry.get("mode") in _MODES:
                models.setdefault(provider, {})[key.removeprefix(f"{provider}/")] = entry
        return models

    def providers(self) -> list[str]:
        return sorted(self._models)

    def names(self, provider: str) -> list[str]:
        return sorted(self._models.get(provider, {}))

    def draft(self, provider: str, model: str) -> Draft | None:
        """What is known of a model by its exact name; None: not known."""
        entry = self._models.get(provider, {}).get(model)
        return None if entry is None else _draft(entry, self.source)

    def routed(self, model: str) -> Draft | None:
        """What is known of a model named as litellm routes it, `vendor/model`. The map files some vendors' models under
        the bare name, and some vendors in several parts (`bedrock`, `bedrock_converse`)."""
        vendor, _, name = model.partition("/")
        for key in (model, name):
            entry = self._entries.get(key)
            if entry and entry.get("mode") in _MODES and str(entry.get("litellm_provider", "")).startswith(vendor):
                return _draft(entry, self.source)
        return None


def _draft(entry: Mapping[str, Any], source: str) -> Draft:
    window, longest = _size(entry.get("max_input_tokens")), _size(entry.get("max_output_tokens"))
    unpriced = next((why for key, why in _UNMETERED.items() if entry.get(key)), "")
    rows = () if unpriced else tuple(_rows(entry, source))
    if rows and "off_peak_pricing" in entry:
        rows = tuple(_hourly(rows, entry["off_peak_pricing"]))
    return Draft(
        rows,
        window,
        longest,
        unpriced,
        uplifts=tuple(_uplifts(entry)),
        hourly="off_peak_pricing" in entry,
        reasons=entry.get("supports_reasoning") is True,
    )


def _rows(entry: Mapping[str, Any], source: str) -> Iterator[PriceRow]:
    """Rows above 0: a 0 in this map may mean free, unknown or not applicable, and free must be said by an override."""
    token_rows = 0
    for key, value in entry.items():
        match = _KEY.match(key)
        meter = _METERS.get(match["price"]) if match else None
        if match is None or meter is None or not isinstance(value, Decimal | int):
            continue
        # A double has noise in its 16th digit; pico-USD are 12 decimals, so rounding removes it and nothing else.
        pico = round(Decimal(value) * PICO_PER_USD)
        if pico > 0 and not (meter is Meter.REASONING and value == entry.get("output_cost_per_token")):
            tier, min_input = _TIERS[match["tier"] or ""], int(match["cliff"] or 0) * 1000
            token_rows += 1
            yield PriceRow("", meter, pico, tier=tier, min_input=min_input, source=source)
    if not token_rows:
        yield from _unit_rows(entry, source)
    yield from _search_rows(entry, source)


def _unit_rows(entry: Mapping[str, Any], source: str) -> Iterator[PriceRow]:
    for key, meter in _UNIT_METERS.get(entry.get("mode", ""), {}).items():
        for suffix, tier in (("", STANDARD), ("_batches", "batch")):
            value = entry.get(key + suffix)
            if isinstance(value, Decimal | int) and value > 0:
                # Prices by the second are hourly ones divided: eight digits are all that a double kept of them.
                rate_pico, per = exact_rate(round(Decimal(value), 15), 1)
                yield PriceRow("", meter, rate_pico, per, tier=tier, source=source)


def _search_rows(entry: Mapping[str, Any], source: str) -> Iterator[PriceRow]:
    """The fee of a web search; by how much of the web a request searched where that makes a difference: then it is the
    fee of the request, and the dearest stands for one that does not say."""
    sizes = {name: entry.get("search_context_cost_per_query", {}).get(name) for name in _SEARCH_SIZES}
    fees = {name: round(Decimal(fee) * PICO_PER_USD) for name, fee in sizes.items() if isinstance(fee, Decimal | int)}
    if len(fees) < len(_SEARCH_SIZES) or not all(fees.values()):
        return
    if len(set(fees.values())) == 1:
        yield PriceRow("", Meter.WEB_SEARCH, max(fees.values()), source=source)
        return
    yield PriceRow("", Meter.REQUEST, max(fees.values()), source=source)
    for name, pico in fees.items():
        yield PriceRow("", _SEARCH_SIZES[name], pico, source=source)


def _uplifts(entry: Mapping[str, Any]) -> Iterator[Uplift]:
    for key, region in _REGIONS.items():
        if isinstance(entry.get(key), Decimal | int):
            yield Uplift(region, int(entry[key] * MILLION))
    american = entry.get("provider_specific_entry", {}).get("us")
    if isinstance(american, Decimal | int):
        yield Uplift("us", int(american * MILLION), by_reply=True)


def _hourly(rows: Iterable[PriceRow], off_peak: Mapping[str, Any]) -> Iterator[PriceRow]:
    """The rows for the busy hours, and beside them those of the other hours."""
    quiet = joined([span for window in off_peak["windows"] for span in _spans(window)])
    for row in rows:
        key = next((key for key, meter in _METERS.items() if meter == row.meter and key in off_peak), None)
        if key is None or row.min_input or row.tier != STANDARD:
            yield row
            continue
        yield msgspec.structs.replace(row, week=others(quiet))
        yield msgspec.structs.replace(row, week=quiet, rate_pico=round(Decimal(off_peak[key]) * PICO_PER_USD))


def _spans(window: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """`hours_utc` (`01:00-04:00`, one or several, midnight is `00:00` at either end) on `weekdays` (Monday is 1)."""
    hours = window["hours_utc"]
    for day in window["weekdays"]:
        for span in [hours] if isinstance(hours, str) else hours:
            start, end = [60 * int(text[:2]) + int(text[3:]) for text in span.split("-")]
            yield (day - 1) * _DAY + start, (day - 1) * _DAY + (end or _DAY)


def _size(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
