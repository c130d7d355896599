"""The upstream port on aiohttp: the oracle. It does what `httptools_client` does on a library that others wrote, so
that one contract suite can tell a promise from an accident.

What it adds to the library: nothing from the environment and no redirect is followed, only checked addresses are
connected to, bodies come as the provider sent them, every foreign error becomes one of ours with the question answered
that money needs (was anything sent?), and giving up closes the socket at once instead of returning it to a pool with a
running, billing call on it.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.core.addresses import literal_address
from gateway.core.errors import (
    AttemptFailed,
    UpstreamInvalidReply,
    UpstreamLost,
    UpstreamNotStarted,
    UpstreamTimeout,
)
from gateway.core.upstream import UpstreamReply, UpstreamRequest
from gateway.upstream.failures import connect_time_out, shutting_down, too_large, unresolvable
from gateway.upstream.framing import HEADER_LINE_BYTES_MAX, HEADERS_MAX
from gateway.upstream.member import UpstreamMember
from gateway.upstream.prepared import header_lines
from gateway.upstream.resolving import Resolve, Resolving, check_address, system_resolve
from gateway.upstream.target import proxy_of, target_of
from gateway.upstream.tls import make_context

_BODY_BYTES_AT_ONCE = 256 * 1024
_NO_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

PoolKey = tuple[str, str, str, str, str, tuple[str, ...], float, int]


class _Call:
    """A call of which a connection has been had, or not yet."""

    __slots__ = ("on_sent", "request", "sent")

    def __init__(self, request: UpstreamRequest, on_sent: Callable[[], None] | None) -> None:
        self.request = request
        self.on_sent = on_sent
        self.sent = False


_CALL: ContextVar[_Call] = ContextVar("call")
"""The call of this task; aiohttp builds its requests itself, so it cannot be an argument."""


class _AnnouncedRequest(aiohttp.ClientRequest):
    """Says that a connection has been had and the request is being written now."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        call = _CALL.get()
        endpoint = call.request.endpoint
        peer = conn.transport.get_extra_info("peername") if conn.transport is not None else None
        if isinstance(peer, tuple) and not endpoint.proxy:
            check_address(_where(call.request), peer[0], endpoint.networks)
        if call.on_sent is not None:
            call.on_sent()
        call.sent = True
        return await super().send(conn)


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp only addresses that may be connected to; a proxy is the operator's own choice."""

    def __init__(self, resolving: Resolving) -> None:
        self._resolving = resolving

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        request = _CALL.get().request
        if request.endpoint.proxy:
            found = await self._resolving.unchecked(f"The proxy of {request.endpoint.pool}", host)
        else:
            found = await self._resolving.addresses(_where(request), host, request.endpoint.networks)
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in found
        ]

    async def close(self) -> None:
        """The questions are the client's, which has several sessions."""


class AiohttpUpstream:
    """One aiohttp session and connector for each way to connect, opened when it is first needed."""

    def __init__(self, resolve: Resolve = system_resolve) -> None:
        self._resolving = Resolving(resolve)
        self._sessions: dict[PoolKey, aiohttp.ClientSession] = {}
        self._timeouts: dict[tuple[float, float, float], aiohttp.ClientTimeout] = {}
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self._closed = False

    async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
        """The reply at its head. Raises as core.ports.Upstream says; UpstreamInvalidReply when it is no HTTP."""
        call = _Call(request, on_sent)
        _check(request)
        told = _CALL.set(call)
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
            raise attempt_failed(error, request, sent=call.sent) from error
        finally:
            _CALL.reset(told)
        return AiohttpReply(response, request)

    async def close(self) -> None:
        self._closed = True
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()
        await self._resolving.close()

    def _session(self, request: UpstreamRequest) -> aiohttp.ClientSession:
        endpoint = request.endpoint
        key = (
            endpoint.pool,
            endpoint.ca_bundle,
            endpoint.client_certificate,
            endpoint.proxy,
            endpoint.unix_socket,
            endpoint.networks,
            endpoint.keepalive_s,
            endpoint.connections_max,
        )
        session = self._sessions.get(key)
        if session is None:
            if self._closed:
                raise shutting_down()
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
        endpoint = request.endpoint
        reuse = endpoint.keepalive_s > 0
        keepalive_s = endpoint.keepalive_s if reuse else None
        limit = endpoint.connections_max
        if endpoint.unix_socket:
            return aiohttp.UnixConnector(
                endpoint.unix_socket, limit=limit, force_close=not reuse, keepalive_timeout=keepalive_s
            )
        return aiohttp.TCPConnector(
            ssl=self._tls(endpoint.ca_bundle, endpoint.client_certificate),
            limit=limit,
            resolver=_CheckedResolver(self._resolving),
            use_dns_cache=False,
            force_close=not reuse,
            keepalive_timeout=keepalive_s,
        )

    def _tls(self, ca_bundle: str, client_certificate: str) -> ssl.SSLContext:
        key = (ca_bundle, client_certificate)
        if key not in self._contexts:
            self._contexts[key] = make_context(ca_bundle, client_certificate)
        return self._contexts[key]

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


def _check(request: UpstreamRequest) -> None:
    """What the library would let pass. Raises UpstreamNotStarted."""
    endpoint = request.endpoint
    target = target_of(endpoint)
    proxy_of(endpoint)
    header_lines(endpoint.headers + request.headers, endpoint.pool)
    if not endpoint.unix_socket and literal_address(target.host):  # of those the library asks no resolver
        check_address(target.where, literal_address(target.host), endpoint.networks)


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
            raise too_large(_where(self._request), limit_bytes)
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                self.abort()
                raise too_large(_where(self._request), limit_bytes)
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


def _where(request: UpstreamRequest) -> str:
    """Pool, host and port: never the whole URL, which may hold a secret in its query or user part."""
    if request.endpoint.unix_socket:
        return f"{request.endpoint.pool} ({request.endpoint.unix_socket})"
    try:
        url = _url(request)
        return f"{request.endpoint.pool} ({url.host}:{url.port})"
    except ValueError:
        return request.endpoint.pool


def attempt_failed(error: Exception, request: UpstreamRequest, *, sent: bool = True) -> AttemptFailed:
    """The one place where aiohttp's errors become ours. What was provably not sent costs nothing (ADR 4), so a connect
    time-out is UpstreamNotStarted; in doubt it was sent. `extra["timeout"]` says which: `connect`, `idle`, `deadline`.
    """
    where = _where(request)
    match error:
        case aiohttp.ConnectionTimeoutError() | TimeoutError() if (
            isinstance(error, aiohttp.ConnectionTimeoutError) or not sent
        ):
            connect_s = min(request.endpoint.connect_timeout_s, _total_s(request))
            return connect_time_out(where, connect_s)
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
            return unresolvable(where)
        case aiohttp.ClientSSLError():
            return UpstreamNotStarted(
                f"{where}: TLS failed: {getattr(error.os_error, 'reason', '') or 'no handshake'}."
            )
        case _ if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError) or (
            request.endpoint.proxy and not sent and isinstance(error, aiohttp.ClientError | OSError)
        ):
            return UpstreamNotStarted(f"{where}: the proxy of {request.endpoint.pool} does not let us through.")
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()) if request.endpoint.url.startswith("https"):
            return UpstreamNotStarted(f"{where}: TLS failed: the connection was ended during the handshake.")
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
