"""Servers on raw sockets that do one wrong thing each, and a record of what reached them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.upstream import Endpoint, UpstreamRequest

HANG_S = 5.0
"""A hang guard, never a figure that a test is about."""


@dataclass
class Wire:
    """One connection as its server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen

    async def request(self) -> bytes:
        """The next request's head and body; empty when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = await self.reader.readexactly(length)
        self.seen.requests.append(head + body)
        return head + body

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Returns when the client has closed or reset the connection; notes it in `seen.closed`."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            self.seen.resets += 1
        self.seen.closed.set()

    def reset(self) -> None:
        """Ends the connection with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Seen:
    port: int = 0
    connections: int = 0
    resets: int = 0
    requests: list[bytes] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def ask(self, **more: object) -> UpstreamRequest:
        fields: dict[str, object] = {
            "pool": "test",
            "url": self.url,
            "headers": (("content-type", "application/json"), ("authorization", "Bearer sk-secret")),
            "body": b'{"model":"m"}',
            "connect_timeout_s": HANG_S,
            "timeout_s": HANG_S,
            "idle_timeout_s": HANG_S,
            "networks": ("loopback",),
        }
        fields |= more
        own = {name: fields.pop(name) for name in ("headers", "body")}
        return UpstreamRequest(Endpoint(**fields), **own)  # type: ignore[arg-type]


Behaviour = Callable[[Wire], Awaitable[None]]


@asynccontextmanager
async def serving(behaviour: Behaviour, *, unix_socket: str = "", tls: object = None) -> AsyncIterator[Seen]:
    """A server that does `behaviour` on each connection."""
    seen = Seen()
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await behaviour(Wire(reader, writer, seen))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            seen.resets += 1
        finally:
            running.discard(task)
            writer.transport.abort()

    if unix_socket:
        server = await asyncio.start_unix_server(handle, unix_socket)
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
        seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def replying(data: bytes, *, then_close: bool = False) -> Behaviour:
    """Answers every request with the same bytes."""

    async def behave(wire: Wire) -> None:
        while await wire.request():
            await wire.say(data)
            if then_close:
                return
        wire.seen.closed.set()

    return behave


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), b"content-type: application/json", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + (b"0\r\n\r\n" if end else b"")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
