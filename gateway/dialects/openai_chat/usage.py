"""OpenAI's usage object → disjoint meters (money reference §1).

Cached, written and audio tokens are parts of `prompt_tokens`; audio and reasoning tokens are parts of
`completion_tokens`, as are rejected prediction tokens, which are billed. Parts are subtracted, never added. A part
larger than its whole, or a total that is not the sum, is a contradiction: it becomes `fault`, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.quirks import ReportedCost, read_amount
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.json_body import Members, open_members

RAW_BYTES_MAX = 8 * 1024
COUNT_MAX = 10**12
"""Above any count a call can have; beyond it the number is a fault, not a price."""
UNKNOWN_FIELDS_MAX = 16

UsageFields = dict[str, object]

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_PROMPT_DETAILS = "prompt_tokens_details"
_COMPLETION_DETAILS = "completion_tokens_details"
_KNOWN = {
    "": frozenset({
        "prompt_tokens", "completion_tokens", "total_tokens", _PROMPT_DETAILS, _COMPLETION_DETAILS,
        "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
        "queue_time", "prompt_time", "completion_time", "total_time", "reasoning_tokens",
        "cost", "cost_details", "cost_in_usd_ticks", "is_byok", "search_context_size",
    }),
    _PROMPT_DETAILS: frozenset({
        "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens", "video_tokens",
        "cached_tokens_details",
    }),
    _COMPLETION_DETAILS: frozenset({
        "reasoning_tokens", "audio_tokens", "text_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
        "image_tokens",
    }),
}  # fmt: skip
"""What is billed and has no meter (`citation_tokens`, `num_search_queries`, `prompt_audio_seconds`) stays unknown."""


def open_usage(raw: msgspec.Raw | bytes) -> UsageFields | None:
    """The fields of a usage member, or None when it says nothing (`null`, `{}`): that is absent usage, not zero."""
    try:
        value = _DECODER.decode(raw)
    except (ValueError, RecursionError):
        return {"usage": "not valid JSON"}
    if value is None or value == {}:
        return None
    return value if isinstance(value, dict) else {"usage": value}


def merge_usage(older: UsageFields, newer: UsageFields) -> UsageFields:
    """Usage said more than once in a stream: each field's last value counts; they are running totals, never summed."""
    merged = dict(older)
    for name, value in newer.items():
        before = merged.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[name] = merge_usage(before, value)
        elif value is not None or name not in merged:
            merged[name] = value
    return merged


def read_usage(
    raw: bytes | msgspec.Raw | UsageFields,
    served_tier: str = "",
    *,
    has_output: bool = True,
    reasoning_outside: bool = False,
) -> Usage:
    """Usage from the provider's usage JSON, or from its fields when several were merged.

    `served_tier` is passed through as the reply has it. With `has_output` False (embeddings) there is no output meter,
    and completion tokens are a contradiction. `reasoning_outside` is `Quirks.reasoning_outside`. An explicit zero stays
    a zero that the provider said.
    """
    if isinstance(raw, dict):
        fields, text = raw, _ENCODER.encode(raw)
    else:
        fields, text = open_usage(raw) or {}, bytes(raw)
    reading = _Reading(fields, reasoning_outside)
    meters = reading.meters(has_output)
    return Usage(
        meters={} if reading.fault else {meter: quantity for meter, quantity in meters.items() if quantity},
        source=UsageSource.PROVIDER,
        reasoning_tokens=0 if reading.fault else reading.reasoning,
        raw=text if len(text) <= RAW_BYTES_MAX else b"",
        served_tier=served_tier,
        fault=reading.fault,
        unknown_fields=_unknown(fields),
    )


def reported_nusd(raw: bytes | msgspec.Raw, cost: ReportedCost) -> int | None:
    """What the usage says the call cost, read from its decimal text; None when it does not say."""
    usage = open_members(raw)
    if usage is None:
        return None
    amount = _amount_at(usage, cost.path, cost.per_usd)
    if amount is None or not cost.own_key or bytes(usage.get("is_byok", b"")) != b"true":
        return amount
    return amount + (_amount_at(usage, cost.own_key, cost.per_usd) or 0)


def _amount_at(members: Members, path: tuple[str, ...], per_usd: int) -> int | None:
    for name in path[:-1]:
        members = open_members(members.get(name, msgspec.Raw(b"null"))) or {}
    raw = members.get(path[-1])
    return None if raw is None else read_amount(bytes(raw).decode("utf-8", "replace").strip('"'), per_usd)


