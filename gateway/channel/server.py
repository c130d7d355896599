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


class UnixListener:
    """A listening socket that this user alone may open, under a name of its own until it takes another.

    Connections wait from its making on. Raises ConfigInvalid for a path too long for a socket, OSError.
    """

    def __init__(self, path: Path, backlog: int = _BACKLOG) -> None:
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise ConfigInvalid(
                f"{path} is too long for a Unix socket ({MAX_PATH_BYTES} bytes): choose a shorter FAREGATE_DATA_DIR"
            )
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self._path = path.with_name(f"{path.name}.{os.getpid() % 10_000}")
        try:
            self._path.unlink(missing_ok=True)
            self.socket.bind(os.fspath(self._path))
            # Nobody can connect before listen(), so there is no moment at which others may.
            self._path.chmod(0o600)
            self.socket.listen(backlog)
        except OSError:
            self.socket.close()
            raise
        self._inode = self._path.stat().st_ino

    def take(self, path: Path) -> None:
        """Its name is `path` from now on, in one step: who had it before has it no more, and at no moment is nobody
        there."""
        self._path.rename(path)
        self._path = path

    def remove(self) -> None:
        """Removes its file, not that of a successor that has taken the name already."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


Handler = Callable[[Connection[Request]], Awaitable[None]]
_log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Listens while the context lasts, calling `handler` once per connection; its end closes the connection.

    A socket file left by a dead process is replaced; the last to listen has the path. Raises ConfigInvalid for a path
    too long for a socket.
    """
    listener = UnixListener(path)
    listener.take(path)
    running: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, msgspec.msgpack.Decoder(Request))
        task = asyncio.create_task(_serve_one(connection, handler))
        running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            connection.close()  # a task cancelled before its first step has run no `finally`

        task.add_done_callback(ended)

    server = await asyncio.start_unix_server(accepted, sock=listener.socket)
    try:
        yield
    finally:
        server.close()
        listener.remove()
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
