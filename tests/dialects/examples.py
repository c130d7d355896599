"""One good body, reply and stream for every surface, for the contract test; and the pieces streams are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dialects import examples_messages
from dialects.examples_responses import (
    COMPACT_BODY,
    COMPACT_REPLY,
    COUNT_BODY,
    COUNT_REPLY,
    RESPONSE_BODY,
    RESPONSE_REPLY,
    RESPONSE_STREAM,
    RESPONSE_TERMINAL,
    failing,
)

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: Any) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def chunk(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **more}


def text_event(text: str, **more: Any) -> bytes:
    return event(chunk({"content": text}, **more))


def as_data(error_body: bytes) -> bytes:
    """An error inside a stream as chat says it."""
    return b"data: " + error_body + b"\n\n"


def as_error_event(error_body: bytes) -> bytes:
    """An error inside a stream as Messages say it."""
    return b"event: error\n" + as_data(error_body)


OPENAI_ERROR = {"message": "No money left.", "type": "budget_exceeded", "param": "model", "code": "budget_exceeded"}
ANTHROPIC_ERROR = {
    "type": "budget_exceeded", "message": "No money left.", "details": {"error_code": "budget_exceeded"},
    "param": "model",
}  # fmt: skip
COMMENT = b': faregate {"cost_usd":"0.00036","cost_state":"priced","request_id":"req_1"}\n\n'


@dataclass(frozen=True)
class Example:
    """`stream` is empty for a surface that has none; its last `held` events are not relayed, and end in `terminal`.

    `error` is what the example error is inside `error`, `in_stream` how a stream that has not begun begins to say an
    error's body, `heartbeat` and `comment` what is sent between events.
    """

    body: bytes
    reply: bytes
    stream: bytes
    finish: str = "stop"
    terminal: bytes = DONE
    held: int = 2
    error: dict[str, Any] = field(default_factory=lambda: OPENAI_ERROR)
    in_stream: Callable[[bytes], bytes] = as_data
    heartbeat: bytes = b": keep-alive\n\n"
    comment: bytes = COMMENT
    limits: bool = True
    """Whether a request can limit its output."""
    is_sound: bool = False
    """Its reply is no JSON, and tells nothing of itself."""


CHAT_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "héllo"}, "finish_reason": "stop"}],
    "usage": USAGE,
    "service_tier": "default",
}
USAGE_ONLY = event({"id": "chatcmpl-1", "model": "m-1", "choices": [], "usage": USAGE})
CHAT_STREAM = (
    event(chunk({"role": "assistant", "content": ""}, usage=None))
    + text_event("hello", usage=None)
    + event(chunk({}, "stop", usage=None))
    + USAGE_ONLY
    + DONE
)
EXAMPLES = {
    "chat.completions": Example(
        compact({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}),
        compact(CHAT_REPLY),
        CHAT_STREAM,
    ),
    "completions": Example(
        compact({"model": "m", "prompt": "hi", "stream": True}),
        compact(
            {"id": "cmpl-1", "model": "m-1", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}
            | {"usage": USAGE}
        ),
        event({"id": "cmpl-1", "model": "m-1", "choices": [{"index": 0, "text": "abc", "finish_reason": None}]})
        + event({"id": "cmpl-1", "model": "m-1", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        + event({"id": "cmpl-1", "model": "m-1", "choices": [], "usage": USAGE})
        + DONE,
    ),
    "embeddings": Example(
        compact({"model": "m", "input": ["hi", "there"]}),
        compact(
            {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m-1"}
            | {"usage": {"prompt_tokens": 9, "total_tokens": 9}}
        ),
        b"",
    ),
    "messages": Example(
        examples_messages.MESSAGE_BODY,
        examples_messages.MESSAGE_REPLY,
        examples_messages.MESSAGE_STREAM,
        "end_turn",
        examples_messages.STOP,
        1,
        ANTHROPIC_ERROR,
        as_error_event,
        examples_messages.PING,
    ),
    "messages.count_tokens": Example(
        examples_messages.COUNT_BODY,
        b'{"input_tokens":9}',
        b"",
        error=ANTHROPIC_ERROR,
        in_stream=as_error_event,
        heartbeat=examples_messages.PING,
    ),
    "moderations": Example(
        compact({"model": "m", "input": ["hi"]}),
        compact({"id": "modr-1", "model": "m-1", "results": [{"flagged": False}]}),
        b"",
    ),
    "images.generations": Example(
        compact({"model": "m", "prompt": "a river", "size": "1024x1024"}),
        compact(
            {"created": 1, "model": "m-1", "data": [{"b64_json": "AAAA"}]}
            | {"usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}
        ),
        b"",
        limits=False,
    ),
    "audio.speech": Example(
        compact({"model": "m", "input": "a river", "voice": "alloy"}), b"ID3\x04", b"", limits=False, is_sound=True
    ),
    "responses": Example(
        RESPONSE_BODY, RESPONSE_REPLY, RESPONSE_STREAM, "completed", RESPONSE_TERMINAL, 1, in_stream=failing
    ),
    "responses.input_tokens": Example(COUNT_BODY, COUNT_REPLY, b"", in_stream=failing),
    "responses.compact": Example(COMPACT_BODY, COMPACT_REPLY, b"", in_stream=failing),
}
