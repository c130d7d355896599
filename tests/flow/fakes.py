"""Fakes behind core's ports: a caller, a provider that follows a script, a journal that can refuse.

All of them write what happens into one list of events, so that tests can ask what came before what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.call import AnswerHead
from gateway.core.errors import BadRequest, FaregateError, UpstreamInvalidReply, UpstreamLost, UsageLogUnavailable
from gateway.core.ids import CALL, print_id
from gateway.core.records import TYPE_OF, AnyRecord, Entry, decode_record, encode_record
from gateway.core.upstream import UpstreamReply, UpstreamRequest

NOW_MS = 1_795_608_000_000
JOURNAL_ID = b"j" * 16


@dataclass(frozen=True)
class Gone:
    """A step of a script: the caller goes away here."""


@dataclass(frozen=True)
class Event:
    """`append`, `synced`, `sent`, `start`, `write` or `finish`, what of it, and of which call (if that is known)."""

    name: str
    what: object = None
    call: str = ""


class LoopClock:
    """The event loop's own time."""

    def now_ms(self) -> int:
        return NOW_MS + int(asyncio.get_running_loop().time() * 1000)

    def monotonic_ns(self) -> int:
        return int(asyncio.get_running_loop().time() * 1e9)


class RecordingJournal:
    """core.ports.Journal in memory. Records go through their bytes, so what cannot be written fails here too."""

    ready = True
    journal_id = JOURNAL_ID

    def __init__(self, events: list[Event], refuse: Sequence[type] = ()) -> None:
        self.entries: list[Entry] = []
        self.refuse = set(refuse)
        self._events = events
        self.synced_seq = 0
        self.closed: Callable[[], object] = list

    def append(self, record: AnyRecord, call_id: bytes) -> int:
        if type(record) in self.refuse:
            raise UsageLogUnavailable("the usage log takes no new calls: the disk is full")
        assert len(call_id) == 16
        read_back = decode_record(TYPE_OF[type(record)], encode_record(record))
        assert read_back == record
        seq = len(self.entries) + 1
        self.entries.append(Entry(JOURNAL_ID, seq, call_id, read_back, 1, seq))
        self._events.append(Event("append", record, print_id(CALL, call_id)))
        return seq

    def append_all(self, records: Sequence[AnyRecord], call_id: bytes) -> tuple[int, int]:
        seq = 0
        for number, record in enumerate(records):
            try:
                seq = self.append(record, call_id)
            except UsageLogUnavailable:
                if number:
                    return seq, number
                raise
        return seq, len(records)

    async def synced(self, seq: int) -> None:
        await asyncio.sleep(0.005)
        self.synced_seq = max(self.synced_seq, seq)
        self._events.append(Event("synced", seq))

    def close(self) -> None:
        self.closed()


