"""OpenAI's usage object → disjoint meters (money reference §1).

Cached, written and audio tokens are parts of `prompt_tokens`; audio and reasoning tokens are parts of
`completion_tokens`, as are rejected prediction tokens, which are billed. Parts are subtracted, never added. A part
larger than its whole, or a total that is not the sum, is a contradiction: it becomes `fault`, and nothing is guessed.
"""

from __future__ import annotations

import msgspec

from gateway.core.quirks import ReportedCost, read_amount
from gateway.core.usage import Meter, Usage, UsagePart
from gateway.dialects.counts import COUNT_MAX as COUNT_MAX
from gateway.dialects.counts import (
    NAME_CHARS_MAX,
    PARTS_MAX,
    RAW_BYTES_MAX,
    UNKNOWN_FIELDS_MAX,
    Counts,
    Fields,
    UsageFields,
    objects_of,
    said,
    summed,
    word_of,
)
from gateway.dialects.counts import merge_usage as merge_usage
from gateway.dialects.counts import open_usage as open_usage
from gateway.dialects.json_body import Members, open_members

_PROMPT_DETAILS = "prompt_tokens_details"
_COMPLETION_DETAILS = "completion_tokens_details"
BREAKDOWN = "usage_breakdown"
"""Where a reply says which models it was made by: Groq's compound ones."""
_WRITE_DETAILS = "cache_write_tokens_details"
_TOOL_DETAILS = "server_side_tool_usage_details"
_TOOLS: dict[str, Meter] = {
    "web_search_calls": Meter.WEB_SEARCH,
    "x_search_calls": Meter.X_SEARCH,
    "file_search_calls": Meter.FILE_SEARCH,
    "document_search_calls": Meter.FILE_SEARCH,
    "code_interpreter_calls": Meter.CODE_EXECUTION,
}
"""xAI's names. Its `mcp_calls` are free."""
_ADDED: dict[str, Meter] = {
    "citation_tokens": Meter.CITATION,
    "num_search_queries": Meter.WEB_SEARCH,
    "num_sources_used": Meter.SOURCES,
}
"""Billed besides prompt and completion, and in no total."""
_KNOWN = {
    "": frozenset({
        "prompt_tokens", "completion_tokens", "total_tokens", _PROMPT_DETAILS, _COMPLETION_DETAILS,
        "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
        "queue_time", "prompt_time", "completion_time", "total_time", "reasoning_tokens",
        "cost", "cost_details", "cost_in_usd_ticks", "is_byok", "search_context_size",
        "prompt_audio_seconds", _TOOL_DETAILS, "server_tool_use", *_ADDED,
    }),
    _PROMPT_DETAILS: frozenset({
        "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens", "video_tokens",
        "cached_tokens_details", _WRITE_DETAILS,
    }),
    _COMPLETION_DETAILS: frozenset({
        "reasoning_tokens", "audio_tokens", "text_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
        "image_tokens",
    }),
    _TOOL_DETAILS: frozenset({*_TOOLS, "mcp_calls"}),
    "server_tool_use": frozenset({"web_search_requests"}),
}  # fmt: skip


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
    fields, text = said(raw)
    reading = _Reading(fields, reasoning_outside)
    meters = reading.meters(has_output)
    return reading.usage(
        meters,
        text,
        served_tier=served_tier,
        reasoning_tokens=reading.reasoning,
        search_size=word_of(fields, "search_context_size"),
    )