def _unknown(fields: Mapping[str, object]) -> tuple[str, ...]:
    names: list[str] = []
    for group, known in _KNOWN.items():
        part = fields.get(group) if group else fields
        if isinstance(part, dict) and not part.keys() <= known:
            names.extend(f"{group}.{name}" if group else name for name in part if name not in known)
    return tuple(name[:64] for name in names[:UNKNOWN_FIELDS_MAX])


class _Reading:
    """One usage object being read; `fault` is the first contradiction met."""

    __slots__ = ("_fields", "_reasoning_outside", "fault", "reasoning")

    def __init__(self, fields: Mapping[str, object], reasoning_outside: bool = False) -> None:
        self._fields = fields
        self._reasoning_outside = reasoning_outside
        self.fault = ""
        self.reasoning = 0

    def meters(self, has_output: bool) -> dict[Meter, int]:
        prompt = self._required("prompt_tokens")
        output, output_audio = self._output(has_output)
        outside = self._outside(has_output)
        self._check_total(prompt, output + output_audio)
        cached, cached_audio = self._cached()
        details = self._part(self._fields, _PROMPT_DETAILS)
        written = self._count(details, "cache_write_tokens")
        audio = self._count(details, "audio_tokens")
        rest = prompt - cached - written - audio + cached_audio
        if rest < 0:
            self._fail(f"prompt_tokens {prompt} is less than its cached {cached}, written {written} and audio {audio}")
        if cached_audio > min(cached, audio):
            self._fail(f"cached audio {cached_audio} is more than cached {cached} or audio {audio}")
        return {
            Meter.INPUT: rest,
            Meter.CACHE_READ: cached - cached_audio,
            Meter.CACHE_WRITE: written,
            Meter.INPUT_AUDIO: audio - cached_audio,
            Meter.CACHE_READ_AUDIO: cached_audio,
            Meter.OUTPUT: output + outside,
            Meter.OUTPUT_AUDIO: output_audio,
        }

    def _cached(self) -> tuple[int, int]:
        """Cached tokens, and how many of them are audio. DeepSeek names the same number `prompt_cache_hit_tokens`."""
        details = self._part(self._fields, _PROMPT_DETAILS)
        if details.get("cached_tokens") is None:
            return self._count(self._fields, "prompt_cache_hit_tokens"), 0
        by_kind = self._part(details, "cached_tokens_details")
        return self._count(details, "cached_tokens"), self._count(by_kind, "audio_tokens")

    def _output(self, has_output: bool) -> tuple[int, int]:
        if not has_output:
            if self._count(self._fields, "completion_tokens"):
                self._fail("completion_tokens in a reply that has no output")
            return 0, 0
        completion = self._required("completion_tokens")
        details = self._part(self._fields, _COMPLETION_DETAILS)
        self.reasoning = self._count(details, "reasoning_tokens")
        audio = self._count(details, "audio_tokens")
        total = self._fields.get("total_tokens")
        prompt = self._fields.get("prompt_tokens")
        if self.reasoning and isinstance(prompt, int) and total == prompt + completion + self.reasoning:
            completion += self.reasoning  # xAI: reasoning stands beside completion_tokens, and only the total says so
        if self.reasoning > completion or audio > completion:
            self._fail(f"completion_tokens {completion} is less than its reasoning {self.reasoning} or audio {audio}")
        return completion - audio, audio

    def _outside(self, has_output: bool) -> int:
        """Reasoning that no other number of the usage holds."""
        if not has_output or not self._reasoning_outside:
            return 0
        self.reasoning = self._count(self._fields, "reasoning_tokens")
        return self.reasoning

    def _check_total(self, prompt: int, output: int) -> None:
        if self._fields.get("total_tokens") is None:
            return
        total = self._count(self._fields, "total_tokens")
        if total != prompt + output:
            self._fail(f"total_tokens {total} is not prompt {prompt} plus output {output}")

    def _required(self, name: str) -> int:
        if self._fields.get(name) is None:
            self._fail(f"{name} is missing")
        return self._count(self._fields, name)

    def _part(self, fields: Mapping[str, object], name: str) -> Mapping[str, object]:
        part = fields.get(name)
        if part is None:
            return {}
        if not isinstance(part, dict):
            self._fail(f"{name} is not an object")
            return {}
        return part

    def _count(self, fields: Mapping[str, object], name: str) -> int:
        value = fields.get(name)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= COUNT_MAX:
            self._fail(f"{name} is not a whole number from 0 to {COUNT_MAX}")
            return 0
        return value

    def _fail(self, fault: str) -> None:
        self.fault = self.fault or fault
