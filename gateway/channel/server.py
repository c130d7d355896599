"""Listening on a Unix socket that only this user may open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gateway.channel.frames import ChannelBroken, Connection
from gateway.channel.messages import Request
from gateway.core.errors import ConfigInvalid

MAX_PATH_BYTES = 100
"""A Unix socket's path is at most 107 bytes long, and it is bound under a longer name first."""
_BACKLOG = 64

Handler = Callable[[Connection[Request]], Awaitable[None]]
_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Listens while the context lasts, calling `handler` once per connection; its end closes the connection.

    A socket file left by a dead process is replaced; the last to listen has the path. Raises ConfigInvalid for a path
    too long for a socket.
    """
    listener, inode = _bind(path)
    running: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, msgspec.msgpack.Decoder(Request))
        task = asyncio.create_task(_serve_one(connection, handler))
        running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            connection.close()  # a task cancelled before its first step has run no `finally`

        task.add_done_callback(ended)

    server = await asyncio.start_unix_server(accepted, sock=listener)
    try:
        yield
    finally:
        server.close()
        _remove(path, inode)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def _serve_one(connection: Connection[Request], handler: Handler) -> None:
    try:
        await handler(connection)
    except ChannelBroken:
        _log.debug("a connection ended", exc_info=True)
    finally:
        connection.close()
        await connection.wait_closed()


def _bind(path: Path) -> tuple[socket.socket, int]:
    """A listening socket at `path`, and the number of its file."""
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigInvalid(
            f"{path} is too long for a Unix socket ({MAX_PATH_BYTES} bytes): choose a shorter FAREGATE_DATA_DIR"
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    temporary = path.with_name(f"{path.name}.{os.getpid() % 10_000}")
    try:
        temporary.unlink(missing_ok=True)
        listener.bind(os.fspath(temporary))
        # Nobody can connect before listen(), so there is no moment at which others may.
        temporary.chmod(0o600)
        listener.listen(_BACKLOG)
        temporary.rename(path)
    except OSError:
        listener.close()
        raise
    return listener, path.stat().st_ino


def _remove(path: Path, inode: int) -> None:
    """Removes our socket file, not that of a successor that has taken the path already."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()
