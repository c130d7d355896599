"""Usage of the Responses API → disjoint meters (money reference §1).

Cached and written tokens are disjoint parts of `input_tokens`; reasoning is a part of `output_tokens`. Tools that run
at the provider are billed besides: `tool_usage` says how many searches are billable and what an image cost, and what it
does not say is counted in the reply's items.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart
from gateway.dialects.counts import NO_FIELDS, Counts, Fields, UsageFields, fields_of, objects_of, said, summed, word_of

DEFAULT_IMAGE_MODEL = "gpt-image-1"
"""What the image tool uses where the reply does not say."""

_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TOOL_DETAILS = "server_side_tool_usage_details"
_TOOL_CALLS: dict[str, Meter] = {
    "web_search_calls": Meter.WEB_SEARCH,
    "x_search_calls": Meter.X_SEARCH,
    "file_search_calls": Meter.FILE_SEARCH,
    "document_search_calls": Meter.FILE_SEARCH,
    "code_interpreter_calls": Meter.CODE_EXECUTION,
}
"""xAI's names (docs.x.ai, cost tracking). Its `mcp_calls` are free."""
_USAGE = frozenset({
    "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens",
    "cost", "cost_details", "is_byok",  # OpenRouter
    "cost_in_usd_ticks", "num_sources_used", "num_server_side_tools_used", _TOOL_DETAILS,  # xAI
})  # fmt: skip
_INPUT = frozenset({
    "cached_tokens", "cache_write_tokens", "cache_write_tokens_details", "text_tokens", "image_tokens",
    "input_tokens_per_turn", "cached_tokens_per_turn",  # vLLM: what the sums are made of
})  # fmt: skip
_OUTPUT = frozenset({
    "reasoning_tokens", "text_tokens", "image_tokens",
    "output_tokens_per_turn", "tool_output_tokens", "tool_output_tokens_per_turn",  # vLLM
})  # fmt: skip
_LIVES = frozenset({"ttl_30m_tokens", "ttl_12h_tokens"})
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()


def read_usage(raw: bytes | msgspec.Raw | UsageFields, served_tier: str = "") -> Usage:
    """Usage from a `usage` object alone: of a batch, or of a reply without tools."""
    fields, text = said(raw)
    return _read(fields, text, served_tier, NO_FIELDS)


def reply_usage(reply: bytes | Fields) -> Usage | None:
    """Usage of a whole response object, its tools included; None when it carries none."""
    whole = fields_of(_decoded(reply))
    usage, tools = fields_of(whole.get("usage")), fields_of(whole.get("tool_usage"))
    if not usage:
        return None
    text = _ENCODER.encode({"usage": usage, "tool_usage": tools} if tools else usage)
    return _read(usage, text, word_of(whole, "service_tier"), whole)


class StreamUsage:
    """Usage out of a stream's events: the last event's response has it. `usage` is None until then."""

    __slots__ = ("usage",)

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> None:
        """The JSON of one event."""
        event = fields_of(_decoded(data))
        if word_of(event, "type") in _FINAL:
            self.usage = reply_usage(fields_of(event.get("response"))) or self.usage


def _decoded(text: bytes | Fields) -> object:
    if not isinstance(text, bytes):
        return text
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _read(fields: UsageFields | Fields, text: bytes, served_tier: str, reply: Fields) -> Usage:
    counts = Counts()
    meters, reasoning = _tokens(counts, fields)
    tools = counts.part(reply, "tool_usage")
    told = counts.part(fields, _TOOL_DETAILS)
    fees = _told_fees(counts, told, fields) if told else _fees(counts, tools, objects_of(reply.get("output")))
    image = _image(counts, tools)
    parts: list[UsagePart] = []
    if image:
        own = {meter: quantity for meter, quantity in (meters | fees).items() if quantity}
        parts = [UsagePart("response", "", own), UsagePart("image_gen", _image_model(reply), image)]
    return counts.usage(
        summed([meters, fees, image]), text, served_tier=served_tier, reasoning_tokens=reasoning, parts=parts
    )


