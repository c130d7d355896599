"""Answers calls with 503 while no annex can: a call that waited long enough is told so, in its own shape.

The worker takes this for a vendor's refusal: the caller gets a 503 in its dialect and pays nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import msgspec

LOG = logging.getLogger("faregate.annex")

READ_S = 10.0
BODY_BYTES_MAX = 64 * 1024 * 1024
BODY_BYTES_AT_ONCE = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024
RETRY_AFTER_S = 5


class Refusing:
    """Accepts on a copy of the annex's listening socket between `begin` and `end`."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._message = ""

    @property
    def active(self) -> bool:
        return self._server is not None

    async def begin(self, message: str) -> None:
        """From now on every call gets this message."""
        self._message = message
        if self._server is not None:
            return
        LOG.error("calls for the annex are refused: %s", message)
        copy = self._listener.dup()
        copy.setblocking(False)
        # Closing the copy leaves the socket itself open.
        if copy.family == socket.AF_UNIX:
            self._server = await asyncio.start_unix_server(self._answer, sock=copy, limit=HEAD_BYTES_MAX)
        else:
            self._server = await asyncio.start_server(self._answer, sock=copy, limit=HEAD_BYTES_MAX)

    async def end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            LOG.warning("calls for the annex are served again")
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(READ_S):
                await _read_request(reader)
                writer.write(_reply(self._message))
                await writer.drain()
        writer.close()


async def _read_request(reader: asyncio.StreamReader) -> None:
    """The whole request: a connection closed with unread bytes would be reset, and the reply lost."""
    head = await reader.readuntil(b"\r\n\r\n")
    left = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            left = min(int(value), BODY_BYTES_MAX)
    while left > 0:
        chunk = await reader.read(min(left, BODY_BYTES_AT_ONCE))
        if not chunk:
            return
        left -= len(chunk)


def _reply(message: str) -> bytes:
    error = {"message": message, "type": "api_error", "param": None, "code": "annex_unavailable"}
    body = msgspec.json.encode({"error": error})
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"retry-after: {RETRY_AFTER_S}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
