"""What a provider's error says, whichever shape it has: OpenAI's object, a bare text, `detail`, `message`, HTML.

The body itself passes to the caller unchanged; this is for our own messages and books. The shapes met in the field are
in `tests/golden/providers/*/error.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gateway.core.quirks import ErrorFacts
from gateway.dialects.json_body import Members, is_null, text_of

MESSAGE_CHARS_MAX = 500
_DEPTH_MAX = 6
_ITEMS_MAX = 5

CODES = frozenset({
    "content_filter", "context_length_exceeded", "insufficient_quota", "invalid_api_key", "invalid_request",
    "model_not_found", "not_found", "overloaded", "permission_denied", "rate_limit_exceeded", "request_too_large",
    "server_error", "timeout",
})  # fmt: skip
"""Our words for why a provider refused; the closed set that records and labels may hold."""

_BY_STATUS = {
    401: "invalid_api_key", 402: "insufficient_quota", 403: "permission_denied", 404: "not_found", 408: "timeout",
    413: "request_too_large", 429: "rate_limit_exceeded", 503: "overloaded", 504: "timeout", 529: "overloaded",
}  # fmt: skip
_BY_WORD = {
    "context_length_exceeded": "context_length_exceeded",
    "exceed_context_size_error": "context_length_exceeded",
    "string_above_max_length": "context_length_exceeded",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    "model_not_found": "model_not_found",
    "deploymentnotfound": "model_not_found",
    "modelnotfound": "model_not_found",
    "model_not_available": "model_not_found",
    "unknown_model": "model_not_found",
    "invalid_model": "model_not_found",
    "insufficient_quota": "insufficient_quota",
    "insufficient_balance": "insufficient_quota",
    "budget_exceeded": "insufficient_quota",
    "credit_limit": "insufficient_quota",
    "invalid_api_key": "invalid_api_key",
    "rate_limit_exceeded": "rate_limit_exceeded",
    "too_many_requests_error": "rate_limit_exceeded",
    "request_too_large": "request_too_large",
    "overloaded": "overloaded",
}
"""By a vendor's `code` or `type`, in lower case."""

_BY_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"context (?:length|window|size)|maximum (?:context|prompt) length|prompt is too long|too many input tokens"
            r"|`inputs` tokens|exceeds? the (?:available|model's) (?:context|maximum)|input (?:is )?too long",
            re.IGNORECASE,
        ),
        "context_length_exceeded",
    ),
    (re.compile(r"insufficient (?:balance|credits?|quota|funds)|monthly included credits|run out of credits", re.I),
     "insufficient_quota"),
    (re.compile(r"content (?:management|moderation) policy|content.?filter", re.I), "content_filter"),
    (re.compile(r"model\b.{0,120}\b(?:not found|does not exist|not exist|is not available|not supported)", re.I),
     "model_not_found"),
    (re.compile(r"rate limit", re.I), "rate_limit_exceeded"),
)  # fmt: skip


def read_error(status: int, body: bytes) -> ErrorFacts:
    """The facts of an error reply with any body. Never raises."""
    try:
        value: object = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        value = None if body.lstrip()[:1] in (b"<", b"{", b"[") else body.decode("utf-8", "replace")
    message = _one_line(_message(value, _DEPTH_MAX))
    return ErrorFacts(message, _code(status, _words(value), message))


def in_band_error(members: Members) -> str:
    """The error that a 200's object holds in place of an answer; empty when it holds none.

    `{"error": …}` however it is shaped, and `{"object": "error", "message": …}`.
    """
    error = members.get("error")
    if error is not None and not is_null(error):
        return _text(error) or "an error without a message"
    if text_of(members.get("object")) == "error" and "choices" not in members:
        return _text(members.get("message", members["object"]))
    return ""


def event_error_text(data: bytes) -> str:
    """What an error event says, whatever its data is."""
    return _text(data) or "an error without a message"


def _text(raw: msgspec.Raw | bytes) -> str:
    """What a JSON value says; the JSON itself when it has no words."""
    try:
        value: object = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return _one_line(bytes(raw).decode("utf-8", "replace")) or "an error that is not valid JSON"
    said = _message(value, _DEPTH_MAX)
    return _one_line(said or msgspec.json.encode(value).decode())


def _message(value: object, depth: int) -> str:
    """The words of an error value: a text, or the first member that has some; of a list its items'."""
    match value:
        case str():
            return value
        case list() if depth:
            said = [text for item in value[:_ITEMS_MAX] if (text := _message(item, depth - 1))]
            return "; ".join(said)
        case dict() if depth:
            return _member_message(value, depth - 1)
    return ""


def _member_message(value: Mapping[str, object], depth: int) -> str:
    for name in ("error", "message", "detail", "details", "msg", "title", "code", "type"):
        said = _message(value.get(name), depth)
        if said:
            return f"{_place(value.get('loc'))}{said}{_raw_cause(value.get('metadata'))}"
    return ""


def _place(loc: object) -> str:
    """Where a validation error is: `body.messages.0: `."""
    return ".".join(str(step) for step in loc[:8]) + ": " if isinstance(loc, list) and loc else ""


def _raw_cause(metadata: object) -> str:
    """What the provider behind a router said (OpenRouter's `metadata.raw`)."""
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f": {raw}" if isinstance(raw, str) and raw else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_CHARS_MAX]


def _words(value: object) -> list[str]:
    """Codes and types of an error body, the innermost first."""
    found: list[str] = []
    layers: list[object] = [value]
    while layers and len(found) < 2 * _ITEMS_MAX:
        layer = layers.pop()
        if not isinstance(layer, dict):
            continue
        found[:0] = [word for name in ("code", "type", "error_type") if isinstance(word := layer.get(name), str)]
        layers += [layer.get("error"), layer.get("innererror")]
    return found


def _code(status: int, words: list[str], message: str) -> str:
    for word in words:
        if (known := _BY_WORD.get(word.lower())) is not None:
            return known
    if status < 500:
        for pattern, code in _BY_TEXT:
            if pattern.search(message):
                return code
    if (by_status := _BY_STATUS.get(status)) is not None:
        return by_status
    return "server_error" if status >= 500 else "invalid_request"