def _tokens(counts: Counts, fields: Fields) -> tuple[dict[Meter, int], int]:
    counts.known(fields, _USAGE)
    taken, put_out = counts.required(fields, "input_tokens"), counts.required(fields, "output_tokens")
    details, given = counts.part(fields, "input_tokens_details"), counts.part(fields, "output_tokens_details")
    counts.known(details, _INPUT, "input_tokens_details")
    counts.known(given, _OUTPUT, "output_tokens_details")
    cached, written = counts.count(details, "cached_tokens"), counts.count(details, "cache_write_tokens")
    lives = counts.part(details, "cache_write_tokens_details")
    counts.known(lives, _LIVES, "input_tokens_details.cache_write_tokens_details")
    long, short = counts.count(lives, "ttl_12h_tokens"), counts.count(lives, "ttl_30m_tokens")
    reasoning = counts.count(given, "reasoning_tokens")
    if cached + written > taken:
        counts.fail(f"input_tokens {taken} is less than its cached {cached} and written {written}")
    if long + short > written:
        counts.fail(f"cache_write_tokens {written} is less than its {short} for 30 minutes and {long} for 12 hours")
    if reasoning > put_out:
        counts.fail(f"output_tokens {put_out} is less than its reasoning {reasoning}")
    total = counts.count(fields, "total_tokens")
    if fields.get("total_tokens") is not None and total != taken + put_out:
        counts.fail(f"total_tokens {total} is not input {taken} plus output {put_out}")
    return {
        Meter.INPUT: taken - cached - written,
        Meter.CACHE_READ: cached,
        Meter.CACHE_WRITE: written - long,
        Meter.CACHE_WRITE_12H: long,
        Meter.OUTPUT: put_out,
    }, reasoning


def _told_fees(counts: Counts, told: Fields, fields: Fields) -> dict[Meter, int]:
    """Calls of tools where the usage itself counts them."""
    counts.known(told, frozenset({*_TOOL_CALLS, "mcp_calls"}), _TOOL_DETAILS)
    found = {Meter.SOURCES: counts.count(fields, "num_sources_used")}
    for name, meter in _TOOL_CALLS.items():
        found[meter] = found.get(meter, 0) + counts.count(told, name)
    return {meter: quantity for meter, quantity in found.items() if quantity}


def _fees(counts: Counts, tools: Fields, items: Iterable[Fields]) -> dict[Meter, int]:
    """Calls of tools at the provider. A search item may have opened a page, which is not billed: `tool_usage` knows,
    and only without it the items' actions are counted."""
    counts.known(tools, frozenset({"web_search", "image_gen"}), "tool_usage")
    searches = counts.part(tools, "web_search")
    counts.known(searches, frozenset({"num_requests"}), "tool_usage.web_search")
    kinds = [(word_of(item, "type"), item) for item in items]
    seen = sum(kind == "web_search_call" and _searched(item) for kind, item in kinds)
    containers = {word_of(item, "container_id") for kind, item in kinds if kind == "code_interpreter_call"}
    shells = [fields_of(item.get("environment")) for kind, item in kinds if kind == "shell_call"]
    containers |= {name for shell in shells if (name := word_of(shell, "container_id"))}  # none: the caller's own shell
    drawn = sum(kind == "image_generation_call" for kind, _ in kinds)
    found = {
        Meter.WEB_SEARCH: counts.count(searches, "num_requests") if searches else seen,
        Meter.FILE_SEARCH: sum(kind == "file_search_call" for kind, _ in kinds),
        Meter.CODE_CONTAINER: len(containers),
        Meter.IMAGES: 0 if "image_gen" in tools else drawn,
    }
    return {meter: quantity for meter, quantity in found.items() if quantity}


def _searched(item: Fields) -> bool:
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type") in (None, "search")


def _image(counts: Counts, tools: Fields) -> dict[Meter, int]:
    """Tokens of the model that the image tool called."""
    fields = counts.part(tools, "image_gen")
    if not fields:
        return {}
    counts.known(fields, _USAGE, "tool_usage.image_gen")
    taken, put_out = counts.count(fields, "input_tokens"), counts.count(fields, "output_tokens")
    details, given = counts.part(fields, "input_tokens_details"), counts.part(fields, "output_tokens_details")
    counts.known(details, _INPUT, "tool_usage.image_gen.input_tokens_details")
    counts.known(given, _OUTPUT, "tool_usage.image_gen.output_tokens_details")
    seen, cached = counts.count(details, "image_tokens"), counts.count(details, "cached_tokens")
    written = counts.count(given, "text_tokens")
    if seen + cached > taken or written > put_out:
        counts.fail("tool_usage.image_gen is less than its parts")
    found = {
        Meter.INPUT: taken - seen - cached,
        Meter.INPUT_IMAGE: seen,
        Meter.CACHE_READ: cached,
        Meter.OUTPUT: written,
        Meter.OUTPUT_IMAGE: put_out - written,
    }
    return {meter: quantity for meter, quantity in found.items() if quantity}


def _image_model(reply: Fields) -> str:
    for tool in objects_of(reply.get("tools")):
        if tool.get("type") == "image_generation" and word_of(tool, "model"):
            return word_of(tool, "model")
    return DEFAULT_IMAGE_MODEL
