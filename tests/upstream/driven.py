"""A connection without a network: bytes are put into it as a transport would, so that every cut can be tried."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.errors import AttemptFailed
from gateway.upstream.connection import Connection, Owner, Reply

LIMIT = 100 * 1024 * 1024


class Line(asyncio.Transport):
    """Keeps what is written and says when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Told(Owner):
    """What an owner is told, in order."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[str] = []

    def released(self, connection: Connection) -> None:
        self.events.append("released")

    def ended(self, connection: Connection) -> None:
        self.events.append("ended")


@dataclass(frozen=True)
class Outcome:
    """`error` is the class's name, of the head or of the body; `kept`: the connection may be used again."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    error: str = ""
    kept: bool = False


def begun(head_only: bool = False) -> tuple[Connection, Line, Told, asyncio.Future[Reply]]:
    """A call whose request has been written."""
    loop = asyncio.get_running_loop()
    line, told = Line(), Told()
    connection = Connection(loop, "test")
    connection.owner = told
    connection.connection_made(line)
    now = loop.time()
    return connection, line, told, connection.start(b"POST / HTTP/1.1\r\n\r\n", b"", head_only, now, now + 60, 60, 60)


async def outcome(
    pieces: Sequence[bytes], *, head_only: bool = False, end: str = "", in_pieces: bool = False
) -> Outcome:
    """What becomes of a call whose reply arrives like this. `end`: nothing more, `eof` or `reset`."""
    connection, line, told, answer = begun(head_only)
    for piece in pieces:
        if not line.closed:
            connection.data_received(piece)
    kept = told.events == ["released"]
    if end == "eof" and not line.closed:
        connection.eof_received()
    if end and not told.events.count("ended"):
        connection.connection_lost(ConnectionResetError() if end == "reset" else None)
    try:
        if not answer.done():
            return Outcome(error="pending")
        reply = answer.result()
    except AttemptFailed as error:
        assert told.events == ["ended"]
        assert line.closed
        return Outcome(error=type(error).__name__)
    try:
        if in_pieces:
            body = b"".join([piece async for piece in reply.chunks()])
        else:
            body = await asyncio.wait_for(reply.read(LIMIT), 0.05)
    except AttemptFailed as error:
        assert told.events == ["ended"]
        assert line.closed
        return Outcome(reply.status, tuple(reply.raw_headers), error=type(error).__name__)
    except TimeoutError:
        return Outcome(reply.status, tuple(reply.raw_headers), error="pending")
    assert told.events in (["released"], ["ended"], ["released", "ended"]), "told once how it ended"
    assert line.closed == ("ended" in told.events)
    connection.abort()
    return Outcome(reply.status, tuple(reply.raw_headers), body, kept=kept)
