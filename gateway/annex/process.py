"""An annex's process: started at the first call that needs it, restarted when it dies, replaced when its spec changes.

The listening socket stays open here across every process, as the supervisor keeps the workers' one: calls wait in its
queue while an annex starts. One that has waited START_WAIT_S is answered with 503 (`refusing`), because a call that
waits for ever holds money. Nothing here knows litellm; the command is an argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.annex import launch
from gateway.annex.environment import environment_for
from gateway.annex.refusing import Refusing
from gateway.annex.spec import AnnexSpec, write_spec
from gateway.system import LISTEN_FD_VARIABLE, READY_FD_VARIABLE

LOG = logging.getLogger("faregate.annex")

End = Literal["stopping", "died", "unwell", "stale", "heavy"]


@dataclass(frozen=True, slots=True)
class AnnexLimits:
    """Times in seconds. `start_wait_s`: how long a call waits for a starting annex. `start_s`: after that a start has
    failed. `health_misses` unanswered health calls in a row end a process. Above `memory_bytes` it is replaced, though
    not younger than `recycle_s`. A process that lived `steady_s` is restarted without a pause."""

    start_wait_s: float = 20.0
    start_s: float = 120.0
    poll_s: float = 1.0
    health_s: float = 10.0
    health_misses: int = 3
    memory_bytes: int = 1024 * 1024 * 1024
    recycle_s: float = 300.0
    drain_s: float = 120.0
    steady_s: float = 10.0
    pause_s: float = 0.25
    pause_max_s: float = 60.0


LIMITS = AnnexLimits()
REFUSE_AFTER_FAILURES = 2


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    spec: AnnexSpec
    ready: asyncio.Future[bool]
    started_s: float
    misses: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid


def annex_command(python: str = "", prefix: Path = Path(sys.prefix)) -> tuple[str, ...]:
    """How the annex is started. `python` is the interpreter that has litellm; empty: that of the environment `annex`
    within ours (`make annex`), else our own."""
    own = prefix / "annex" / "bin" / "python"
    return (python or (str(own) if own.exists() else sys.executable), "-I", launch.__file__)


class AnnexProcess:
    """One annex on a listening socket. `run` until `stop`; only one task may run it."""

    def __init__(
        self,
        listener: socket.socket,
        read_spec: Callable[[], Awaitable[AnnexSpec]],
        environment: Mapping[str, str],
        command: Sequence[str],
        limits: AnnexLimits = LIMITS,
    ) -> None:
        """`environment` is what the annex's own is chosen from. The socket stays its owner's to close."""
        listener.set_inheritable(True)
        listener.setblocking(False)
        self._listener = listener
        self._read_spec = read_spec
        self._environment = environment
        self._command = tuple(command)
        self._limits = limits
        self._refusing = Refusing(listener)
        self._stopping = asyncio.Event()
        self._child: _Child | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._covered = False
        self._renewed = False

    @property
    def pid(self) -> int:
        """Of the process that serves or is being started; 0 for none."""
        return self._child.pid if self._child is not None else 0

    @property
    def ready(self) -> bool:
        child = self._child
        return child is not None and child.ready.done() and not child.dead.is_set()

    def reload(self) -> None:
        """Has credential files read again."""
        if self._child is not None and self.ready:
            self._child.process.send_signal(signal.SIGHUP)

    def renew(self) -> None:
        """Replaces what runs by the code that is on disk now; the old process ends the calls it has."""
        self._renewed = self.ready

    def stop(self) -> None:
        """`run` returns once what runs has ended; `drain_s` is for calls that are being answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Waits for the first call, then keeps an annex running."""
        try:
            await self._first_call()
            while not self._stopping.is_set():
                try:
                    child = await self._start()
                    if child is not None:
                        await self._keep(child)
                        continue
                except Exception:  # whatever it is, the next attempt follows after a pause
                    LOG.exception("the annex could not be kept running")
                    self._failures += 1
                await self._pause()
        finally:
            await self._end()

    # ------------------------------------------------------------ starting

    async def _first_call(self) -> None:
        """Until a connection waits in the queue; it is left there for the annex."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.Event()
        loop.add_reader(self._listener.fileno(), waiting.set)
        try:
            await self._either(waiting)
        finally:
            loop.remove_reader(self._listener.fileno())

    async def _either(self, event: asyncio.Event, timeout_s: float | None = None) -> bool:
        """Waits for an event, for `stop`, or for the time; whether it was the event."""
        tasks = [asyncio.ensure_future(one.wait()) for one in (event, self._stopping)]
        try:
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return event.is_set()

    async def _start(self) -> _Child | None:
        """A process that serves, or None. Calls that have waited `start_wait_s` are refused from then on."""
        spec = await self._read_spec()
        if not spec.providers:
            await self._refuse("No provider of kind annex is configured.")
            await self._either(asyncio.Event(), self._limits.poll_s)
            return None
        try:
            child = await self._spawn(spec)
        except OSError as error:
            self._failures += 1
            await self._refuse(f"The annex cannot be started: {error.strerror or error}.")
            return None
        self._child = child
        if await self._ready(child):
            self._failures = 0
            await self._refusing.end()
            LOG.info("annex (pid %d) serves %s", child.pid, ", ".join(one.name for one in spec.providers))
            return child
        if self._stopping.is_set():
            self._retire(child)
            return None
        self._failures += 1
        await self._kill(child)
        LOG.error("annex (pid %d) did not start; its own message is above", child.pid)
        if self._failures >= REFUSE_AFTER_FAILURES:
            await self._refuse("The annex does not start. Its operator finds the reason in the log.")
        return None

    async def _ready(self, child: _Child) -> bool:
        limits = self._limits
        for wait_s, refuse in ((limits.start_wait_s, True), (limits.start_s - limits.start_wait_s, False)):
            stopping = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait(
                    (child.ready, stopping), timeout=max(wait_s, 0.0), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                stopping.cancel()
            if child.ready.done():
                return child.ready.result()
            if self._stopping.is_set():
                return False
            if refuse:
                await self._refuse(f"The annex has not started within {limits.start_wait_s:g} s.")
        return False

    async def _refuse(self, message: str) -> None:
        """Unless another process still serves."""
        if not self._covered:
            await self._refusing.begin(message)

    async def _spawn(self, spec: AnnexSpec) -> _Child:
        """Raises OSError. The child inherits the socket and the pipe on which it says that it serves."""
        loop = asyncio.get_running_loop()
        read_end, write_end = os.pipe()
        environment = {
            **environment_for(spec, self._environment),
            LISTEN_FD_VARIABLE: str(self._listener.fileno()),
            READY_FD_VARIABLE: str(write_end),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self._listener.fileno(), write_end),
                start_new_session=True,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        child = _Child(process, spec, loop.create_future(), loop.time())
        self._in_background(self._follow(child, read_end))
        return child

    async def _follow(self, child: _Child, read_end: int) -> None:
        """Gives the child its spec, waits for its word, then for its death."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            stdin = child.process.stdin
            assert stdin is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stdin.write(write_spec(child.spec))
                await stdin.drain()
            stdin.close()
            said = await reader.read(1)
            if not child.ready.done():
                child.ready.set_result(bool(said))
            await child.process.wait()
        finally:
            transport.close()
            child.dead.set()

    async def _pause(self) -> None:
        """None at first; doubling while starts fail, or processes die young."""
        if self._failures:
            pause_s = min(self._limits.pause_max_s, self._limits.pause_s * 2 ** min(self._failures - 1, 16))
            await self._either(asyncio.Event(), pause_s)

    # ------------------------------------------------------------ while it serves

    async def _keep(self, child: _Child) -> None:
        """Until this child, or the one that replaced it, has to be started anew."""
        end = await self._watch(child)
        while end == "heavy":
            LOG.warning("annex (pid %d) has grown over %d bytes; replacing it", child.pid, self._limits.memory_bytes)
            self._covered = True
            try:
                successor = await self._start()
            finally:
                self._covered = False
            if successor is None:
                self._child = child
            else:
                self._retire(child)
                child = successor
            end = await self._watch(child)
        match end:
            case "stopping":
                return
            case "stale":
                # Its successor starts now and finds the new calls in the queue; what it answers may end.
                LOG.info("annex (pid %d) is replaced: its code or what it serves has changed", child.pid)
                self._renewed = False
                self._retire(child)
            case "unwell":
                LOG.error("annex (pid %d) does not answer; killing it", child.pid)
                await self._kill(child)
            case _:
                LOG.warning("annex (pid %d) ended with %s; starting it again", child.pid, child.process.returncode)
        if end in ("died", "unwell"):
            lived_s = asyncio.get_running_loop().time() - child.started_s
            self._failures = 0 if lived_s > self._limits.steady_s else self._failures + 1
            await self._pause()

    async def _watch(self, child: _Child) -> End:
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        while not await self._either(child.dead, self._limits.poll_s):
            if self._stopping.is_set():
                return "stopping"
            if self._renewed or await self._read_spec() != child.spec:
                return "stale"
            if loop.time() - asked_s >= self._limits.health_s:
                asked_s = loop.time()
                child.misses = 0 if await self._healthy() else child.misses + 1
                if child.misses >= self._limits.health_misses:
                    return "unwell"
                old = loop.time() - child.started_s > self._limits.recycle_s
                if old and _resident_bytes(child.pid) > self._limits.memory_bytes:
                    return "heavy"
        return "stopping" if self._stopping.is_set() else "died"

    async def _healthy(self) -> bool:
        """Whether `/health` is answered in time. It waits in the queue with the calls, so it is their measure."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(self._limits.health_s):
                if self._listener.family == socket.AF_UNIX:
                    reader, writer = await asyncio.open_unix_connection(self._listener.getsockname())
                else:
                    reader, writer = await asyncio.open_connection(*self._listener.getsockname()[:2])
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nhost: annex\r\nconnection: close\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        return False

    # ------------------------------------------------------------ ending

    def _retire(self, child: _Child) -> None:
        """It takes no new call and may end those it has."""
        self._in_background(self._leave(child))

    async def _leave(self, child: _Child) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(child.dead.wait(), self._limits.drain_s)
        except TimeoutError:
            LOG.warning("annex (pid %d) still had calls after %.0f s; killing it", child.pid, self._limits.drain_s)
            await self._kill(child)

    async def _kill(self, child: _Child) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.dead.wait()

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _end(self) -> None:
        self._stopping.set()
        if self._refusing.active:
            await self._refusing.end()
        if self._child is not None and not self._child.dead.is_set():
            await self._leave(self._child)
        await asyncio.gather(*self._leaving, return_exceptions=True)


def _resident_bytes(pid: int) -> int:
    """What a process holds in memory; 0 where that is not told (Linux tells)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
