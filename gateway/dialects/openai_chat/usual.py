"""The short way through a reply of the usual form: typed decoding in two steps instead of a walk over its members.

Whatever is not quite usual (an unknown usage field, audio, numbers that contradict each other, deep nesting, an error)
is left to `reply` and `usage`, which read everything. Where this gives facts they are the same as theirs.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.counts import COUNT_MAX, RAW_BYTES_MAX
from gateway.dialects.json_body import MAX_DEPTH

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
_NULL = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    content: msgspec.Raw = _NULL
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    reasoning_content: msgspec.Raw | None = None
    reasoning: msgspec.Raw | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: msgspec.Raw
    id: str = ""
    model: str = ""
    object: str = ""
    service_tier: str | None = None
    error: None = None
    usage_breakdown: None = None


class _PromptDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    audio_tokens: Annotated[int, msgspec.Meta(ge=0, le=0)] = 0


class _CompletionDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reasoning_tokens: Count = 0
    audio_tokens: Annotated[int, msgspec.Meta(ge=0, le=0)] = 0
    accepted_prediction_tokens: Count = 0
    rejected_prediction_tokens: Count = 0


class _Usage(msgspec.Struct, forbid_unknown_fields=True):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: _PromptDetails = _PromptDetails()
    completion_tokens_details: _CompletionDetails = _CompletionDetails()


_REPLY = msgspec.json.Decoder(_Reply)
_USAGE = msgspec.json.Decoder(_Usage)


def usual_reply(body: bytes) -> ReplyFacts | None:
    """The facts of a chat completion of the usual form, None for any other body."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        return None
    try:
        reply = _REPLY.decode(body)
        usage = _USAGE.decode(reply.usage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if len(reply.choices) != 1 or len(reply.usage) > RAW_BYTES_MAX:
        return None
    choice = reply.choices[0]
    message = choice.message
    text = bytes(message.content)
    if (
        message.refusal
        or message.tool_calls
        or message.reasoning is not None
        or message.reasoning_content is not None
        or b"\\" in text
        or not text.startswith((b'"', b"null"))
    ):
        return None
    read = _usage(usage, bytes(reply.usage), reply.service_tier or "")
    if read is None:
        return None
    return ReplyFacts(
        usage=read,
        model_served=reply.model,
        finish_reason=choice.finish_reason or "",
        upstream_id=reply.id,
        output_bytes=len(text) - 2 if text.startswith(b'"') else 0,
    )


def _usage(said: _Usage, raw: bytes, served_tier: str) -> Usage | None:
    details, reasoning = said.prompt_tokens_details, said.completion_tokens_details.reasoning_tokens
    cached, written, output = details.cached_tokens, details.cache_write_tokens, said.completion_tokens
    rest = said.prompt_tokens - cached - written
    if rest < 0 or reasoning > output or said.total_tokens != said.prompt_tokens + output:
        return None
    meters = {Meter.INPUT: rest} if rest else {}
    if cached:
        meters[Meter.CACHE_READ] = cached
    if written:
        meters[Meter.CACHE_WRITE] = written
    if output:
        meters[Meter.OUTPUT] = output
    return Usage(meters, UsageSource.PROVIDER, reasoning, raw, served_tier)
