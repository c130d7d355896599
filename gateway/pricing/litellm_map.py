"""Prices and sizes of a vendored litellm map as drafts: what fills the gaps. `data/README.md` says where it is from."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from gateway.core.charge import PriceRow
from gateway.core.errors import ConfigInvalid
from gateway.core.usage import Meter
from gateway.pricing.draft import PICO_PER_USD, Draft
from gateway.pricing.rows import STANDARD

SUM_FILE = "litellm-model-prices.sha256"
"""Holds the digest and the name of the vendored file; the name tells litellm's version."""

_NAME = re.compile(r"^litellm-model-prices-(?P<version>[0-9][0-9A-Za-z.]*)\.json\.gz$")
_MODES = frozenset({"chat", "completion", "responses", "embedding"})

_METERS: dict[str, Meter] = {
    "input_cost_per_token": Meter.INPUT,
    "cache_read_input_token_cost": Meter.CACHE_READ,
    "cache_creation_input_token_cost": Meter.CACHE_WRITE,
    "cache_creation_input_token_cost_above_1hr": Meter.CACHE_WRITE_1H,
    # OpenAI's long-lived writes last 12 hours; the meter means the longest-lived write a provider sells.
    "cache_creation_input_token_cost_above_12hr": Meter.CACHE_WRITE_1H,
    "input_cost_per_audio_token": Meter.INPUT_AUDIO,
    "cache_read_input_audio_token_cost": Meter.CACHE_READ_AUDIO,
    "input_cost_per_image_token": Meter.INPUT_IMAGE,
    "output_cost_per_token": Meter.OUTPUT,
    "output_cost_per_audio_token": Meter.OUTPUT_AUDIO,
}
_TIERS = {"": STANDARD, "flex": "flex", "priority": "priority", "ultrafast": "ultrafast", "batches": "batch"}
_KEY = re.compile(
    r"^(?P<price>[a-z_]+?(?:_above_1(?:2)?hr?)?)(?:_above_(?P<cliff>\d+)k_tokens)?(?:_(?P<tier>flex|priority|ultrafast|batches))?$"
)
_UNMETERED: dict[str, str] = {
    "input_cost_per_request": "it is billed per request",
    "citation_cost_per_token": "its citation tokens have a price of their own",
    "output_cost_per_image_token": "its image output has a price of its own",
    "input_cost_per_video_token": "its video input has a price of its own",
    "off_peak_pricing": "its price depends on the time of day",
    "tiered_pricing": "its price tiers are not modelled",
}


class LitellmMap:
    """Drafts by litellm provider and model name. Raises ConfigInvalid when the file is not the one vendored."""

    def __init__(self, folder: Traversable | None = None) -> None:
        self._folder = folder if folder is not None else files("gateway.pricing") / "data"

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
        return f"litellm-map {self.version}"

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        digest, name = self._vendored
        packed = (self._folder / name).read_bytes()
        if hashlib.sha256(packed).hexdigest() != digest:
            raise ConfigInvalid(f"{name} is not the file that was vendored: its SHA-256 differs from {SUM_FILE}")
        # Decimal from the text: the file was written from doubles, but must not become doubles again.
        entries: dict[str, dict[str, Any]] = json.loads(gzip.decompress(packed), parse_float=Decimal)
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
    reasoning = entry.get("output_cost_per_reasoning_token")
    if reasoning is not None and reasoning != entry.get("output_cost_per_token"):
        unpriced = "its reasoning tokens have a price of their own"
    rows = () if unpriced else tuple(_rows(entry, source))
    return Draft(rows, window, longest, unpriced)


def _rows(entry: Mapping[str, Any], source: str) -> Iterator[PriceRow]:
    """Rows above 0: a 0 in this map may mean free, unknown or not applicable, and free must be said by an override."""
    for key, value in entry.items():
        match = _KEY.match(key)
        meter = _METERS.get(match["price"]) if match else None
        if match is None or meter is None or not isinstance(value, Decimal | int):
            continue
        # A double has noise in its 16th digit; pico-USD are 12 decimals, so rounding removes it and nothing else.
        pico = round(Decimal(value) * PICO_PER_USD)
        if pico > 0:
            tier, min_input = _TIERS[match["tier"] or ""], int(match["cliff"] or 0) * 1000
            yield PriceRow("", meter, pico, tier=tier, min_input=min_input, source=source)


def _size(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
