"""One HTTP exchange of the annex over ASGI: the body in, a reply or events out, the client's going, and a cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from gateway.annex.failures import Refusal

BODY_BYTES_MAX = 64 * 1024 * 1024
CUT_S = 1.0
TRANSPORT = "faregate.transport"
"""Key in the scope under which the server's protocol puts the connection: ASGI has no word for breaking it."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_EVENTS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


class Exchange:
    """Used by one task; `gone` may be awaited by another."""

    __slots__ = ("_gone", "_receive", "_scope", "_send", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._gone: asyncio.Task[Message] | None = None
        self.started = False

    async def body(self) -> bytes:
        """The whole body. Raises Refusal over 64 MiB, ConnectionResetError when the client goes first."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part = message.get("body", b"")
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise Refusal(413, f"The body is larger than {BODY_BYTES_MAX} bytes.", kind="invalid_request_error")
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    def gone(self) -> asyncio.Task[Message]:
        """Done when the client has gone. To be asked for once the body has been read."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._receive())
        return self._gone

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        sent = [_JSON, (b"content-length", str(len(body)).encode())]
        sent.extend((name.encode(), value.encode()) for name, value in (headers or {}).items())
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": sent})
        await self._send({"type": "http.response.body", "body": body})

    async def start_events(self) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_EVENTS)})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def cut(self) -> None:
        """Breaks the connection, and returns when that is done."""
        self._scope[TRANSPORT].abort()
        await asyncio.wait((self.gone(),), timeout=CUT_S)

    def end(self) -> None:
        if self._gone is not None:
            self._gone.cancel()
