"""The short way through a response of the usual form: typed decoding in two steps instead of a walk over its members.

Whatever is not quite usual (a tool, reasoning, an unknown usage field, numbers that contradict each other, an error) is
left to `reply` and `usage`, which read everything. Where this gives facts they are the same as theirs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.counts import COUNT_MAX, RAW_BYTES_MAX
from gateway.dialects.json_body import MAX_DEPTH
from gateway.dialects.openai_chat.reply import text_bytes

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class _Part(msgspec.Struct):
    type: str
    text: msgspec.Raw


class _Message(msgspec.Struct):
    type: str
    content: list[_Part]
    summary: None = None
    arguments: None = None
    input: None = None


class _Response(msgspec.Struct):
    output: list[_Message]
    usage: msgspec.Raw
    id: str = ""
    model: str = ""
    object: str = ""
    status: str = ""
    service_tier: str | None = None
    error: None = None
    incomplete_details: None = None
    tool_usage: None = None


class _InputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0


class _OutputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reasoning_tokens: Count = 0


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count
    input_tokens_details: _InputDetails = _InputDetails()
    output_tokens_details: _OutputDetails = _OutputDetails()


_RESPONSE = msgspec.json.Decoder(_Response)
_USAGE = msgspec.json.Decoder(_Usage)


def usual_response(body: bytes) -> ReplyFacts | None:
    """The facts of a response of the usual form, None for any other body."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        return None
    try:
        reply = _RESPONSE.decode(body)
        usage = _USAGE.decode(reply.usage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if reply.object != "response" or len(reply.usage) > RAW_BYTES_MAX:
        return None
    size = 0
    for item in reply.output:
        if item.type != "message":
            return None
        for part in item.content:
            if part.type != "output_text":
                return None
            size += text_bytes(part.text)
    read = _usage(usage, bytes(reply.usage), reply.service_tier or "")
    if read is None:
        return None
    return ReplyFacts(
        usage=read,
        model_served=reply.model,
        finish_reason=reply.status,
        upstream_id=reply.id,
        output_bytes=size,
    )


def _usage(said: _Usage, raw: bytes, served_tier: str) -> Usage | None:
    cached, written = said.input_tokens_details.cached_tokens, said.input_tokens_details.cache_write_tokens
    reasoning, output = said.output_tokens_details.reasoning_tokens, said.output_tokens
    rest = said.input_tokens - cached - written
    if rest < 0 or reasoning > output or said.total_tokens != said.input_tokens + output:
        return None
    meters = {Meter.INPUT: rest} if rest else {}
    if cached:
        meters[Meter.CACHE_READ] = cached
    if written:
        meters[Meter.CACHE_WRITE] = written
    if output:
        meters[Meter.OUTPUT] = output
    return Usage(meters, UsageSource.PROVIDER, reasoning, raw, served_tier)
