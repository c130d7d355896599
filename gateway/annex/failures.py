"""How a call of the annex can fail, and what litellm's exceptions mean for the one who pays.

The worker books a call by what it sees of it: a status is a refusal that cost nothing, a connection that ends without
one may have been billed and is estimated. So the question is always: did the vendor get the call, and did it answer?
Exceptions are judged by name and attributes, because litellm wraps those of a dozen libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

import msgspec

from gateway.annex.environment import SECRET_CHARS_MIN

MESSAGE_CHARS_MAX = 2000
CAUSES_MAX = 10

_ENCODER = msgspec.json.Encoder()
_ANSWERED = "HTTPStatusError"
_CALLERS = frozenset({"SSRFError"})
"""What litellm refuses to fetch for a caller: an image on this network."""
_NOT_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError", "ConnectionTimeoutError"}
)
_IN_DOUBT = frozenset({
    "APITimeoutError", "ClientConnectionError", "ClientPayloadError", "ConnectionError", "TimeoutError",
    "TimeoutException", "TransportError",
})  # fmt: skip
_TRACEBACK = re.compile(r'Traceback \(most recent call last\)|\n\s*File "')
_FORWARDED = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})


class Refusal(Exception):
    """The call is answered with this status and an OpenAI-shaped body; the vendor does not bill it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "api_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:MESSAGE_CHARS_MAX]
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        said = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return _ENCODER.encode({"error": said})


class OutcomeUnknown(Exception):
    """The vendor may have worked and may bill: no status would be true, so the connection is cut."""


class Redactor:
    """Takes our secrets out of texts that vendors and libraries write."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[str]) -> None:
        kept = {secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}
        self._secrets = tuple(sorted(kept, key=len, reverse=True))

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class Progress(Enum):
    """How far litellm says it has come with a call."""

    PREPARING = 0
    SENT = 1
    ANSWERED = 2


def judged(error: Exception, redactor: Redactor, progress: Progress) -> Refusal | OutcomeUnknown:
    """What an exception of litellm means.

    A vendor's error status is believed where an HTTP client saw one. Without that, litellm's class tells a request it
    refused itself; everything else that comes after the request was sent is in doubt, a reply that litellm could not
    read above all.
    """
    message = _told(redactor.clean(str(getattr(error, "message", "") or str(error))), error)
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    answered = _vendor_status(error)
    if answered:
        return _refusal(error, answered, message)
    if names & _CALLERS:
        return Refusal(400, message, kind="invalid_request_error", code="invalid_request")
    if names & _NOT_SENT:
        return Refusal(502, message, code="vendor_unreachable")
    if names & _IN_DOUBT or progress is Progress.ANSWERED:
        return OutcomeUnknown(message)
    status = _status(error)
    if status < 500:
        return _refusal(error, status, message)
    if progress is Progress.SENT:
        return OutcomeUnknown(message)
    return Refusal(502, message, code="annex_failure")


def _told(text: str, error: Exception) -> str:
    """A message as callers may see it: litellm puts tracebacks with this machine's paths into some."""
    before = _TRACEBACK.split(text, maxsplit=1)[0].strip()
    return before or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, as far as CAUSES_MAX goes."""
    current: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _vendor_status(error: Exception) -> int:
    """The status of the reply that an HTTP client took for an error, or 0. The replies that litellm's own classes
    carry are made up."""
    for cause in _causes(error):
        if any(kind.__name__ == _ANSWERED for kind in type(cause).__mro__):
            return _status(getattr(cause, "response", None))
    return 0


def _status(error: object) -> int:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and 400 <= status <= 599 else 500


def _refusal(error: Exception, status: int, message: str) -> Refusal:
    status = 504 if status == 408 else status
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "api_error"
    code = getattr(error, "code", None)
    param = getattr(error, "param", None)
    return Refusal(
        status,
        message,
        kind=kind,
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
        headers=_forwarded(error),
    )


def _forwarded(error: Exception) -> dict[str, str]:
    """When to come again, as the vendor said it."""
    found: dict[str, str] = {}
    for source in (getattr(error, "litellm_response_headers", None), *map(_headers, _causes(error))):
        if isinstance(source, Mapping):
            for name, value in source.items():
                lower = str(name).lower()
                text = str(value)
                if lower in _FORWARDED and text.isascii() and text.isprintable():
                    found.setdefault(lower, text)
    return found


def _headers(error: BaseException) -> object:
    return getattr(getattr(error, "response", None), "headers", None)
