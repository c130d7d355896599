"""Real servers in the test's own event loop: uvicorn as our processes run it, on a port or a Unix socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gateway.api.exchange import AsgiApp
from gateway.api.plane import DataPlane
from gateway.api.protocol import protocol_class
from gateway.api.server import Server

HANG_S = 20.0


@asynccontextmanager
async def serving(app: AsgiApp, unix_socket: Path | None = None, *, own: bool = True) -> AsyncIterator[int]:
    """Serves until the block ends; gives the port (0 for a Unix socket). `own`: a data plane with our own protocol."""
    started = asyncio.Event()
    config = uvicorn.Config(
        app,
        uds=str(unix_socket) if unix_socket else None,
        http=protocol_class(app) if own and isinstance(app, DataPlane) else "httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(config, started.set, lambda: None)
    sockets = None
    if unix_socket is None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        sockets = [listener]
    task = asyncio.create_task(server.serve(sockets=sockets))
    try:
        await asyncio.wait_for(started.wait(), HANG_S)
        yield sockets[0].getsockname()[1] if sockets else 0
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, HANG_S)
        for one in sockets or ():
            one.close()


@dataclass
class Received:
    """A reply as its bytes came: repeated headers are still there twice."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


async def send_raw(port: int, request: bytes) -> Received:
    """Sends bytes as they are (with `connection: close`) and reads the reply to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        raw = await asyncio.wait_for(reader.read(), HANG_S)
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = [(pair[0].lower(), pair[-1]) for pair in pairs]
    if ("transfer-encoding", "chunked") in headers:
        body = _unchunked(body)
    return Received(int(first.split(" ")[1]), headers, body)


def _unchunked(body: bytes) -> bytes:
    """Raises ValueError for a body that was cut short."""
    whole = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return whole
        whole += rest[:length]
        body = rest[length + 2 :]


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: faregate.test", "connection: close", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
