"""The short way through a reply of the usual form: typed decoding in two steps instead of a walk over its members.

Whatever is not quite usual (a tool's fee, several model runs, an unknown member, a contradiction) is left to `reply`
and `usage`, which read everything. Where this gives facts they are the same as theirs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.counts import COUNT_MAX, NAME_CHARS_MAX, RAW_BYTES_MAX
from gateway.dialects.json_body import MAX_DEPTH

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Word = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
REFUSAL = "refusal"
_STANDARD_SPEEDS = (None, "", "standard")


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Reply(msgspec.Struct):
    type: str
    content: list[_Block]
    usage: msgspec.Raw
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    error: None = None


class _Lives(msgspec.Struct, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class _Thinking(msgspec.Struct, forbid_unknown_fields=True):
    thinking_tokens: Count = 0


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _Lives | None = None
    output_tokens_details: _Thinking | None = None
    server_tool_use: None = None
    iterations: None = None
    service_tier: Word | None = None
    inference_geo: Word | None = None
    speed: Word | None = None


_REPLY = msgspec.json.Decoder(_Reply)
_USAGE = msgspec.json.Decoder(_Usage)


def usual_reply(body: bytes) -> ReplyFacts | None:
    """The facts of a message of the usual form, None for any other body."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        return None
    try:
        reply = _REPLY.decode(body)
        usage = _USAGE.decode(reply.usage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if reply.type != "message" or len(reply.usage) > RAW_BYTES_MAX:
        return None
    size = 0
    for block in reply.content:
        if block.type != "text":
            return None
        size += len(block.text) if block.text.isascii() else len(block.text.encode("utf-8", "replace"))
    read = usual_usage(usage, bytes(reply.usage))
    if read is None:
        return None
    reason = reply.stop_reason or ""
    return ReplyFacts(
        usage=read,
        model_served=reply.model,
        finish_reason=reason,
        refusal=reason == REFUSAL,
        upstream_id=reply.id,
        output_bytes=size,
    )


def usual_usage(said: _Usage, raw: bytes) -> Usage | None:
    """The usage of one model run, None where its numbers contradict each other."""
    lives, details = said.cache_creation, said.output_tokens_details
    thinking = 0 if details is None else details.thinking_tokens
    short, long = (0, 0) if lives is None else (lives.ephemeral_5m_input_tokens, lives.ephemeral_1h_input_tokens)
    written = said.cache_creation_input_tokens
    if written is None:
        written = short + long
    if said.speed not in _STANDARD_SPEEDS or short + long > written or thinking > said.output_tokens:
        return None
    meters = {Meter.INPUT: said.input_tokens} if said.input_tokens else {}
    if said.cache_read_input_tokens:
        meters[Meter.CACHE_READ] = said.cache_read_input_tokens
    if written > long:
        meters[Meter.CACHE_WRITE] = written - long
    if long:
        meters[Meter.CACHE_WRITE_1H] = long
    if said.output_tokens:
        meters[Meter.OUTPUT] = said.output_tokens
    return Usage(meters, UsageSource.PROVIDER, thinking, raw, said.service_tier or "", region=said.inference_geo or "")
