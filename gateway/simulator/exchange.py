"""One HTTP exchange of the simulator over ASGI: the body in, the reply out, and whether the client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

_CUT_S = 1.0
BODY_BYTES_MAX = 64 * 1024 * 1024
TRANSPORT = "faregate.transport"
"""Key in the scope under which the server's protocol puts the connection, so that a fault can break it."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ENCODER = msgspec.json.Encoder()
_JSON = (b"content-type", b"application/json")


class Refused(Exception):
    """The request is answered with this status and OpenAI-shaped error."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.body = error_body(message, kind, code)


def error_body(message: str, kind: str, code: str | None) -> bytes:
    return _ENCODER.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


class Exchange:
    """`gone` is known as soon as the server tells; only a pause watches for it, so an instant reply costs no task."""

    __slots__ = ("_receive", "_scope", "_send", "_watch", "headers")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[Message] | None = None
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

    async def body(self) -> bytes:
        """The whole body. Raises Refused over 64 MiB, ConnectionResetError when the client goes first."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part = message.get("body", b"")
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise Refused(413, f"The body is larger than {BODY_BYTES_MAX} bytes.")
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    async def pause(self, seconds: float) -> bool:
        """Waits; False as soon as the client has gone."""
        if seconds <= 0:
            return not self.gone
        done, _ = await asyncio.wait((self._watching(),), timeout=seconds)
        return not done

    async def until(self, event: asyncio.Event) -> bool:
        """Waits for an event; False as soon as the client has gone."""
        if event.is_set():
            return not self.gone
        waiting = asyncio.ensure_future(event.wait())
        try:
            done, _ = await asyncio.wait((waiting, self._watching()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return waiting in done

    @property
    def query(self) -> str:
        return str(self._scope.get("query_string", b""), "latin-1")

    @property
    def gone(self) -> bool:
        return self._watch is not None and self._watch.done()

    def watch(self) -> None:
        """Begins to watch for the client's going, for a reply that is sent without pauses."""
        self._watching()

    def _watching(self) -> asyncio.Task[Message]:
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._receive())
        return self._watch

    async def start(self, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def reply(
        self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), content_type: bytes = b""
    ) -> None:
        kind = (b"content-type", content_type) if content_type else _JSON
        await self.start(status, (kind, (b"content-length", str(len(body)).encode()), *headers))
        await self.write(body, last=True)

    async def cut(self, *, reset: bool) -> None:
        """Breaks the connection: reset at once, or closed after what has been written. Returns when it is gone."""
        transport = self._scope.get(TRANSPORT)
        if transport is None:
            raise ConnectionAbortedError("this server gives no access to its connections")
        if reset:
            transport.abort()
        else:
            transport.close()
        await asyncio.wait((self._watching(),), timeout=_CUT_S)

    def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
