"""Errors and comments in OpenAI's shape."""

from __future__ import annotations

import msgspec

from gateway.core.errors import FaregateError

_ENCODER = msgspec.json.Encoder()


def error_body(error: FaregateError) -> bytes:
    """`{"error": {message, type, param, code, …extra}}`; extra members never replace the four."""
    fields: dict[str, object] = {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    }
    return _ENCODER.encode({"error": fields | {k: v for k, v in error.extra.items() if k not in fields}})


def stream_error(error: FaregateError) -> bytes:
    """The error as a data event. No `[DONE]` follows: the SDKs raise on the event and stop."""
    return b"data: " + error_body(error) + b"\n\n"


def heartbeat() -> bytes:
    return b": keep-alive\n\n"


def usage_comment(cost_usd: str | None, cost_state: str, call_id: str) -> bytes:
    told = {"cost_usd": cost_usd, "cost_state": cost_state, "request_id": call_id}
    return b": faregate " + _ENCODER.encode(told) + b"\n\n"