@dataclass
class Scripted:
    """What a provider does with one request: seconds it takes, bytes it sends, errors it ends in."""

    steps: tuple[bytes | float | FaregateError, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    before_head: tuple[float | FaregateError, ...] = (0.01,)


class ScriptedReply:
    """core.ports.UpstreamReply. `open` until its end was read or it was given up."""

    def __init__(self, script: Scripted) -> None:
        self.status = script.status
        self.headers = script.headers
        self.raw_headers = [(name.encode(), value.encode()) for name, value in script.headers.items()]
        self._steps = list(script.steps)
        self.aborted = False
        self.ended = False

    @property
    def open(self) -> bool:
        return not (self.aborted or self.ended)

    async def read(self, limit_bytes: int) -> bytes:
        whole = b"".join([chunk async for chunk in self.chunks()])
        if len(whole) > limit_bytes:
            raise UpstreamInvalidReply("sent a reply that is too large")
        return whole

    def chunks(self) -> ScriptedReply:
        return self

    def __aiter__(self) -> ScriptedReply:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._next()
        except asyncio.CancelledError:
            self.abort()
            raise

    async def _next(self) -> bytes:
        await asyncio.sleep(0)
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            if isinstance(step, FaregateError):
                self.ended = True
                raise step
            await asyncio.sleep(step)
            if self.aborted:
                raise UpstreamLost("ended the connection")
        self.ended = True
        raise StopAsyncIteration

    def abort(self) -> None:
        self.aborted = True


class ScriptedUpstream:
    """core.ports.Upstream. Each request gets the next script, the last one again and again."""

    def __init__(self, events: list[Event], scripts: Sequence[Scripted]) -> None:
        self._events = events
        self.scripts = list(scripts)
        self.requests: list[UpstreamRequest] = []
        self.replies: list[ScriptedReply] = []

    async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
        if on_sent is not None:
            on_sent()
        self.requests.append(request)
        self._events.append(Event("sent", request))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for step in script.before_head:
            if isinstance(step, FaregateError):
                raise step
            await asyncio.sleep(step)
        reply = ScriptedReply(script)
        self.replies.append(reply)
        return reply

    async def close(self) -> None:
        return


class Line:
    """core.ports.Disconnect: the caller's connection."""

    def __init__(self) -> None:
        self.gone = False
        self._callback: Callable[[], None] | None = None

    def left(self) -> None:
        self.gone = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self.gone:
            callback()
        else:
            self._callback = callback

    def forget(self) -> None:
        self._callback = None


class CallersExchange:
    """core.ports.Exchange. Holds the answer to HTTP's rules: one start, then bytes, one end, as many as announced."""

    def __init__(
        self,
        events: list[Event],
        headers: Mapping[str, str],
        body: Sequence[bytes | float | FaregateError | Gone],
        write_s: float = 0.0,
    ) -> None:
        self.headers = headers
        self.received_ns = LoopClock().monotonic_ns()
        self.disconnect = Line()
        self.head: AnswerHead | None = None
        self.sent = b""
        self.finished = False
        self._events = events
        self._body = body
        self._write_s = write_s

    @property
    def started(self) -> bool:
        return self.head is not None

    async def body(self) -> bytes:
        received = b""
        for step in self._body:
            match step:
                case bytes():
                    await asyncio.sleep(0)
                    received += step
                case Gone():
                    self.disconnect.left()
                    raise BadRequest("The connection was closed before the whole body had arrived.")
                case FaregateError():
                    raise step
                case _:
                    await asyncio.sleep(step)
        return received

    async def start(self, head: AnswerHead) -> None:
        assert self.head is None, "an answer starts once"
        self.head = head
        self._events.append(Event("start", head, self.header("x-request-id") or ""))
        await asyncio.sleep(self._write_s)

    async def write(self, data: bytes) -> None:
        assert self.head is not None
        assert not self.finished
        self._take("write", data)
        await asyncio.sleep(self._write_s)

    async def finish(self, data: bytes = b"") -> None:
        assert self.head is not None
        assert not self.finished, "an answer ends once"
        self.finished = True
        self._take("finish", data)
        await asyncio.sleep(self._write_s)

    def _take(self, name: str, data: bytes) -> None:
        if self.disconnect.gone:
            return
        self.sent += data
        self._events.append(Event(name, data, self.header("x-request-id") or ""))

    def header(self, name: str) -> str | None:
        assert self.head is not None
        found = [value.decode() for key, value in self.head.headers if key == name.encode()]
        assert len(found) <= 1, f"{name} stands twice"
        return found[0] if found else None


class CountingMetrics:
    """core.ports.Metrics, kept as lists. `broken` is a fault of our own, after everything was recorded."""

    def __init__(self) -> None:
        self.broken = False
        self.ended: list[dict[str, object]] = []
        self.refused: list[str] = []
        self.holds: list[tuple[int, int]] = []
        self.told: list[tuple[object, ...]] = []

    def call_ended(self, **facts: object) -> None:
        self.ended.append(facts)
        if self.broken:
            raise ZeroDivisionError

    def refused_before_identified(self, code: str) -> None:
        self.refused.append(code)

    def hold_settled(self, deployment: str, bound_nusd: int, effective_nusd: int) -> None:
        self.holds.append((bound_nusd, effective_nusd))

    def hold_shrunk(self, deployment: str) -> None:
        self.told.append(("hold_shrunk", deployment))

    def overshot(self, limit_id: str, nusd: int) -> None:
        self.told.append(("overshot", limit_id, nusd))

    def call_changed(self, limit_id: str, action: str) -> None:
        self.told.append(("call_changed", limit_id, action))

    def usage_unknown(self, deployment: str, members: int) -> None:
        self.told.append(("usage_unknown", deployment, members))

    def cost_compared(self, deployment: str, gap: bool) -> None:
        self.told.append(("cost_compared", deployment, gap))

    def tag_missing(self, tag: str, refused: bool) -> None:
        self.told.append(("tag_missing", tag, refused))
