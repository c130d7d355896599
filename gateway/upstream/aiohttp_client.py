"""The upstream port on aiohttp.

What it adds to the library: nothing from the environment and no redirect is followed, bodies come as the provider sent
them, every foreign error becomes one of ours with the question answered that money needs (was anything sent?), and
giving up closes the socket at once instead of returning it to a pool with a running, billing call on it.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar

import aiohttp
from yarl import URL

from gateway.core.errors import (
    AttemptFailed,
    UpstreamInvalidReply,
    UpstreamLost,
    UpstreamNotStarted,
    UpstreamTimeout,
)
from gateway.core.upstream import UpstreamReply, UpstreamRequest
from gateway.upstream.member import UpstreamMember

CONNECTIONS_PER_POOL = 1000
HEADER_LINE_BYTES_MAX = 16 * 1024
HEADERS_MAX = 200
_DNS_CACHE_S = 10
_BODY_BYTES_AT_ONCE = 256 * 1024
_NO_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

PoolKey = tuple[str, str, str, str, float]


_ON_SENT: ContextVar[Callable[[], None] | None] = ContextVar("on_sent", default=None)
"""What the call of this task wants to be told; aiohttp builds its requests itself, so it cannot be an argument."""


class _AnnouncedRequest(aiohttp.ClientRequest):
    """Says that a connection has been had and the request is being written now."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        on_sent = _ON_SENT.get()
        if on_sent is not None:
            on_sent()
        return await super().send(conn)


class AiohttpUpstream:
    """One aiohttp session and connector for each way to connect, opened when it is first needed."""

    def __init__(self, connections_per_pool: int = CONNECTIONS_PER_POOL) -> None:
        self._connections_per_pool = connections_per_pool
        self._sessions: dict[PoolKey, aiohttp.ClientSession] = {}
        self._timeouts: dict[tuple[float, float, float], aiohttp.ClientTimeout] = {}
        self._closed = False

    async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
        """The reply at its head. Raises as core.ports.Upstream says; UpstreamInvalidReply when it is no HTTP."""
        told = _ON_SENT.set(on_sent)
        try:
            response = await self._session(request).request(
                request.endpoint.method,
                _url(request),
                headers=_headers(request),
                data=_body(request.body),
                timeout=self._timeout(request),
                proxy=request.endpoint.proxy or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, ValueError, TypeError) as error:
            raise attempt_failed(error, request) from error
        finally:
            _ON_SENT.reset(told)
        return AiohttpReply(response, request)

    async def close(self) -> None:
        self._closed = True
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    def _session(self, request: UpstreamRequest) -> aiohttp.ClientSession:
        key = (
            request.endpoint.pool,
            request.endpoint.ca_bundle,
            request.endpoint.proxy,
            request.endpoint.unix_socket,
            request.endpoint.keepalive_s,
        )
        session = self._sessions.get(key)
        if session is None:
            if self._closed:
                raise UpstreamNotStarted("The gateway is shutting down and opens no new connections.")
            session = self._sessions[key] = self._open(request)
        return session

    def _open(self, request: UpstreamRequest) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._connector(request),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NO_AUTO_HEADERS,
            auto_decompress=False,
            request_class=_AnnouncedRequest,
            trust_env=False,
            raise_for_status=False,
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )

    def _connector(self, request: UpstreamRequest) -> aiohttp.BaseConnector:
        reuse = request.endpoint.keepalive_s > 0
        keepalive_s = request.endpoint.keepalive_s if reuse else None
        limit = self._connections_per_pool
        if request.endpoint.unix_socket:
            return aiohttp.UnixConnector(
                request.endpoint.unix_socket, limit=limit, force_close=not reuse, keepalive_timeout=keepalive_s
            )
        return aiohttp.TCPConnector(
            ssl=_tls(request.endpoint.ca_bundle),
            limit=limit,
            ttl_dns_cache=_DNS_CACHE_S,
            force_close=not reuse,
            keepalive_timeout=keepalive_s,
        )

    def _timeout(self, request: UpstreamRequest) -> aiohttp.ClientTimeout:
        key = (request.endpoint.connect_timeout_s, request.endpoint.idle_timeout_s, _total_s(request))
        timeout = self._timeouts.get(key)
        if timeout is None:
            connect_s, idle_s, total_s = key
            timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_read=idle_s)
            self._timeouts[key] = timeout
        return timeout


def _total_s(request: UpstreamRequest) -> float:
    return request.timeout_s or request.endpoint.timeout_s


def _url(asked: UpstreamRequest) -> URL:
    """As it was given: re-quoting would change a path that the desk has to see unchanged."""
    return URL(asked.endpoint.url, encoded=True)


def _body(body: bytes) -> bytes | io.BytesIO | None:
    """A large body goes in pieces, as the provider takes them: in one it would hold up the event loop."""
    if not body:
        return None
    return io.BytesIO(body) if len(body) > _BODY_BYTES_AT_ONCE else body


