"""One HTTP/1.1 connection: a request written, a reply read, and whether it may be used again.

All of it happens in the callbacks of the event loop: no task and no timer is made for a call, and the caller is woken
once when the whole reply arrives at once. One timer per connection is set to the earliest moment at which a call on it
could be overdue and, when it fires early, is set again: a call that ends in time leaves it alone.
"""

from __future__ import annotations

import asyncio
import math
from typing import cast

from gateway.core.errors import AttemptFailed, UpstreamInvalidReply, UpstreamLost, UpstreamTimeout
from gateway.upstream.chunked import Chunked
from gateway.upstream.framing import (
    CHUNKED,
    INTERIM_REPLIES_MAX,
    NotHttp,
    check_unfinished_head,
    framing,
    read_head,
)
from gateway.upstream.reply import Body, StreamedReply, WholeReply

_IDLE, _HEAD, _LENGTH, _CHUNKS, _TO_THE_END, _CLOSED = range(6)
PIECE_BYTES = 64 * 1024
"""A body up to this goes with its head; of a larger one so much at a time, as the provider takes it."""
_NEVER = math.inf

Reply = WholeReply | StreamedReply


class Owner:
    """Whom a connection tells how it is. This one does not mind: a connection that is only being made."""

    __slots__ = ()

    def released(self, connection: Connection) -> None:
        """The call is over and the connection may serve another."""

    def ended(self, connection: Connection) -> None:
        """It is closed, or will be at once. Told one time."""


