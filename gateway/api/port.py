"""The public port of a worker, from its opening to its end. There are two ways to end.

SIGTERM: `/readyz` says 503, and connections are accepted for `pre_stop_s` more, whose answers close them; then the port
is closed, requests that have begun to arrive are admitted for `grace_s` more, and what is admitted has `drain_s`. What
is left then is ended with `server_shutting_down`. A second SIGTERM ends it at once.

SIGUSR1, the supervisor's, once a successor is prepared: HANDOVER is appended, the port is closed here (the successor
has it, too), connections between two requests are passed on, and what was admitted here has `drain_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from gateway.api.leaving import LeavingPlane
from gateway.api.passing import Passing, connect, is_idle
from gateway.api.protocol import Connection, protocol_class
from gateway.api.server import StopRequests
from gateway.core.handover import GOODBYE

BACKLOG = 2048
SWEEP_S = 0.01
"""How often idle connections are looked for while leaving."""
DATE_S = 1.0
GOODBYE_S = 2.0
"""How long cancelled calls have to settle and say goodbye, and then how long callers have to take it."""

LOG = logging.getLogger("faregate.port")


@dataclass(frozen=True, slots=True)
class StopTimes:
    """The settings of the same names."""

    pre_stop_s: float
    grace_s: float
    drain_s: float


class Port:
    """`hand_over` ends this worker's admissions and says whether it could. `passing` is the socket where connections
    are passed to the worker that admits, `successor` the one of who is prepared to be that next."""

    def __init__(
        self,
        plane: LeavingPlane,
        listener: socket.socket,
        times: StopTimes,
        passing: Path,
        successor: Path,
        hand_over: Callable[[], bool],
    ) -> None:
        self._plane = plane
        self._listener = listener
        self._times = times
        self._hand_over = hand_over
        self._config = uvicorn.Config(
            plane,
            http=protocol_class(plane),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        self._config.load()
        self._state = ServerState()
        self._successor = successor
        self._connections = cast(set[Connection], self._state.connections)
        self._passing = Passing(passing, self._connections)
        self._server: asyncio.AbstractServer | None = None
        self._leaving = asyncio.Event()
        self._at_once = asyncio.Event()
        self._requests = StopRequests()
        self._ends_s = 0.0

    # ------------------------------------------------------------ life

    def make_protocol(self) -> asyncio.Protocol:
        """The protocol of one more connection, for whoever has one to serve."""
        protocol: Any = self._config.http_protocol_class
        connection: asyncio.Protocol = protocol(config=self._config, server_state=self._state, app_state={})
        return connection

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Listens to signals inside the block; one that comes before `serve` is obeyed by it."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGUSR1: self.hand_over}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def serve(self, on_serving: Callable[[], None]) -> None:
        """Opens the port, and returns when it is closed and the last call has ended."""
        loop = asyncio.get_running_loop()
        self._set_date()
        dating = loop.create_task(self._date(), name="date-header")
        try:
            if not self.stopping:
                server = await loop.create_server(self.make_protocol, sock=self._listener, backlog=BACKLOG)
                self._server = server
                on_serving()
                await self._leaving.wait()
                if self._plane.stopping:
                    await self._stop()
                await self._drain()
            await self._say_goodbye()
        finally:
            dating.cancel()
            self._close()

    @property
    def stopping(self) -> bool:
        """After SIGTERM."""
        return self._plane.stopping

    async def left(self) -> None:
        """Returns at the first SIGTERM, or once the port has been handed over."""
        await self._leaving.wait()

    def stop(self) -> None:
        """As SIGTERM does; asked again, it ends at once."""
        if self._requests.again():
            self.stop_now()
        if not self.stopping:
            self._plane.stopping = True
            self._end_in(self._times.drain_s)
            self._leaving.set()

    def stop_now(self) -> None:
        """Whatever is still running is cut off."""
        self._at_once.set()

    def hand_over(self) -> None:
        """As SIGUSR1 does: nothing, where there is nobody to hand over to."""
        if self._leaving.is_set() or self._server is None:
            LOG.info("asked to hand over while not serving")
        elif not self._successor_listens():
            LOG.error("asked to hand over, but there is no successor: serving on")
        elif self._hand_over():
            self._close()
            self._plane.pass_on = self._passing.pass_call
            self._end_in(self._times.drain_s)
            self._leaving.set()

    def _successor_listens(self) -> bool:
        try:
            connect(self._successor).close()
        except OSError:
            return False
        return True

    # ------------------------------------------------------------ the end

    async def _stop(self) -> None:
        """SIGTERM's steps up to the end of all admissions."""
        self._plane.closing = True
        await self._sweep(self._times.pre_stop_s, close_idle=False)
        self._close()
        await self._sweep(self._times.grace_s, close_idle=True)
        self._hand_over()
        self._end_in(self._times.drain_s)

    async def _sweep(self, seconds: float, *, close_idle: bool) -> None:
        """Lets every answer end its connection, and closes those between two requests; until there is none."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + seconds
        while loop.time() < ends_s and not self._at_once.is_set():
            self._close_after_answers(close_idle=close_idle)
            if close_idle and not self._connections and not self._state.tasks:
                return
            await asyncio.sleep(SWEEP_S)

    async def _drain(self) -> None:
        """Until the last call has ended, or time is up."""
        loop = asyncio.get_running_loop()
        while (self._connections or self._state.tasks) and not self._at_once.is_set():
            if self._plane.pass_on is not None:
                self._passing.pass_idle()
            if self.stopping:
                self._close_after_answers(close_idle=True)
            if loop.time() > self._ends_s:
                return
            await asyncio.sleep(SWEEP_S)

    def _close_after_answers(self, *, close_idle: bool) -> None:
        for connection in list(self._connections):
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False
            elif close_idle and is_idle(connection):
                connection.transport.close()

    async def _say_goodbye(self) -> None:
        """Ends what is still running: settled, and told so."""
        tasks = list(self._state.tasks)
        self._plane.draining = True
        if tasks:
            LOG.warning("%d calls did not end in time and are cut off", len(tasks))
            for task in tasks:
                task.cancel(GOODBYE)
            await asyncio.wait(tasks, timeout=GOODBYE_S)
        for connection in list(self._connections):
            connection.transport.close()  # after what was written
        for _ in range(int(GOODBYE_S / SWEEP_S)):
            if not self._connections:
                break
            await asyncio.sleep(SWEEP_S)
        for connection in list(self._connections):
            connection.transport.abort()
        if self._passing.idle or self._passing.calls:
            LOG.info("passed on: %d idle connections, %d calls", self._passing.idle, self._passing.calls)

    def _close(self) -> None:
        """The port is closed here; its other owners still have it."""
        if self._server is not None:
            self._server.close()
        self._listener.close()

    def _end_in(self, seconds: float) -> None:
        self._ends_s = asyncio.get_running_loop().time() + seconds

    # ------------------------------------------------------------ the date header

    def _set_date(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date), *self._config.encoded_headers]

    async def _date(self) -> None:
        while True:
            await asyncio.sleep(DATE_S)
            self._set_date()
