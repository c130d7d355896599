"""Everything that is not a model call goes to the desk over its Unix socket, so that users see one port."""

from __future__ import annotations

import asyncio

from gateway.api.exchange import BODY_TIMEOUT_S, Receive, Scope, Send
from gateway.core.errors import AttemptFailed, BodyTooLarge, DeskUnavailable, FaregateError, NotFound, RequestTimeout
from gateway.core.ports import Surface
from gateway.core.upstream import Endpoint, Upstream, UpstreamRequest

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
_OURS = _HOP_BY_HOP | {"date", "server", "x-faregate-client"}
_OURS_BYTES = frozenset(name.encode() for name in _OURS)
_TIMEOUT_S = 30.0


class _Gone(Exception):
    """The caller left before its whole request was here: a part of it must not be taken for all of it."""


class DeskRelay:
    """An ASGI application that sends each request on and streams the reply back. The desk authenticates it itself."""

    def __init__(self, upstream: Upstream, socket: str, errors: Surface, max_body_bytes: int) -> None:
        self._upstream = upstream
        self._socket = socket
        self._errors = errors
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._body(receive)
            reply = await self._upstream.send(self._request(scope, body))
        except _Gone:
            return
        except AttemptFailed as failure:
            unavailable = DeskUnavailable(
                f"The control plane is not answering ({failure.cause}). Model calls are served; try again shortly.",
                headers={"retry-after": "2"},
            )
            await self._error(send, unavailable)
            return
        except FaregateError as error:
            await self._error(send, error)
            return
        headers = [(name, value) for name, value in reply.raw_headers if name not in _OURS_BYTES]
        try:
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            async for chunk in reply.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            reply.abort()

    async def _body(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._receive_all(receive)
        except TimeoutError as error:
            raise RequestTimeout(f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s.") from error

    async def _receive_all(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise BodyTooLarge(f"The body is larger than the {self._max_body_bytes} bytes accepted here.")
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    def _request(self, scope: Scope, body: bytes) -> UpstreamRequest:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name.decode("latin-1") not in _OURS
        ]
        client = scope.get("client")
        headers.append(("x-faregate-client", client[0] if client else ""))
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if not path.startswith("/"):  # `OPTIONS *`; put behind the host it would become part of it
            raise NotFound("There is no such path here.")
        endpoint = Endpoint(
            pool="desk",
            url=f"http://desk{path}{'?' + query if query else ''}",
            method=scope["method"],
            timeout_s=_TIMEOUT_S,
            unix_socket=self._socket,
        )
        return UpstreamRequest(endpoint, tuple(headers), body)

    async def _error(self, send: Send, error: FaregateError) -> None:
        body = self._errors.error_body(error)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.extend((name.encode(), value.encode()) for name, value in error.headers.items())
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
