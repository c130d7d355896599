"""The Responses surface's example for the contract test, and the pieces of which its streams are made."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(value: dict[str, Any], end: bytes = b"\n") -> bytes:
    """An event with the name that its data says."""
    return b"event: " + value["type"].encode() + end + b"data: " + compact(value) + end + end


def message(text: str = "héllo", status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}


def response(status: str = "completed", output: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """A response object as OpenAI prints it."""
    told = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "m-1",
        "output": [] if output is None else output,
        "previous_response_id": None,
        "service_tier": "default",
        "store": True,
        "usage": None,
    }
    return told | more


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    numbers = count()
    return [{"type": one["type"], "sequence_number": next(numbers)} | one for one in events]


def created(**more: Any) -> dict[str, Any]:
    return {"type": "response.created", "response": response("in_progress", **more)}


def delta(text: str, kind: str = "response.output_text.delta", **more: Any) -> dict[str, Any]:
    return {"type": kind, "content_index": 0, "delta": text, "item_id": "msg_1", "output_index": 0, **more}


def ended(kind: str = "completed", **more: Any) -> dict[str, Any]:
    told = response(kind, [message("hello")], **({"usage": USAGE} | more))
    return {"type": f"response.{kind}", "response": told}


def text_events(text: str = "hello") -> list[dict[str, Any]]:
    """One message of one part, in OpenAI's order, before the terminal event."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = message(text)
    part = item["content"][0]
    return [
        created(),
        {"type": "response.in_progress", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        delta(text, logprobs=[], obfuscation="x1"),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def stream_of(events: list[dict[str, Any]]) -> bytes:
    return b"".join(event(one) for one in numbered(events))


RESPONSE_BODY = compact({"model": "m", "input": "hi", "stream": True})
RESPONSE_REPLY = compact(response("completed", [message()], usage=USAGE))
COUNT_BODY = compact({"model": "m", "input": "hi"})
COUNT_REPLY = compact({"object": "response.input_tokens", "input_tokens": 9})
COMPACT_BODY = compact({"model": "m", "input": [{"role": "user", "content": "hi"}]})
COMPACT_REPLY = compact(
    {"id": "resp_1", "object": "response.compaction", "created_at": 1, "model": "m-1"}
    | {"output": [{"id": "cmp_1", "type": "compaction", "encrypted_content": "x"}], "usage": USAGE}
)
RESPONSE_STREAM = stream_of([*text_events(), ended()])
RESPONSE_TERMINAL = event(numbered([*text_events(), ended()])[-1])


def failing(error_body: bytes) -> bytes:
    """How a stream that never began says an error: the event, and what failed."""
    said = json.loads(error_body)["error"]
    first = event({"type": "error", "sequence_number": 0, "error": said})
    rest = b'event: response.failed\ndata: {"type":"response.failed","sequence_number":1,"response":{"id":"resp_none",'
    return first + rest
