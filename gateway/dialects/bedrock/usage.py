"""Bedrock's usage → disjoint meters: Converse in body or last event, InvokeModel in headers (money reference §1).

As at Anthropic, `inputTokens` excludes what was cached. AWS bills a generation to its end, whoever is still there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart
from gateway.dialects.counts import COUNT_MAX, Counts, Fields, fields_of, objects_of, word_of

_KNOWN = frozenset({
    "inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "cacheDetails",
    "cacheReadInputTokenCount", "cacheWriteInputTokenCount",
})  # fmt: skip
_LIVES = {"5m": Meter.CACHE_WRITE, "1h": Meter.CACHE_WRITE_1H}
_HEADERS = {
    "x-amzn-bedrock-input-token-count": "inputTokens",
    "x-amzn-bedrock-output-token-count": "outputTokens",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokens",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokens",
}
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def converse_usage(body: bytes) -> Usage | None:
    """Usage of a Converse reply, or of a stream's `metadata` event: both have the same members. None: it has none."""
    try:
        reply = fields_of(_DECODER.decode(body))
    except (ValueError, RecursionError):
        return None
    reply = fields_of(reply.get("metadata")) or reply
    usage = reply.get("usage")
    if not isinstance(usage, dict) or not usage:
        return None
    routed = word_of(fields_of(fields_of(reply.get("trace")).get("promptRouter")), "invokedModelId")
    return _read(usage, _tier(reply), routed)


def invoke_usage(headers: Mapping[str, str]) -> Usage | None:
    """Usage of an InvokeModel reply from its lower-case headers; None when they say nothing."""
    fields = {ours: _number(headers[theirs]) for theirs, ours in _HEADERS.items() if theirs in headers}
    return _read(fields, "", "") if fields else None


def _number(text: str) -> object:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= len(str(COUNT_MAX)) else digits


def _read(fields: Fields, tier: str, routed: str) -> Usage:
    counts = Counts()
    counts.known(fields, _KNOWN)
    taken, given = counts.required(fields, "inputTokens"), counts.required(fields, "outputTokens")
    read, written = counts.count(fields, "cacheReadInputTokens"), counts.count(fields, "cacheWriteInputTokens")
    writes = {Meter.CACHE_WRITE: 0, Meter.CACHE_WRITE_1H: 0}
    for detail in objects_of(fields.get("cacheDetails")):
        counts.known(detail, frozenset({"ttl", "inputTokens"}), "cacheDetails")
        meter = _LIVES.get(word_of(detail, "ttl"))
        if meter is None:
            counts.fail(f"cacheDetails has a life of {word_of(detail, 'ttl') or 'nothing'}")
        else:
            writes[meter] += counts.count(detail, "inputTokens")
    if sum(writes.values()) > written:
        counts.fail(f"cacheWriteInputTokens {written} is less than its details")
    writes[Meter.CACHE_WRITE] += written - sum(writes.values())
    total = counts.count(fields, "totalTokens")
    if fields.get("totalTokens") is not None and total not in (taken + given, taken + given + read + written):
        counts.fail(f"totalTokens {total} is not input {taken} plus output {given}, with or without the cache")
    meters = {Meter.INPUT: taken, Meter.CACHE_READ: read, **writes, Meter.OUTPUT: given}
    parts = [UsagePart("routed", routed, {meter: n for meter, n in meters.items() if n})] if routed else []
    return counts.usage(meters, _ENCODER.encode(fields), served_tier=tier, parts=parts)


def _tier(reply: Fields) -> str:
    """The service tier; latency that was optimised is a tier of its own, and has a price of its own."""
    tier = word_of(fields_of(reply.get("serviceTier")), "type")
    latency = word_of(fields_of(reply.get("performanceConfig")), "latency")
    return tier if latency in ("", "standard") else latency
