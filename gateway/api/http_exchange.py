"""One model call on a connection of our own protocol: no ASGI messages in between.

It stands where uvicorn keeps the cycle of a connection, so pipelining, keep-alive and shutdown are uvicorn's. The head
of a whole answer waits for its body, and both are one write. The caller's leaving is a callback, not a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from gateway.api.bodies import BodyRoom
from gateway.api.headers import check_body_headers, read_headers, too_large
from gateway.core.call import AnswerHead
from gateway.core.errors import BadRequest, Overloaded, RequestTimeout

BODY_S = 60.0
BODY_BYTES_S = 1024
"""A body has a minute, or as long as it goes on at this rate."""
BODY_LOOK_S = 5.0
WRITE_STALL_S = 60.0
"""A caller that takes nothing for so long has gone: nobody's money is held for it any longer."""
LINGER_S = 2.0
LINGER_BYTES = 64 * 1024 * 1024
PROBES_S = (0.0, 0.05, 0.2, 1.0, 5.0)
"""When a caller that has ended its side is asked whether it still reads, s after that; then every 15 s (ADR 6)."""
PROBE_EVERY_S = 15.0
CHUNK_ZEROS_MAX = 4
"""A chunk's size may begin with zeros, but parsers bound its digits."""

_PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Wire(Protocol):
    """What an exchange asks of its connection."""

    @property
    def write_paused(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    async def writable(self) -> None:
        """Returns when the caller has taken enough of what was written, or has gone."""
        ...

    def close(self) -> None:
        """After what was written."""
        ...

    def abort(self) -> None: ...

    def answered(self) -> None:
        """The answer is written and the connection kept."""
        ...

    def date_line(self) -> bytes: ...


class HttpExchange:
    """core.ports.Exchange and its own core.ports.Disconnect."""

    __slots__ = (
        "_bodies",
        "_body",
        "_callback",
        "_chunked",
        "_complete",
        "_crowded",
        "_expects_continue",
        "_head",
        "_held_bytes",
        "_overflow",
        "_probes",
        "_size",
        "_timer",
        "_version_1_1",
        "_waiter",
        "_wire",
        "_zeros",
        "finished",
        "gone",
        "headers",
        "keep_alive",
        "raw_headers",
        "received_ns",
        "started",
    )

    def __init__(
        self,
        wire: Wire,
        raw: Sequence[tuple[bytes, bytes]],
        received_ns: int,
        bodies: BodyRoom,
        *,
        keep_alive: bool,
        version_1_1: bool,
        expects_continue: bool,
    ) -> None:
        self._wire = wire
        self.raw_headers = raw
        self.headers: Mapping[str, str] = {}
        self.received_ns = received_ns
        self.keep_alive = keep_alive
        self.gone = False
        self.started = False
        self.finished = False
        self._bodies = bodies
        self._held_bytes = 0
        self._crowded = False
        self._version_1_1 = version_1_1
        self._expects_continue = expects_continue
        self._body: list[bytes] = []
        self._size = 0
        self._overflow = False
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._callback: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._probes = 0
        self._zeros = 0
        self._head = b""
        self._chunked = False

    # ------------------------------------------------------------ what uvicorn's protocol reads of a cycle

    @property
    def response_complete(self) -> bool:
        return self.finished

    # ------------------------------------------------------------ what the connection tells

    def feed(self, data: bytes) -> None:
        """A part of the body. What comes after the answer, or over the limit, is thrown away."""
        self._size += len(data)
        if self.finished:
            if self._size > LINGER_BYTES:
                self._wire.abort()
        elif self._overflow or self._crowded:
            return
        elif self._size > self._bodies.one_bytes:
            self._overflow = True
            self._give_up_body()
        elif self._bodies.take(len(data)):
            self._held_bytes += len(data)
            self._body.append(data)
        else:
            self._crowded = True
            self._give_up_body()

    def _give_up_body(self) -> None:
        self._body.clear()
        self.release()
        self._wake()

    def release(self) -> None:
        """The call is over: its body's room is given back."""
        self._bodies.give(self._held_bytes)
        self._held_bytes = 0

    def whole(self) -> None:
        """The request has arrived to its end."""
        self._complete = True
        if self.finished:
            self._stop_timer()
            if not self.keep_alive:
                self._wire.close()
        self._wake()

    def left(self) -> None:
        """The caller has gone."""
        if self.gone or self.finished:
            self._stop_timer()
            return
        self.gone = True
        self._stop_timer()
        self._wake()
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def half_closed(self) -> None:
        """The caller has ended its side. It may still read, or be gone altogether: only writing tells."""
        self.keep_alive = False
        if not self._complete:
            self.left()
        elif self._version_1_1 and not self._probes:
            self._probe()

    def _probe(self) -> None:
        if self.gone or self.finished:
            return
        if not self.started:
            self._wire.write(_PROBE)
        elif self._chunked and self._zeros < CHUNK_ZEROS_MAX:
            self._zeros += 1
            self._wire.write(b"0")  # the size of the next chunk begins with it
        self._probes += 1
        number = self._probes
        wait_s = PROBES_S[number] - PROBES_S[number - 1] if number < len(PROBES_S) else PROBE_EVERY_S
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._probe)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ core.ports.Disconnect

    @property
    def disconnect(self) -> HttpExchange:
        return self

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self.gone:
            callback()
        else:
            self._callback = callback

    def forget(self) -> None:
        self._callback = None

    # ------------------------------------------------------------ core.ports.Exchange

    def read_headers(self) -> None:
        """Fills `headers`. Raises BadRequest."""
        self.headers = read_headers(self.raw_headers)

    async def body(self) -> bytes:
        check_body_headers(self.headers, self._bodies.one_bytes)
        if not self._complete:
            await self._rest()
        if self._overflow:
            raise too_large(self._size, self._bodies.one_bytes)
        if self._crowded:
            raise Overloaded(
                "This server holds as many request bodies as it may. Try again in a moment.",
                headers={"retry-after": "1"},
            )
        if len(self._body) != 1:
            self._body = [b"".join(self._body)]
        return self._body[0]  # and kept: a call that another worker must admit is passed on with it

    async def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        if self._expects_continue:
            self._expects_continue = False
            self._wire.write(_CONTINUE)
        begun_s = loop.time()
        while not self._arrived(loop.time() - begun_s):
            self._waiter = loop.create_future()
            timer = loop.call_later(BODY_LOOK_S, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                timer.cancel()

    def _arrived(self, took_s: float) -> bool:
        """Whether the body is here, or too much of it. Raises for a caller that went away or is too slow."""
        if self._complete or self._overflow or self._crowded:
            return True
        if self.gone:
            raise BadRequest("The connection was closed before the whole body had arrived.")
        if took_s > BODY_S and self._size < took_s * BODY_BYTES_S:
            raise RequestTimeout(
                f"The body did not arrive within {BODY_S:.0f} s, nor at {BODY_BYTES_S} bytes a second."
            )
        return False

    async def start(self, head: AnswerHead) -> None:
        self.started = True
        if self._expects_continue and not self._complete:
            self.keep_alive = False  # it may send the body it announced, or not: nobody can tell
        lines = [_STATUS.get(head.status) or b"HTTP/1.1 %d \r\n" % head.status, self._wire.date_line()]
        sized = False
        for name, value in head.headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                sized = True
        if not sized:
            self._chunked = self._version_1_1
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(lines)
        breaks = 3 + len(head.headers) + self._chunked + (not self.keep_alive)
        if self._head.count(b"\n") != breaks or self._head.count(b"\r") != breaks:
            raise ValueError("a header of an answer holds a line break")
        if not sized:
            self._emit(b"")

    def _emit(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if not self.gone:
            self._wire.write(head + data if head else data)

    async def write(self, data: bytes) -> None:
        if self.gone or not data:
            return
        self._zeros = 0
        self._emit(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._wire.write_paused:
            await self._drained()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(WRITE_STALL_S):
                await self._wire.writable()
        except TimeoutError:
            self._wire.abort()
            self.left()

    async def finish(self, data: bytes = b"") -> None:
        self._callback = None
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if data or self._head:
            self._emit(data)
        self.finished = True
        self._stop_timer()
        if self.gone:
            return
        if self.keep_alive:
            if not self._complete:
                self._linger()
            self._wire.answered()
        elif self._complete:
            self._wire.close()
        else:
            self._linger()

    def cut(self) -> None:
        """Ends an answer that will not be finished: its connection must not be taken for one that goes on."""
        self.finished = True
        self._stop_timer()
        self._wire.abort()

    def _linger(self) -> None:
        """The caller has its answer, but is still sending: closing now would reset the connection before it reads."""
        self._size = 0
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._wire.close)
