"""Errors in Anthropic's shape: `{"type": "error", "error": {type, message, details, …}, "request_id": …}`.

`error.type` is one of Anthropic's own words, by the status (docs.claude.com, errors), except for a spent budget, whose
clients must not take it for a bill they can pay. Our stable code is `details.error_code`, where the SDKs look for it
(anthropic-py 2.x picks the class of an error by status and that word, and by the status alone where it is new).
"""

from __future__ import annotations

import msgspec

from gateway.core.errors import BudgetExceeded, FaregateError, UpstreamServerError
from gateway.core.quirks import ErrorFacts
from gateway.dialects.openai_chat import provider_errors

_ENCODER = msgspec.json.Encoder()
_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    408: "timeout_error", 409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    502: "api_error", 503: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_OVERLOADED = "overloaded"
_OWN = frozenset({"type", "message", "details", "param", "code"})
_CODES = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "permission_error": "permission_denied",
    "not_found_error": "not_found",
    "request_too_large": "request_too_large",
    "rate_limit_error": "rate_limit_exceeded",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
}
"""Anthropic's words for a cause → ours; what is not here is told apart by text and status."""
_UNPAID = "credit balance is too low"


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    error: _Error


_BODY = msgspec.json.Decoder(_Body)


def error_body(error: FaregateError) -> bytes:
    """An error of our own. Extra members stand beside type and message and never replace them."""
    fields: dict[str, object] = {
        "type": _type_of(error),
        "message": error.message,
        "details": {"error_code": error.code},
    }
    if error.param is not None:
        fields["param"] = error.param
    body: dict[str, object] = {
        "type": "error",
        "error": fields | {name: value for name, value in error.extra.items() if name not in _OWN},
    }
    if error.request_id:
        body["request_id"] = error.request_id
    return _ENCODER.encode(body)


def _type_of(error: FaregateError) -> str:
    if isinstance(error, BudgetExceeded):
        return error.kind
    if error.code == _OVERLOADED or (isinstance(error, UpstreamServerError) and error.cause == "http_529"):
        return "overloaded_error"
    return _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")


def stream_error(error: FaregateError) -> bytes:
    """The error as an event. No `message_stop` follows: the SDKs raise on it and stop."""
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


def named_error(message: str) -> bytes:
    """An event in place of a provider's error event that has no name, which the SDKs would pass over."""
    said = {"type": "error", "error": {"type": "api_error", "message": message}}
    return b"event: error\ndata: " + _ENCODER.encode(said) + b"\n\n"


def heartbeat() -> bytes:
    return b'event: ping\ndata: {"type":"ping"}\n\n'


def read_error(status: int, body: bytes) -> ErrorFacts:
    """The facts of a provider's error reply, whatever its shape. Never raises."""
    facts = provider_errors.read_error(status, body)
    try:
        said = _BODY.decode(body).error
    except (ValueError, RecursionError):
        return facts
    code = facts.code
    if _UNPAID in said.message:
        code = "insufficient_quota"
    elif said.type in _CODES and code in ("invalid_request", "server_error", "not_found"):
        code = _CODES[said.type]
    return ErrorFacts(facts.message, code)