def _headers(request: UpstreamRequest) -> list[tuple[str, str]]:
    headers = [*request.endpoint.headers, *request.headers]
    if not any(name.lower() == "accept-encoding" for name, _ in headers):
        headers.append(("accept-encoding", "identity"))
    return headers


def _tls(ca_bundle: str) -> ssl.SSLContext | bool:
    """The system's trust, or only the given file's. Raises UpstreamNotStarted when that cannot be used."""
    if not ca_bundle:
        return True
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise UpstreamNotStarted(f"The ca_bundle {ca_bundle} cannot be used: {error.strerror or error}.") from error


class AiohttpReply:
    """A reply whose head has arrived."""

    __slots__ = ("_headers", "_request", "_response")

    def __init__(self, response: aiohttp.ClientResponse, request: UpstreamRequest) -> None:
        self._response = response
        self._request = request
        self._headers = {name.lower(): value for name, value in response.headers.items()}

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        return [(name.lower(), value) for name, value in self._response.raw_headers]

    async def read(self, limit_bytes: int) -> bytes:
        declared = self._headers.get("content-length", "")
        if declared.isdigit() and len(declared) < 20 and int(declared) > limit_bytes:
            self.abort()
            raise _too_large(self._request, limit_bytes)
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                self.abort()
                raise _too_large(self._request, limit_bytes)
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self) -> AsyncIterator[bytes]:
        return _Chunks(self, self._response.content, self._request)

    def abort(self) -> None:
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()


class _Chunks:
    """A class, not a generator: it must not depend on being closed, and a cancelled read ends the provider's work."""

    __slots__ = ("_content", "_reply", "_request")

    def __init__(self, reply: AiohttpReply, content: aiohttp.StreamReader, request: UpstreamRequest) -> None:
        self._reply = reply
        self._content = content
        self._request = request

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._reply.abort()
            raise attempt_failed(error, self._request) from error
        except asyncio.CancelledError:
            self._reply.abort()
            raise
        if not chunk:
            raise StopAsyncIteration
        return chunk


def _too_large(request: UpstreamRequest, limit_bytes: int) -> UpstreamInvalidReply:
    return UpstreamInvalidReply(f"{_where(request)} sent a reply larger than {limit_bytes} bytes.")


def _where(request: UpstreamRequest) -> str:
    """Pool, host and port: never the whole URL, which may hold a secret in its query or user part."""
    if request.endpoint.unix_socket:
        return f"{request.endpoint.pool} ({request.endpoint.unix_socket})"
    try:
        url = _url(request)
        return f"{request.endpoint.pool} ({url.host}:{url.port})"
    except ValueError:
        return request.endpoint.pool


def attempt_failed(error: Exception, request: UpstreamRequest) -> AttemptFailed:
    """The one place where aiohttp's errors become ours. What was provably not sent costs nothing (ADR 4), so a connect
    time-out is UpstreamNotStarted; in doubt it was sent. `extra["timeout"]` says which: `connect`, `idle`, `deadline`.
    """
    where = _where(request)
    match error:
        case aiohttp.ConnectionTimeoutError():
            message = (
                f"{where} could not be connected to within {request.endpoint.connect_timeout_s:g} s (connect time-out)."
            )
            return UpstreamNotStarted(message, extra={"timeout": "connect"})
        case aiohttp.SocketTimeoutError():
            message = f"{where} sent nothing for {request.endpoint.idle_timeout_s:g} s (idle time-out)."
            return UpstreamTimeout(message, extra={"timeout": "idle"})
        case TimeoutError():
            message = f"{where} did not finish within {_total_s(request):g} s (total deadline)."
            return UpstreamTimeout(message, extra={"timeout": "deadline"})
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "certificate not valid for the host"
            return UpstreamNotStarted(f"{where}: TLS certificate refused: {reason}.")
        case aiohttp.ClientConnectorDNSError():
            return UpstreamNotStarted(f"{where}: the host name cannot be resolved.")
        case aiohttp.ClientSSLError():
            return UpstreamNotStarted(
                f"{where}: TLS failed: {getattr(error.os_error, 'reason', '') or 'no handshake'}."
            )
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UpstreamNotStarted(f"{where}: the proxy of {request.endpoint.pool} does not let us through.")
        case aiohttp.ClientConnectorError():
            return UpstreamNotStarted(f"{where} cannot be connected to: {error.os_error.strerror or 'refused'}.")
        case aiohttp.ServerFingerprintMismatch() | aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return UpstreamNotStarted(f"{request.endpoint.pool}: its base_url or certificate cannot be used.")
        case aiohttp.ClientResponseError():
            return UpstreamInvalidReply(f"{where} sent a reply that is not valid HTTP.")
        case aiohttp.ClientPayloadError():
            return UpstreamLost(f"{where} ended the connection in the middle of its reply.")
        case aiohttp.ClientError() | OSError():
            return UpstreamLost(f"{where} ended the connection before it replied.")
        case _:
            return UpstreamNotStarted(
                f"{request.endpoint.pool}: the request cannot be written as HTTP ({type(error).__name__})."
            )


MEMBER = UpstreamMember("aiohttp", AiohttpUpstream)
