"""Gemini's `usageMetadata` → disjoint meters (money reference §1).

Cached tokens are a part of `promptTokenCount`; thoughts stand outside of `candidatesTokenCount`, and the prompts of
tools outside of both. Modalities that a details array leaves out are 0, and what it does not account for is text.
Searches are counted from the grounding: from Gemini 3 on each different query is billed, before each grounded prompt.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.usage import Meter, Usage
from gateway.dialects.counts import (
    Counts,
    Fields,
    UsageFields,
    cut_short,
    fields_of,
    merge_usage,
    objects_of,
    said,
    word_of,
)

_KNOWN = frozenset({
    "promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "responseTokenCount", "thoughtsTokenCount",
    "toolUsePromptTokenCount", "totalTokenCount", "promptTokensDetails", "cacheTokensDetails",
    "candidatesTokensDetails", "responseTokensDetails", "toolUsePromptTokensDetails", "trafficType", "serviceTier",
})  # fmt: skip
_DETAIL = frozenset({"modality", "tokenCount"})
_TEXT = frozenset({"TEXT", "DOCUMENT", "MODALITY_UNSPECIFIED"})
_TAKEN = {"AUDIO": Meter.INPUT_AUDIO, "IMAGE": Meter.INPUT_IMAGE, "VIDEO": Meter.INPUT_VIDEO}
_CACHED = {"AUDIO": Meter.CACHE_READ_AUDIO, "IMAGE": Meter.CACHE_READ_IMAGE, "VIDEO": Meter.CACHE_READ_VIDEO}
_GIVEN = {"AUDIO": Meter.OUTPUT_AUDIO, "IMAGE": Meter.OUTPUT_IMAGE, "VIDEO": Meter.OUTPUT_VIDEO}
_TIERS = {"ON_DEMAND": "", "ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
_PROMPT_BILLED = ("gemini-1", "gemini-2", "models/gemini-1", "models/gemini-2")
"""Models whose searches are billed by the prompt that was grounded, not by the query."""
_QUERIES_MAX = 1000
_DECODER = msgspec.json.Decoder()


def read_usage(raw: bytes | msgspec.Raw | UsageFields, searches: int = 0, maps: int = 0) -> Usage:
    """Usage from a `usageMetadata` object. `searches` and `maps` are the grounding calls to bill (`Grounding`)."""
    fields, text = said(raw)
    counts = Counts()
    counts.known(fields, _KNOWN)
    prompt, cached = counts.count(fields, "promptTokenCount"), counts.count(fields, "cachedContentTokenCount")
    tools, thoughts = counts.count(fields, "toolUsePromptTokenCount"), counts.count(fields, "thoughtsTokenCount")
    live = "responseTokenCount" in fields
    answered = counts.count(fields, "responseTokenCount" if live else "candidatesTokenCount")
    taken = _by_modality(counts, fields, "promptTokensDetails", prompt)
    read = _by_modality(counts, fields, "cacheTokensDetails", cached)
    used = _by_modality(counts, fields, "toolUsePromptTokensDetails", tools)
    given = _by_modality(counts, fields, "responseTokensDetails" if live else "candidatesTokensDetails", answered)
    meters: dict[Meter, int] = {Meter.OUTPUT: given.pop("", 0) + thoughts}
    meters |= {_GIVEN[modality]: quantity for modality, quantity in given.items()}
    for modality in ("", *_TAKEN):
        fresh = taken.get(modality, 0) - read.get(modality, 0)
        if fresh < 0:
            counts.fail(f"the cached {modality.lower() or 'text'} is more than there is in the prompt")
        meters[_TAKEN.get(modality, Meter.INPUT)] = fresh + used.get(modality, 0)
        meters[_CACHED.get(modality, Meter.CACHE_READ)] = read.get(modality, 0)
    meters[Meter.WEB_SEARCH], meters[Meter.MAPS_SEARCH] = searches, maps
    total = counts.count(fields, "totalTokenCount")
    if fields.get("totalTokenCount") is not None and total != prompt + answered + tools + thoughts:
        counts.fail(
            f"totalTokenCount {total} is not prompt {prompt}, answer {answered}, tools {tools}, thoughts {thoughts}"
        )
    return counts.usage(meters, text, served_tier=_tier(fields), reasoning_tokens=thoughts)


def reply_usage(reply: bytes) -> Usage | None:
    """Usage of a whole reply, its grounding included; None when it carries none."""
    stream = StreamUsage()
    stream.feed(reply)
    return stream.usage


class StreamUsage:
    """Usage out of a stream's chunks: running totals, of which the last count, and the searches of all of them."""

    __slots__ = ("_fields", "_grounding", "_model")

    def __init__(self) -> None:
        self._fields: UsageFields = {}
        self._grounding = Grounding()
        self._model = ""

    def feed(self, data: bytes) -> None:
        """The JSON of one chunk."""
        try:
            chunk = fields_of(_DECODER.decode(data))
        except (ValueError, RecursionError):
            return
        usage = chunk.get("usageMetadata")
        if isinstance(usage, dict) and usage:
            self._fields = merge_usage(self._fields, usage)
        self._model = word_of(chunk, "modelVersion") or self._model
        self._grounding.add(objects_of(chunk.get("candidates")))

    @property
    def usage(self) -> Usage | None:
        if not self._fields:
            return None
        return read_usage(self._fields, self._grounding.searches(self._model), self._grounding.maps)

    def cut_short(self, output_tokens: int) -> Usage | None:
        """The usage of a stream that died: what was said last, and the output that was counted on the way."""
        return cut_short(self.usage, output_tokens)


