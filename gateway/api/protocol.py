"""The HTTP protocol of the public port: uvicorn's, with the bounds it does not have, and a short way for model calls.

A head may have 64 KiB and 10 s from its first byte; an idle connection 75 s. What is no HTTP is refused in the same
shape as everything else. All this is before authentication, so a stranger must not hold memory or the event loop.
A model call goes to the plane without ASGI between (`http_exchange`); every other request goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.bodies import BodyRoom
from gateway.api.http_exchange import HttpExchange
from gateway.api.routes import Route
from gateway.core.errors import BadRequest, FaregateError, HeadTooLarge, RequestTimeout

HEAD_BYTES = 64 * 1024
HEAD_S = 10.0
KEEP_ALIVE_S = 75.0
KEEPALIVE_PROBE_S = 30
"""After so much silence the kernel asks whether the other side still exists, four times at most."""
_NEVER = float("inf")


class Calls(Protocol):
    """What the plane offers to a connection."""

    @property
    def call_routes(self) -> Mapping[bytes, Route]:
        """Rows of model calls by their path as it is sent. All take POST."""
        ...

    @property
    def bodies(self) -> BodyRoom: ...

    def now_ns(self) -> int: ...

    def serve_call(self, exchange: HttpExchange, route: Route) -> Coroutine[Any, Any, None]: ...

    def raw_refusal(self, error: FaregateError) -> bytes:
        """The whole reply, status line included, to a request that never became one."""
        ...


class Connection(HttpToolsProtocol):
    """One connection. `_head_bytes` counts what has arrived of a head that is not complete yet. `_due_s` is when
    its one timer has something to do, which it finds out when it fires: nothing is scheduled per request. `in_head` is
    true between requests too: whatever comes next is a head."""

    cycle: Any
    calls: ClassVar[Calls]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self.in_head = True
        self._due_s = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._exchange: HttpExchange | None = None
        self._dated: list[tuple[bytes, bytes]] | None = None
        self._date_line = b""

    # -------------------------------------------------------- asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._mind(self.loop.time() + KEEP_ALIVE_S)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_PROBE_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_PROBE_S // 3)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.in_head and self._head_bytes:
            if self._head_bytes > HEAD_BYTES:
                self._end(HeadTooLarge(f"The request's head is larger than {HEAD_BYTES} bytes."))
            elif self._due_s > self.loop.time() + HEAD_S:
                self._mind(self.loop.time() + HEAD_S)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps the connection: a caller that has ended its side may still want its answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return None
        exchange = self._exchange
        if exchange is None or exchange.finished:
            return None
        exchange.half_closed()
        return not exchange.gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._due_s = _NEVER
        if self._timer is not None:
            self._timer.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self.cycle is exchange:
            self.cycle = None
        super().connection_lost(exc)
        if exchange is not None:
            exchange.left()

    # -------------------------------------------------------- the parser's callbacks

    def on_headers_complete(self) -> None:
        self.in_head = False
        self._head_bytes = 0
        self._due_s = _NEVER
        url = self.url
        route = self.calls.call_routes.get(url) or self.calls.call_routes.get(url.partition(b"?")[0])
        if route is None or self.parser.get_method() != b"POST" or self._busy():
            super().on_headers_complete()
            return
        version_1_1 = self.parser.get_http_version() == "1.1"
        exchange = self._exchange = HttpExchange(
            self,
            self.headers,
            self.calls.now_ns(),
            self.calls.bodies,
            keep_alive=version_1_1 and self.parser.should_keep_alive(),
            version_1_1=version_1_1,
            expects_continue=self.expect_100_continue,
        )
        self.cycle = exchange
        task = self.loop.create_task(self.calls.serve_call(exchange, route))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _busy(self) -> bool:
        """A request before this one has no answer yet: uvicorn keeps such ones in order."""
        return self.cycle is not None and not self.cycle.response_complete

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is not None and self.cycle is exchange:
            exchange.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_head = True
        exchange = self._exchange
        if exchange is not None and self.cycle is exchange:
            exchange.whole()
        else:
            super().on_message_complete()

    # -------------------------------------------------------- time

    def _mind(self, due_s: float) -> None:
        self._due_s = due_s
        timer = self._timer
        if timer is None or timer.when() > due_s:
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due_s == _NEVER or self.transport.is_closing():
            return
        if self.loop.time() < self._due_s:
            self._mind(self._due_s)
        elif self._head_bytes:
            self._end(RequestTimeout(f"The request's head did not arrive within {HEAD_S:.0f} s."))
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """uvicorn's, without its timer per answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._head_bytes:
            self._due_s = self.loop.time() + KEEP_ALIVE_S
            if self._timer is None:
                self._mind(self._due_s)

    # -------------------------------------------------------- Wire

    @property
    def write_paused(self) -> bool:
        return self.flow.write_paused

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def writable(self) -> None:
        await self.flow.drain()

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def answered(self) -> None:
        self.on_response_complete()

    def date_line(self) -> bytes:
        headers = self.server_state.default_headers
        if headers is not self._dated:  # another list each second
            self._dated = headers
            self._date_line = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._date_line

    # -------------------------------------------------------- refusals before a request

    def send_400_response(self, msg: str) -> None:
        self._end(BadRequest("This is not a valid HTTP/1.1 request."))

    def _end(self, error: FaregateError) -> None:
        self._due_s = _NEVER
        if not self.transport.is_closing():
            self.transport.write(self.calls.raw_refusal(error))
            self.transport.close()


def protocol_class(calls: Calls) -> type[Connection]:
    """The protocol of one plane's connections, as uvicorn wants it: a class."""
    return type("PlaneConnection", (Connection,), {"calls": calls})
