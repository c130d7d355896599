"""An endpoint made ready for many requests: all that is the same for each of them is rendered once."""

from __future__ import annotations

import asyncio
import base64
import re

from gateway.core.errors import UpstreamNotStarted
from gateway.core.upstream import Endpoint, UpstreamRequest
from gateway.upstream.pool import Pool
from gateway.upstream.target import ProxyAddress, Target

_NO_BODY_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})
"""Without a body these send no content-length either; for others it says that the body is empty."""
_HEADER_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_NAMES_MAX = 64
"""Names of requests' own headers that an endpoint remembers to be harmless."""
_IDENTITY = b"accept-encoding: identity\r\n"


class Prepared:
    """What a client keeps for one Endpoint object. The object is held, so that its identity stays its own."""

    __slots__ = (
        "_has_encoding",
        "_headers",
        "_host",
        "_line",
        "_names",
        "_silent_when_empty",
        "_usual",
        "endpoint",
        "head_only",
        "now",
        "pool",
    )

    def __init__(self, endpoint: Endpoint, target: Target, proxy: ProxyAddress | None, pool: Pool) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.head_only = endpoint.method == "HEAD"
        self.now = asyncio.get_running_loop().time
        self._silent_when_empty = endpoint.method in _NO_BODY_METHODS
        plain_proxy = proxy is not None and target.scheme == "http"
        line = f"{endpoint.method} {f'http://{target.authority}' if plain_proxy else ''}{target.path} HTTP/1.1\r\n"
        headers = header_lines(endpoint.headers, endpoint.pool)
        if plain_proxy and proxy is not None:
            headers += proxy_authorization(proxy)
        self._names: set[str] = set()
        self._line = line.encode("latin-1")
        self._headers = headers
        names = b"\r\n" + headers.lower()
        self._has_encoding = b"\r\naccept-encoding:" in names
        self._host = b"" if b"\r\nhost:" in names else b"host: " + target.authority.encode() + b"\r\n"
        self._usual = self._line + self._host + headers + (b"" if self._has_encoding else _IDENTITY)

    def head(self, request: UpstreamRequest) -> bytes:
        """Everything before the body. Raises UpstreamNotStarted when a header would break out of its line."""
        length = len(request.body)
        framing = b"\r\n" if not length and self._silent_when_empty else b"content-length: %d\r\n\r\n" % length
        names = self._names
        for name, value in request.headers:
            if name not in names or not value.isprintable():
                return self._checked(request) + framing
        try:
            return self._usual + _text(request.headers).encode("ascii") + framing
        except UnicodeEncodeError:
            return self._checked(request) + framing

    def _checked(self, request: UpstreamRequest) -> bytes:
        """With headers that this endpoint has not seen yet. Those that only add a line are known from then on."""
        own = header_lines(request.headers, self.endpoint.pool)
        names = b"\r\n" + own.lower()
        if b"\r\nhost:" not in names and b"\r\naccept-encoding:" not in names:
            if len(self._names) < _NAMES_MAX:
                self._names.update(name for name, _ in request.headers)
            return self._usual + own
        host = b"" if b"\r\nhost:" in names else self._host
        identity = b"" if self._has_encoding or b"\r\naccept-encoding:" in names else _IDENTITY
        return self._line + host + self._headers + identity + own


def header_lines(headers: tuple[tuple[str, str], ...], pool: str) -> bytes:
    """Raises UpstreamNotStarted for what is no header, or says where the body ends: that is the client's to say."""
    text = _text(headers)
    try:
        lines = text.encode("latin-1")
    except UnicodeError:
        lines = text.encode("utf-8", "replace")
    names = b"\r\n" + lines.lower()
    if (
        not _HEADER_LINES.fullmatch(lines)
        or lines.count(b"\n") != len(headers)
        or b"\r\ncontent-length:" in names
        or b"\r\ntransfer-encoding:" in names
    ):
        raise UpstreamNotStarted(f"{pool}: a header of the request cannot be written as HTTP.")
    return lines


def _text(headers: tuple[tuple[str, str], ...]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def proxy_authorization(proxy: ProxyAddress) -> bytes:
    """The header that lets us through, or nothing."""
    if not proxy.credentials:
        return b""
    return b"proxy-authorization: Basic " + base64.b64encode(proxy.credentials.encode()) + b"\r\n"
