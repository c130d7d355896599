"""Replies as the caller holds them: one that is all here, and one whose body is still coming."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.errors import AttemptFailed, UpstreamLost
from gateway.upstream.failures import too_large
from gateway.upstream.framing import Headers

BUFFERED_BYTES_MAX = 256 * 1024
"""So much of a body may wait for its reader; then the provider has to wait too."""


class Source(Protocol):
    """The connection that a body comes from, as its reader may use it."""

    where: str

    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class _Head:
    """Status and headers, decoded when somebody asks."""

    __slots__ = ("_decoded", "_headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self._headers = headers
        self._decoded: dict[str, str] | None = None

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._headers

    @property
    def headers(self) -> Mapping[str, str]:
        decoded = self._decoded
        if decoded is None:
            decoded = self._decoded = {str(name, "latin-1"): str(value, "latin-1") for name, value in self._headers}
        return decoded


class WholeReply(_Head):
    """All of it arrived at once. Its connection already serves others."""

    __slots__ = ("_body", "_where")

    def __init__(self, status: int, headers: Headers, body: bytes, where: str) -> None:
        self.status = status
        self._headers = headers
        self._decoded = None
        self._body = body
        self._where = where

    async def read(self, limit_bytes: int) -> bytes:
        body, self._body = self._body, b""
        if len(body) > limit_bytes:
            raise too_large(self._where, limit_bytes)
        return body

    def chunks(self) -> WholeReply:
        return self

    def __aiter__(self) -> WholeReply:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    def abort(self) -> None:
        """There is nothing left to give up, but nothing is read after it either."""
        self._body = b""


class Body:
    """What has come of a body and not been read. The connection writes it, the reply reads it; neither needs the other
    to live."""

    __slots__ = ("ended", "failure", "limit_bytes", "loop", "paused", "pieces", "size", "source", "waiter")

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.source: Source | None = source
        self.loop = loop
        self.pieces: list[bytes] = []
        self.size = 0
        self.paused = False
        """The source waits until the pieces have been taken."""
        self.ended = False
        self.failure: AttemptFailed | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.limit_bytes = -1
        """Of a reader that wants all of it, who need not be woken in between; -1: one that wants each piece."""

    # ------------------------------------------------------------ the connection's side

    def arrived(self, size: int) -> bool:
        """`size` bytes more are in the pieces. Wakes a reader that waits for them; whether the source has to pause."""
        self.size = held = self.size + size
        waiter = self.waiter
        if waiter is not None and held > self.limit_bytes and not waiter.done():
            waiter.set_result(None)
            return False
        return held > BUFFERED_BYTES_MAX and self.limit_bytes < 0 and not self.paused

    def end(self, failure: AttemptFailed | None = None) -> None:
        """No more will come. What did come can still be read."""
        if self.ended:
            return
        self.ended = True
        self.failure = failure
        self.source = None
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ------------------------------------------------------------ the reader's side

    def take(self) -> bytes:
        pieces = self.pieces
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.size = 0
        if self.paused:
            self.resume()
        return taken

    def resume(self) -> None:
        self.paused = False
        if self.source is not None:
            self.source.resume_reading()

    async def wait(self) -> None:
        """Until more has come or it has ended. Given up while it waits, it closes the connection."""
        if self.waiter is not None:
            raise RuntimeError("A reply has one reader.")
        self.waiter = self.loop.create_future()
        try:
            await self.waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self.waiter = None

    def abort(self) -> None:
        source = self.source
        if source is not None:
            self.end(UpstreamLost(f"{source.where}: the reply was given up."))
            self.pieces.clear()
            source.abort()


class StreamedReply(_Head):
    """Its body is still coming. Dropped without being read to its end, it closes its connection."""

    __slots__ = ("_body", "_length", "_where")

    def __init__(self, status: int, headers: Headers, length: int, body: Body, where: str) -> None:
        super().__init__(status, headers)
        self._length = length
        self._body = body
        self._where = where

    def __del__(self) -> None:
        body = self._body
        if not body.ended and not body.loop.is_closed():
            # the garbage collector may run in any thread
            body.loop.call_soon_threadsafe(body.abort)

    async def read(self, limit_bytes: int) -> bytes:
        body = self._body
        body.limit_bytes = limit_bytes
        if self._length > limit_bytes:
            self.abort()
            raise too_large(self._where, limit_bytes)
        if body.paused:
            body.resume()
        while not body.ended and body.size <= limit_bytes:
            await body.wait()
        if body.size > limit_bytes:
            self.abort()
            raise too_large(self._where, limit_bytes)
        if body.failure is not None:
            raise body.failure
        return body.take()

    def chunks(self) -> StreamedReply:
        return self

    def __aiter__(self) -> StreamedReply:
        return self

    async def __anext__(self) -> bytes:
        body = self._body
        pieces = body.pieces
        if not pieces:
            if not body.ended:
                await body.wait()
            if not pieces:
                if body.failure is not None:
                    raise body.failure
                raise StopAsyncIteration
        return body.take()

    def abort(self) -> None:
        self._body.abort()