def read_breakdown(usage: Usage, breakdown: msgspec.Raw | None, reasoning_outside: bool = False) -> Usage:
    """The usage with the model runs behind it: Groq's `usage_breakdown.models`, each with a usage and a model.

    Their sums replace the whole's meters where they are the same tokens; where they are not, that is a fault.
    """
    parts: list[UsagePart] = []
    unknown = list(usage.unknown_fields)
    runs = objects_of((open_usage(breakdown) or {}).get("models")) if breakdown is not None else []
    for run in runs[: PARTS_MAX + 1]:
        part = run.get("usage")
        reading = _Reading(part if isinstance(part, dict) else {}, reasoning_outside)
        meters = {meter: n for meter, n in reading.meters(has_output=True).items() if n}
        unknown.extend(f"{BREAKDOWN}.{name}"[:NAME_CHARS_MAX] for name in reading.unknown)
        if reading.fault:
            return msgspec.structs.replace(usage, meters={}, fault=f"{BREAKDOWN}: {reading.fault}")
        parts.append(UsagePart(word_of(run, "model"), word_of(run, "model"), meters))
    if not parts or usage.fault:
        return usage
    total = summed([part.meters for part in parts])
    if len(runs) > PARTS_MAX or total != usage.meters:
        return msgspec.structs.replace(usage, meters={}, fault=f"{BREAKDOWN} is not the sum of its models")
    text = b'{"usage":' + (usage.raw or b"null") + b',"usage_breakdown":' + bytes(breakdown or b"null") + b"}"
    return msgspec.structs.replace(
        usage,
        parts=tuple(parts),
        unknown_fields=tuple(unknown[:UNKNOWN_FIELDS_MAX]),
        raw=text if len(text) <= RAW_BYTES_MAX else usage.raw,
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


class _Reading(Counts):
    """One usage object being read."""

    __slots__ = ("_fields", "_reasoning_outside", "reasoning")

    def __init__(self, fields: Fields, reasoning_outside: bool = False) -> None:
        super().__init__()
        self._fields = fields
        self._reasoning_outside = reasoning_outside
        self.reasoning = 0
        for group, names in _KNOWN.items():
            part = fields.get(group) if group else fields
            if isinstance(part, dict):
                self.known(part, names, group)

    def meters(self, has_output: bool) -> dict[Meter, int]:
        prompt = self.required(self._fields, "prompt_tokens")
        output, output_audio, output_image = self._output(has_output)
        outside = self._outside(has_output)
        spoken_s = self.seconds(self._fields, "prompt_audio_seconds")
        if not spoken_s:  # Mistral's audio has tokens in the total that are billed by the second instead
            self._check_total(prompt, output + output_audio + output_image)
        cached, cached_audio = self._cached()
        details = self.part(self._fields, _PROMPT_DETAILS)
        written = self.count(details, "cache_write_tokens")
        long_written = self._long_written(details, written)
        audio = self.count(details, "audio_tokens")
        rest = prompt - cached - written - audio + cached_audio
        if rest < 0:
            self.fail(f"prompt_tokens {prompt} is less than its cached {cached}, written {written} and audio {audio}")
        if cached_audio > min(cached, audio):
            self.fail(f"cached audio {cached_audio} is more than cached {cached} or audio {audio}")
        return {
            Meter.INPUT: rest,
            Meter.CACHE_READ: cached - cached_audio,
            Meter.CACHE_WRITE: written - long_written,
            Meter.CACHE_WRITE_12H: long_written,
            Meter.INPUT_AUDIO: audio - cached_audio,
            Meter.CACHE_READ_AUDIO: cached_audio,
            Meter.OUTPUT: output + outside,
            Meter.OUTPUT_AUDIO: output_audio,
            Meter.OUTPUT_IMAGE: output_image,
            Meter.AUDIO_SECONDS: spoken_s,
            **self._besides(),
        }

    def _besides(self) -> dict[Meter, int]:
        """What is billed by other counts than tokens of prompt and completion."""
        found = {meter: self.count(self._fields, name) for name, meter in _ADDED.items()}
        tools = self.part(self._fields, _TOOL_DETAILS)
        for name, meter in _TOOLS.items():
            found[meter] = found.get(meter, 0) + self.count(tools, name)
        searches = self.count(self.part(self._fields, "server_tool_use"), "web_search_requests")
        found[Meter.WEB_SEARCH] += searches
        return found

    def _cached(self) -> tuple[int, int]:
        """Cached tokens, and how many of them are audio. DeepSeek names the same number `prompt_cache_hit_tokens`."""
        details = self.part(self._fields, _PROMPT_DETAILS)
        if details.get("cached_tokens") is None:
            return self.count(self._fields, "prompt_cache_hit_tokens"), 0
        by_kind = self.part(details, "cached_tokens_details")
        return self.count(details, "cached_tokens"), self.count(by_kind, "audio_tokens")

    def _long_written(self, details: Fields, written: int) -> int:
        """How many of the written tokens live for twelve hours; the others live for thirty minutes."""
        by_life = self.part(details, _WRITE_DETAILS)
        long, short = self.count(by_life, "ttl_12h_tokens"), self.count(by_life, "ttl_30m_tokens")
        self.known(by_life, _LIVES, f"{_PROMPT_DETAILS}.{_WRITE_DETAILS}")
        if long + short > written:
            self.fail(f"cache_write_tokens {written} is less than its {short} for 30 minutes and {long} for 12 hours")
        return long

    def _output(self, has_output: bool) -> tuple[int, int, int]:
        """Completion tokens that are text, audio and images."""
        if not has_output:
            if self.count(self._fields, "completion_tokens"):
                self.fail("completion_tokens in a reply that has no output")
            return 0, 0, 0
        completion = self.required(self._fields, "completion_tokens")
        details = self.part(self._fields, _COMPLETION_DETAILS)
        self.reasoning = self.count(details, "reasoning_tokens")
        audio, image = self.count(details, "audio_tokens"), self.count(details, "image_tokens")
        total = self._fields.get("total_tokens")
        prompt = self._fields.get("prompt_tokens")
        if self.reasoning and isinstance(prompt, int) and total == prompt + completion + self.reasoning:
            completion += self.reasoning  # xAI: reasoning stands beside completion_tokens, and only the total says so
        if self.reasoning > completion or audio + image > completion:
            self.fail(
                f"completion_tokens {completion} is less than its reasoning {self.reasoning}, audio {audio} or "
                f"image {image}"
            )
        return completion - audio - image, audio, image

    def _outside(self, has_output: bool) -> int:
        """Reasoning that no other number of the usage holds."""
        if not has_output or not self._reasoning_outside:
            return 0
        self.reasoning = self.count(self._fields, "reasoning_tokens")
        return self.reasoning

    def _check_total(self, prompt: int, output: int) -> None:
        if self._fields.get("total_tokens") is None:
            return
        total = self.count(self._fields, "total_tokens")
        if total != prompt + output:
            self.fail(f"total_tokens {total} is not prompt {prompt} plus output {output}")


_LIVES = frozenset({"ttl_30m_tokens", "ttl_12h_tokens"})