class Connection(asyncio.Protocol):
    """Between calls it is its owner's, during one the call's. A call ends with `released` or `ended`, never both."""

    __slots__ = (
        "_body",
        "_chunked",
        "_deadline",
        "_due",
        "_head",
        "_head_only",
        "_idle_timeout_s",
        "_interim",
        "_keeps",
        "_large",
        "_left",
        "_loop",
        "_now",
        "_paused_writing",
        "_stage",
        "_timeout_s",
        "_timer",
        "_unfinished",
        "_unsent",
        "owner",
        "touched",
        "transport",
        "where",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, where: str) -> None:
        self._loop = loop
        self._now = loop.time
        self.where = where
        self.owner = Owner()
        self.touched = loop.time()
        """When it last made progress, in the loop's time."""
        self._stage = _IDLE
        self._head: asyncio.Future[Reply] | None = None
        self._body: Body | None = None
        self._chunked: Chunked | None = None
        self._unfinished = bytearray()
        self._left = self._interim = 0
        self._keeps = self._head_only = self._large = False
        self._paused_writing = False
        self._unsent: memoryview | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER
        self._deadline = self._idle_timeout_s = self._timeout_s = 0.0

    # ------------------------------------------------------------ one call

    @property
    def usable(self) -> bool:
        return self._stage == _IDLE and not self.transport.is_closing()

    @property
    def closed(self) -> bool:
        return self._stage == _CLOSED

    def start(
        self,
        head: bytes,
        body: bytes,
        head_only: bool,
        now: float,
        deadline: float,
        timeout_s: float,
        idle_timeout_s: float,
    ) -> asyncio.Future[Reply]:
        """Writes the request; the future holds the reply once its head is here, or why there is none. `now` and
        `deadline` are the loop's time, `timeout_s` is what the deadline was made of. The connection must be usable."""
        self._stage = _HEAD
        self._head_only = head_only
        self.touched = now
        self._timeout_s = timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._deadline = deadline
        self._interim = 0
        due = now + idle_timeout_s
        if deadline < due:
            due = deadline
        if due < self._due:
            self._set_timer(due)
        self._head = answer = self._loop.create_future()
        if len(body) <= PIECE_BYTES:
            self._large = False
            self.transport.write(head + body)
        else:
            self._large = True
            self._unsent = memoryview(body)
            self.transport.write(head)
            self._write_on()
        return answer

    def given_up(self, answer: asyncio.Future[Reply]) -> None:
        """Nobody waits for `answer` any more: whatever has become of it, nothing stays open for it."""
        if not answer.done() or answer.cancelled():
            self.abort()
        elif answer.exception() is None:
            answer.result().abort()

    def abort(self) -> None:
        """Closes at once. Harmless when it is closed."""
        self.fail(UpstreamLost(f"{self.where}: the call was given up."))

    def fail(self, error: AttemptFailed) -> None:
        """Closes at once; a call that runs ends with `error`."""
        if self._stage == _CLOSED:
            return
        self._stage = _CLOSED
        head, body = self._head, self._body
        self._head = self._body = self._unsent = None
        self._drop_chunked()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if head is not None and not head.done():
            head.set_exception(error)
        if body is not None:
            body.end(error)
        self.transport.abort()
        self.owner.ended(self)

    # ------------------------------------------------------------ writing

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self.touched = self._now()
        self._write_on()

    def _write_on(self) -> None:
        while self._unsent is not None and not self._paused_writing:
            piece, rest = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
            self._unsent = rest if rest else None
            self.transport.write(piece)

    # ------------------------------------------------------------ reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.touched = self._now()
        stage = self._stage
        try:
            if stage == _HEAD:
                self._read_head(data)
            elif stage == _CHUNKS:
                self._read_chunks(data)
            elif stage == _LENGTH:
                self._read_length(data)
            elif stage == _TO_THE_END:
                self._read_piece(data)
            elif stage == _IDLE:
                self.abort()  # it speaks without being asked: whatever it says belongs to no call
        except NotHttp as error:
            self.fail(UpstreamInvalidReply(f"{self.where} sent a reply that is not valid HTTP: {error}."))

    def eof_received(self) -> None:
        if self._stage == _TO_THE_END:
            self._end_of_body()
        else:
            self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def _lost(self) -> None:
        begun = self._body is not None or self._unfinished
        self.fail(
            UpstreamLost(
                f"{self.where} ended the connection {'in the middle of its reply' if begun else 'before it replied'}."
            )
        )

    def _read_head(self, data: bytes) -> None:
        unfinished = self._unfinished
        if unfinished:
            known = len(unfinished)
            unfinished += data
            end = unfinished.find(b"\r\n\r\n", max(known - 3, 0))
            if end < 0:
                check_unfinished_head(unfinished, known)
                return
            data = bytes(unfinished)
            unfinished.clear()
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                check_unfinished_head(data, 0)
                unfinished += data
                return
        end += 4
        block = data[:end]
        status, headers = read_head(block)
        if status < 200:
            self._interim += 1
            if self._interim > INTERIM_REPLIES_MAX:
                raise NotHttp(f"it sent more than {INTERIM_REPLIES_MAX} replies that are none")
            if len(data) > end:
                self._read_head(data[end:])
            return
        length, keeps = framing(block, headers, status, self._head_only)
        if self._large and (self._unsent is not None or self.transport.get_write_buffer_size()):
            self._unsent = None  # it answers without having read: what is left of the request must not follow
            keeps = False
        answer, self._head = self._head, None
        if answer is None or answer.done():
            self.abort()  # given up a moment ago
            return
        there = len(data) - end
        if 0 <= length <= there:
            self._stage = _IDLE
            answer.set_result(WholeReply(status, headers, data[end : end + length], self.where))
            if keeps and length == there:
                self.owner.released(self)
            else:
                self.abort()
            return
        self._keeps = keeps
        self._body = body = Body(self, self._loop)
        answer.set_result(StreamedReply(status, headers, length, body, self.where))
        if length == CHUNKED:
            self._stage = _CHUNKS
            self._chunked = Chunked(body.pieces)
        elif length >= 0:
            self._stage = _LENGTH
            self._left = length
        else:
            self._stage = _TO_THE_END
        if there:
            self.data_received(data[end:])

    def _read_length(self, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self._read_piece(data)
            return
        body = cast(Body, self._body)
        if left < 0:
            self._keeps = False
            data = data[: self._left]
        body.pieces.append(data)
        body.size += len(data)
        self._end_of_body()

    def _read_piece(self, data: bytes) -> None:
        body = cast(Body, self._body)
        body.pieces.append(data)
        if body.arrived(len(data)):
            self._pause_reading(body)

    def _read_chunks(self, data: bytes) -> None:
        body, chunked = cast(Body, self._body), cast(Chunked, self._chunked)
        size = chunked.feed(data)
        if chunked.complete:
            body.size += size
            self._keeps = self._keeps and not chunked.surplus
            self._end_of_body()
        elif size and body.arrived(size):
            self._pause_reading(body)

    def _end_of_body(self) -> None:
        body, self._body = cast(Body, self._body), None
        self._drop_chunked()
        if body.paused:
            body.resume()
        self._stage = _IDLE
        keeps = self._keeps
        body.end()
        if keeps:
            self.owner.released(self)
        else:
            self.abort()

    def _pause_reading(self, body: Body) -> None:
        body.paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The reader has made room."""
        self.touched = self._now()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        self._set_timer(min(self._deadline, self.touched + self._idle_timeout_s))

    def _drop_chunked(self) -> None:
        if self._chunked is not None:
            self._chunked.close()
            self._chunked = None

    # ------------------------------------------------------------ time

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._due = _NEVER
        if self._stage == _IDLE:
            return
        now = self._now()
        if now >= self._deadline:
            message = f"{self.where} did not finish within {self._timeout_s:g} s (total deadline)."
            self.fail(UpstreamTimeout(message, extra={"timeout": "deadline"}))
            return
        # while we do not read, its silence is ours
        paused = self._body is not None and self._body.paused
        overdue = _NEVER if paused else self.touched + self._idle_timeout_s
        if now >= overdue:
            message = f"{self.where} sent nothing for {self._idle_timeout_s:g} s (idle time-out)."
            self.fail(UpstreamTimeout(message, extra={"timeout": "idle"}))
        else:
            self._set_timer(min(self._deadline, overdue))