class Grounding:
    """What the candidates' grounding says of searches: the different queries, and whether a map was asked."""

    __slots__ = ("_queries", "_web", "maps")

    def __init__(self) -> None:
        self._queries: set[str] = set()
        self._web = False
        self.maps = 0

    def add(self, candidates: Iterable[Fields]) -> None:
        for candidate in candidates:
            grounding = fields_of(candidate.get("groundingMetadata"))
            queries = grounding.get("webSearchQueries")
            for query in queries if isinstance(queries, list) else ():
                if isinstance(query, str) and query.strip() and len(self._queries) < _QUERIES_MAX:
                    self._queries.add(query)
            chunks = objects_of(grounding.get("groundingChunks"))
            self._web = self._web or any("web" in chunk for chunk in chunks)
            if any("maps" in chunk for chunk in chunks):
                self.maps = 1

    def searches(self, model: str) -> int:
        """How many searches are billed, by how the model's generation bills them."""
        if model.startswith(_PROMPT_BILLED):
            return int(bool(self._queries) or self._web)
        return len(self._queries)


def _by_modality(counts: Counts, fields: Fields, name: str, whole: int) -> dict[str, int]:
    """Tokens by modality, `""` for text; what the details do not account for is text."""
    found = {"": 0}
    details = fields.get(name)
    if details is not None and not isinstance(details, list):
        counts.fail(f"{name} is not an array")
    for detail in objects_of(details):
        counts.known(detail, _DETAIL, name)
        modality = word_of(detail, "modality").upper()
        if modality not in _TEXT and modality not in _TAKEN:
            if modality:
                counts.unknown.append(f"{name}.{modality}")
            modality = ""
        key = "" if modality in _TEXT else modality
        found[key] = found.get(key, 0) + counts.count(detail, "tokenCount")
    rest = whole - sum(found.values())
    if rest < 0:
        counts.fail(f"{name} add up to more than the {whole} they are parts of")
    found[""] += max(rest, 0)
    return found


def _tier(fields: Fields) -> str:
    """`serviceTier`, or Vertex' `trafficType` in the same words. Provisioned throughput has no list price."""
    tier = word_of(fields, "serviceTier").lower()
    if tier not in ("", "unspecified"):
        return tier
    traffic = word_of(fields, "trafficType")
    return _TIERS.get(traffic, traffic.lower().removesuffix("traffic_type_unspecified"))
