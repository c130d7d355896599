"""One HTTP exchange over ASGI: the body within its limits, the answer, and a watch for the caller to go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from gateway.api.headers import check_body_headers, too_large
from gateway.core.call import AnswerHead
from gateway.core.errors import BadRequest, RequestTimeout

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S = 60.0
LINGER_S = 2.0
LINGER_BYTES = 64 * 1024 * 1024


class WatchedDisconnect:
    """core.ports.Disconnect by a task that waits on `receive` once the body has been read."""

    __slots__ = ("_callback", "_receive", "_task", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._callback: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.gone = False

    def watch(self) -> None:
        """Begins to watch; only sensible after the whole body has been received."""
        if self._task is None and not self.gone:
            self._task = asyncio.get_running_loop().create_task(self._wait(), name="disconnect")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.left()

    def left(self) -> None:
        """The caller has gone."""
        self.gone = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self.gone:
            callback()
        else:
            self._callback = callback

    def forget(self) -> None:
        self._callback = None

    def stop(self) -> None:
        """Ends watching; called when the exchange is over."""
        self._callback = None
        if self._task is not None:
            self._task.cancel()
            self._task = None


class AsgiExchange:
    """core.ports.Exchange. `max_body_bytes` bounds the request body."""

    __slots__ = (
        "_max_body_bytes",
        "_receive",
        "_send",
        "_unread",
        "disconnect",
        "finished",
        "headers",
        "received_ns",
        "started",
    )

    def __init__(
        self, headers: Mapping[str, str], receive: Receive, send: Send, received_ns: int, max_body_bytes: int
    ) -> None:
        self.headers = headers
        self.received_ns = received_ns
        self.disconnect = WatchedDisconnect(receive)
        self.started = False
        self.finished = False
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def body(self) -> bytes:
        check_body_headers(self.headers, self._max_body_bytes)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await self._receive_all(self._max_body_bytes)
        except TimeoutError as error:
            raise RequestTimeout(f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s.") from error
        self._unread = False
        self.disconnect.watch()
        return body

    async def _receive_all(self, limit: int) -> bytes:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            return self._bounded(whole, limit)
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                self.disconnect.left()
                raise BadRequest("The connection was closed before the whole body had arrived.")
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large(size, limit)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self._receive()

    def _bounded(self, whole: bytes, limit: int) -> bytes:
        if len(whole) > limit:
            raise too_large(len(whole), limit)
        return whole

    async def start(self, head: AnswerHead) -> None:
        self.started = True
        await self._emit({"type": "http.response.start", "status": head.status, "headers": list(head.headers)})

    async def write(self, data: bytes) -> None:
        await self._emit({"type": "http.response.body", "body": data, "more_body": True})

    async def _emit(self, message: Message) -> None:
        if not self.disconnect.gone:
            try:
                await self._send(message)
            except OSError:  # how a server may tell that the caller has gone (ASGI 2.4)
                self.disconnect.left()

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        self.disconnect.forget()
        if self._unread and not self.disconnect.gone:
            await self.write(data)
            await self._linger()
            data = b""
        await self._emit({"type": "http.response.body", "body": data})

    async def _linger(self) -> None:
        """The caller has its answer, but is still sending: closing now would reset the connection before it reads."""
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except TimeoutError:
            return
