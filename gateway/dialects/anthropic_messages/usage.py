"""Anthropic's usage object → disjoint meters (money reference §1).

`input_tokens` excludes what was cached: reads and writes stand beside it, writes by how long they live. Thinking is a
part of `output_tokens`. `service_tier` and `speed` say what was served, `inference_geo` where. With `iterations` there
were several model runs: the top-level numbers are those of the messages, and compaction or an advisor comes on top.
"""

from __future__ import annotations

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart
from gateway.dialects.counts import (
    PARTS_MAX,
    Counts,
    Fields,
    UsageFields,
    cut_short,
    fields_of,
    merge_usage,
    objects_of,
    said,
    summed,
    word_of,
)

_TOKENS = frozenset({
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens",
    "output_tokens_details",
})  # fmt: skip
_USAGE = _TOKENS | {"server_tool_use", "service_tier", "inference_geo", "speed", "iterations"}
_ITERATION = _TOKENS | {"type", "model", "service_tier", "inference_geo", "speed"}
_WRITES = frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"})
_TOOLS = frozenset({"web_search_requests", "web_fetch_requests"})
"""Fetching a page is free."""
_MESSAGE = "message"
_STANDARD_SPEED = "standard"
_DECODER = msgspec.json.Decoder()


def read_usage(raw: bytes | msgspec.Raw | UsageFields) -> Usage:
    """Usage from a `usage` object, or from its fields when several were merged."""
    fields, text = said(raw)
    counts = Counts()
    counts.known(fields, _USAGE)
    tokens, thinking = _tokens(counts, fields, "")
    tools = counts.part(fields, "server_tool_use")
    counts.known(tools, _TOOLS, "server_tool_use")
    fees = {Meter.WEB_SEARCH: counts.count(tools, "web_search_requests")}
    parts = _parts(counts, fields, tokens)
    if parts and fees[Meter.WEB_SEARCH]:
        parts.append(UsagePart("tools", "", fees))
    meters = summed([part.meters for part in parts]) if parts else tokens | fees
    return counts.usage(
        meters,
        text,
        served_tier=_tier(fields),
        reasoning_tokens=thinking,
        region=word_of(fields, "inference_geo"),
        parts=parts,
    )


def reply_usage(message: bytes) -> Usage | None:
    """Usage of a whole message; None when it carries none."""
    usage = fields_of(_decoded(message)).get("usage")
    return read_usage(usage) if isinstance(usage, dict) and usage else None


class StreamUsage:
    """Usage out of a stream's events: `message_start` has the input and how long writes live, each `message_delta`
    running totals. `final` tells that the provider said the end; without it the output is a placeholder."""

    __slots__ = ("_fields", "final")

    def __init__(self) -> None:
        self._fields: UsageFields = {}
        self.final = False

    def feed(self, data: bytes) -> None:
        """The JSON of one event."""
        event = fields_of(_decoded(data))
        kind = event.get("type")
        if kind == "message_start":
            usage = fields_of(event.get("message")).get("usage")
        elif kind == "message_delta":
            usage = event.get("usage")
        else:
            return
        if isinstance(usage, dict) and usage:
            self._fields = merge_usage(self._fields, usage)
            self.final = self.final or kind == "message_delta"

    @property
    def usage(self) -> Usage | None:
        return read_usage(self._fields) if self._fields else None

    def cut_short(self, output_tokens: int) -> Usage | None:
        """The usage of a stream that died: exact input, and the output that was counted on the way."""
        return cut_short(self.usage, output_tokens)


def _decoded(text: bytes) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _tokens(counts: Counts, fields: Fields, place: str) -> tuple[dict[Meter, int], int]:
    """Tokens of one model run, and how many of them are thinking."""
    prefix = f"{place}." if place else ""
    written = counts.count(fields, "cache_creation_input_tokens")
    lives = counts.part(fields, "cache_creation")
    counts.known(lives, _WRITES, f"{prefix}cache_creation")
    short, long = counts.count(lives, "ephemeral_5m_input_tokens"), counts.count(lives, "ephemeral_1h_input_tokens")
    if fields.get("cache_creation_input_tokens") is None:
        written = short + long
    if short + long > written:
        counts.fail(
            f"cache_creation_input_tokens {written} is less than its {short} for 5 minutes and {long} for 1 hour"
        )
    details = counts.part(fields, "output_tokens_details")
    counts.known(details, frozenset({"thinking_tokens"}), f"{prefix}output_tokens_details")
    put_out, thinking = counts.required(fields, "output_tokens"), counts.count(details, "thinking_tokens")
    if thinking > put_out:
        counts.fail(f"output_tokens {put_out} is less than its thinking {thinking}")
    meters = {
        Meter.INPUT: counts.required(fields, "input_tokens"),
        Meter.CACHE_READ: counts.count(fields, "cache_read_input_tokens"),
        Meter.CACHE_WRITE: written - long,
        Meter.CACHE_WRITE_1H: long,
        Meter.OUTPUT: put_out,
    }
    return {meter: quantity for meter, quantity in meters.items() if quantity}, thinking


def _parts(counts: Counts, fields: Fields, whole: dict[Meter, int]) -> list[UsagePart]:
    """The model runs, when there were others than one message. What the messages add up to must be the whole."""
    runs = objects_of(fields.get("iterations"))
    if len(runs) > PARTS_MAX:
        counts.fail(f"iterations are more than {PARTS_MAX}")
    for run in runs[:PARTS_MAX]:
        counts.known(run, _ITERATION, "iterations")
    if len(runs) < 2 and all(run.get("type") == _MESSAGE and not run.get("model") for run in runs):
        return []
    parts: list[UsagePart] = []
    for run in runs[:PARTS_MAX]:
        meters, _ = _tokens(counts, run, "iterations")
        parts.append(UsagePart(word_of(run, "type") or _MESSAGE, word_of(run, "model"), meters))
    messages = summed([part.meters for part in parts if part.label == _MESSAGE])
    answers = summed([part.meters for part in parts if part.label in (_MESSAGE, "fallback_message")])
    if whole not in (messages, answers):
        counts.fail("the messages among the iterations are not the usage they belong to")
    return parts


def _tier(fields: Fields) -> str:
    """The service tier; a speed other than the standard one is a tier of its own, and both together are a third."""
    tier, speed = word_of(fields, "service_tier"), word_of(fields, "speed")
    if speed in ("", _STANDARD_SPEED):
        return tier
    return speed if tier in ("", "standard") else f"{tier}+{speed}"
