"""The connections of one way to connect: last in, first out; at most so many; a fair queue for those who wait.

A slot is taken before a connection is made and freed when it is closed, whatever became of the call on it. Who waits
gets a free connection or a free slot in the order of coming; nobody who comes later is served before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from select import POLLIN, poll

from gateway.core.errors import UpstreamLost
from gateway.upstream.connection import Connection, Owner
from gateway.upstream.failures import closed_at_once, connect_time_out, pool_time_out, shutting_down

PEEK_AFTER_S = 1.0
"""A connection that was idle for longer is looked at once more before it is used: what the event loop has not read yet,
a provider's goodbye most of all, would turn the next call into one whose fate is unknown."""

Connect = Callable[[float], Awaitable[Connection]]
"""Makes a connection, of which the pool becomes the owner, until a time of the loop. Raises UpstreamNotStarted."""


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """`open` are all slots taken: by connections being made, in use and idle."""

    pool: str
    where: str
    open: int
    idle: int
    waiting: int


class Pool(Owner):
    __slots__ = (
        "_closed",
        "_connect",
        "_connections",
        "_connections_max",
        "_idle",
        "_keepalive_s",
        "_loop",
        "_open",
        "_sweep",
        "_waiting",
        "name",
        "where",
    )

    def __init__(self, name: str, where: str, connections_max: int, keepalive_s: float, connect: Connect) -> None:
        """For the running loop."""
        self.name = name
        self.where = where
        self._connections_max = connections_max
        self._keepalive_s = keepalive_s
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._waiting: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    # ------------------------------------------------------------ for calls

    def take(self, now: float) -> Connection | None:
        """An idle connection that is still good. While somebody waits there is none."""
        idle = self._idle
        while idle:
            connection = idle.popitem()[0]
            idle_s = now - connection.touched
            if connection.usable and idle_s < self._keepalive_s and not (idle_s > PEEK_AFTER_S and _speaks(connection)):
                return connection
            connection.abort()
        return None

    async def acquire(self, until: float, connect_timeout_s: float) -> Connection:
        """A connection that was waited for or made. Raises UpstreamNotStarted, at `until` at the latest."""
        if self._closed:
            raise shutting_down()
        if self._open < self._connections_max:  # then nobody waits: a slot that becomes free goes to who does
            self._open += 1
        else:
            connection = await self._turn(until, connect_timeout_s)
            if connection is not None:
                return connection
        return await self._make(until, connect_timeout_s)

    def counts(self) -> PoolCounts:
        return PoolCounts(self.name, self.where, self._open, len(self._idle), len(self._waiting))

    @property
    def unused(self) -> bool:
        return not self._open and not self._waiting

    def close(self) -> None:
        """Closes all connections at once, running calls with them."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(shutting_down())
        for connection in list(self._connections):
            connection.fail(UpstreamLost("The gateway is shutting down and ended the call."))

    # ------------------------------------------------------------ for connections

    def released(self, connection: Connection) -> None:
        if self._keepalive_s <= 0:
            connection.abort()
            return
        if self._waiting:
            turn = self._first_waiting()
            if turn is not None:
                turn.set_result(connection)
                return
        self._idle[connection] = None
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        self._free_slot()

    # ------------------------------------------------------------ inside

    def _free_slot(self) -> None:
        turn = self._first_waiting()
        if turn is None:
            self._open -= 1
        else:
            turn.set_result(None)  # the slot goes over to who waits

    def _first_waiting(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            turn = self._waiting.popitem(last=False)[0]
            if not turn.done():
                return turn
        return None

    async def _turn(self, until: float, connect_timeout_s: float) -> Connection | None:
        """Waits for a connection, or (None) for a slot to make one in."""
        first = False
        while True:
            turn: asyncio.Future[Connection | None] = self._loop.create_future()
            self._waiting[turn] = None
            if first:
                self._waiting.move_to_end(turn, last=False)
            timer = self._loop.call_at(until, self._too_late, turn, connect_timeout_s)
            try:
                got = await turn
            except BaseException:
                self._pass_on(turn)
                raise
            finally:
                timer.cancel()
                self._waiting.pop(turn, None)
            if got is None or got.usable:
                return got
            first = True  # it was closed before we had it; its slot may already be another's
            if self._open < self._connections_max:
                self._open += 1
                return None

    def _pass_on(self, turn: asyncio.Future[Connection | None]) -> None:
        """Nobody waits for it any more. What it had just been given goes to the next."""
        if not turn.done() or turn.cancelled() or turn.exception() is not None:
            return
        got = turn.result()
        if got is None:
            self._free_slot()
        elif got.usable:
            self.released(got)

    def _too_late(self, turn: asyncio.Future[Connection | None], connect_timeout_s: float) -> None:
        if not turn.done():
            turn.set_exception(pool_time_out(self.where, self.name, self._connections_max, connect_timeout_s))

    async def _make(self, until: float, connect_timeout_s: float) -> Connection:
        """Fills a slot that has been taken, or frees it."""
        try:
            async with asyncio.timeout_at(until):
                connection = await self._connect(until)
            if self._closed or not connection.usable:
                connection.abort()
                raise shutting_down() if self._closed else closed_at_once(self.where)
        except TimeoutError as error:
            self._free_slot()
            raise connect_time_out(self.where, connect_timeout_s) from error
        except BaseException:
            self._free_slot()
            raise
        connection.owner = self
        self._connections.add(connection)
        return connection

    def _close_expired(self) -> None:
        self._sweep = None
        now = self._loop.time()
        for connection in list(self._idle):
            expires = connection.touched + self._keepalive_s
            if expires > now:
                self._sweep = self._loop.call_at(expires, self._close_expired)
                return
            connection.abort()


def _speaks(connection: Connection) -> bool:
    """Whether the other side has said something, its goodbye included, that the event loop has not read yet."""
    raw = connection.transport.get_extra_info("socket")
    looked = poll()
    looked.register(raw.fileno(), POLLIN)
    return bool(looked.poll(0))
