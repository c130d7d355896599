"""Usage: what a provider says was consumed, normalised once into disjoint meters."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Meter(StrEnum):
    """A quantity with a price of its own. Meters of one usage never overlap.

    `cache_write` is the provider's shortest-lived write (5 minutes at Anthropic, 30 at OpenAI); the others say how long
    theirs live. Quantities are tokens down to `citation`; below it they are what the name says: calls, requests, whole
    seconds, characters, pages, or the vendor's own units.
    """

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_1H = "cache_write_1h"
    CACHE_WRITE_12H = "cache_write_12h"
    INPUT_AUDIO = "input_audio"
    CACHE_READ_AUDIO = "cache_read_audio"
    INPUT_IMAGE = "input_image"
    CACHE_READ_IMAGE = "cache_read_image"
    INPUT_VIDEO = "input_video"
    CACHE_READ_VIDEO = "cache_read_video"
    OUTPUT = "output"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    OUTPUT_VIDEO = "output_video"
    REASONING = "reasoning"
    """Only on lines: part of `output` in a usage, told apart where reasoning has a price of its own."""
    CITATION = "citation"
    REQUEST = "request"
    """Only on lines: the fee of one request, and by how much of the web it searched where that changes the fee."""
    REQUEST_LOW = "request_low"
    REQUEST_MEDIUM = "request_medium"
    REQUEST_HIGH = "request_high"
    WEB_SEARCH = "web_search"
    WEB_FETCH = "web_fetch"
    X_SEARCH = "x_search"
    FILE_SEARCH = "file_search"
    MAPS_SEARCH = "maps_search"
    SOURCES = "sources"
    CODE_EXECUTION = "code_execution"
    CODE_CONTAINER = "code_container"
    IMAGES = "images"
    AUDIO_SECONDS = "audio_seconds"
    VIDEO_SECONDS = "video_seconds"
    SESSION_SECONDS = "session_seconds"
    CHARACTERS = "characters"
    PAGES = "pages"
    ANNOTATED_PAGES = "annotated_pages"
    SEARCH_UNITS = "search_units"
    CLASSIFICATIONS = "classifications"


INPUT_METERS = frozenset(
    {
        Meter.INPUT,
        Meter.CACHE_READ,
        Meter.CACHE_WRITE,
        Meter.CACHE_WRITE_1H,
        Meter.CACHE_WRITE_12H,
        Meter.INPUT_AUDIO,
        Meter.CACHE_READ_AUDIO,
        Meter.INPUT_IMAGE,
        Meter.CACHE_READ_IMAGE,
        Meter.INPUT_VIDEO,
        Meter.CACHE_READ_VIDEO,
    }
)
OUTPUT_METERS = frozenset({Meter.OUTPUT, Meter.OUTPUT_AUDIO, Meter.OUTPUT_IMAGE, Meter.OUTPUT_VIDEO, Meter.REASONING})
TOKEN_METERS = INPUT_METERS | OUTPUT_METERS | {Meter.CITATION}
"""What residency and speed multiply; fees by the call are the same everywhere."""
TOOL_METERS = frozenset(
    {
        Meter.WEB_SEARCH,
        Meter.WEB_FETCH,
        Meter.X_SEARCH,
        Meter.FILE_SEARCH,
        Meter.MAPS_SEARCH,
        Meter.SOURCES,
        Meter.CODE_EXECUTION,
        Meter.CODE_CONTAINER,
    }
)
"""Tools that run at the provider, billed by the call: a request reaches them only by naming them."""


class UsageSource(StrEnum):
    PROVIDER = "provider"
    ESTIMATED = "estimated"
    CACHE = "cache"
    NONE = "none"


class UsagePart(msgspec.Struct, frozen=True):
    """One of several model runs behind one reply (a compaction, an advisor, a fallback, an image made by a tool).

    Its prompt has context tiers of its own, and its price is that of `model` (empty: the call's). `label` names it.
    """

    label: str
    model: str
    meters: dict[Meter, int]


class Usage(msgspec.Struct, frozen=True):
    """Disjoint quantities by meter; zero quantities are left out.

    `reasoning_tokens` is a subset of `output`. `raw` is the provider's own usage JSON (≤ 8 KiB, else empty).
    `served_tier` is the service tier the reply says was served (empty: it did not say). `fault` names a contradiction
    in the provider's numbers (a negative remainder, a non-integer): such usage has no price. `unknown_fields` are usage
    members this reader does not know: counted, never dropped silently.

    `region` is where the reply says it was computed, where that changes the price (Anthropic's `inference_geo`).
    `search_size` is how much of the web a request searched (`low`, `medium`, `high`). `parts` is empty for a reply of
    one run; else each run has its own, and `meters` are their sums.
    """

    meters: dict[Meter, int]
    source: UsageSource
    reasoning_tokens: int = 0
    raw: bytes = b""
    served_tier: str = ""
    fault: str = ""
    unknown_fields: tuple[str, ...] = ()
    region: str = ""
    search_size: str = ""
    parts: tuple[UsagePart, ...] = ()

    def input_tokens(self) -> int:
        """All prompt tokens, cached ones included."""
        return prompt_tokens(self.meters)

    def output_tokens(self) -> int:
        total = 0
        for meter, quantity in self.meters.items():
            if meter in OUTPUT_METERS:
                total += quantity
        return total


def prompt_tokens(meters: Mapping[Meter, int]) -> int:
    """All tokens of a prompt, cached ones included: what decides context tiers."""
    total = 0
    for meter, quantity in meters.items():
        if meter in INPUT_METERS:
            total += quantity
    return total
