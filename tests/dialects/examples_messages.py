"""The Anthropic surfaces' examples for the contract test, and the pieces of which their streams are made."""

from __future__ import annotations

import json
from typing import Any

USAGE = {"input_tokens": 9, "output_tokens": 3}


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: dict[str, Any], end: bytes = b"\n") -> bytes:
    """An event with the name that its data says."""
    return b"event: " + value["type"].encode() + end + b"data: " + compact(value) + end + end


def message_start(**more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": []}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage, **more}}


def block_start(index: int = 0, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block or {"type": "text", "text": ""}}


def text(said: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": said}}


def thinking(said: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "thinking_delta", "thinking": said}}


def tool_input(said: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": said}}


def block_stop(index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def message_delta(reason: str | None = "end_turn", usage: Any = USAGE) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta} | ({} if usage is None else {"usage": usage})


STOP = event({"type": "message_stop"})
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

MESSAGE_BODY = compact(
    {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "stream": True}
)
COUNT_BODY = compact({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
MESSAGE_REPLY = compact(
    {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1"}
    | {"content": [{"type": "text", "text": "héllo"}], "stop_reason": "end_turn", "usage": USAGE}
)
MESSAGE_STREAM = (
    event(message_start())
    + event(block_start())
    + PING
    + event(text("hello"))
    + event(block_stop())
    + event(message_delta())
    + STOP
)
