"""One good body, reply and stream for every surface, for the contract test; and the pieces streams are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Example:
    """`stream` is empty for a surface that has none."""

    body: bytes
    reply: bytes
    stream: bytes


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
}
