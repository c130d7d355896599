"""The supervisor: starts desk, bookkeeper and worker, restarts what dies, keeps the listening socket, drains.

It owns the data folder's lock and the listening socket, and nothing else: no SQL, no configuration, no call passes
through it. The order after a worker's death is what keeps the books: bookkeeper alive → it adopts the dead worker's
journal (every attempt and call ended, checkpoint written) → a new worker starts. Clients wait in the listen queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.channel.client import request
from gateway.channel.messages import Adopt, Adopted
from gateway.core.errors import Conflict
from gateway.settings import Settings
from gateway.system import LISTEN_FD_VARIABLE, READY_FD_VARIABLE

LOG = logging.getLogger("faregate.supervisor")

BACKLOG = 2048
START_TIMEOUT_S = 60.0
ADOPT_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
MAX_PAUSE_S = 5.0
STEADY_S = 1.0
QUICK_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is started. `fds` are passed on under the same numbers."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    fds: tuple[int, ...] = ()


@dataclass(slots=True)
class Child:
    """A running or restarting child. `failures` counts deaths in quick succession and sets the pause before the next
    start."""

    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    started_s: float = 0.0
    failures: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, kept open by the supervisor across every worker. Raises Conflict when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Conflict(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another with "
            "FAREGATE_PORT (or --port)."
        ) from error
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Supervisor:
    """Runs the children of one data folder until SIGTERM or SIGINT."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        environment: Mapping[str, str],
        extra: tuple[ChildSpec, ...] = (),
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._extra = [Child(spec) for spec in extra]
        self._desk = Child(self._role("desk", environment))
        self._bookkeeper = Child(self._role("bookkeeper", environment))
        worker_environment = {**environment, LISTEN_FD_VARIABLE: str(listener.fileno())}
        self._worker = Child(self._role("worker", worker_environment, (listener.fileno(),)))

    def _role(self, name: str, environment: Mapping[str, str], fds: tuple[int, ...] = ()) -> ChildSpec:
        return ChildSpec(name, (sys.executable, "-P", "-m", "gateway.roles", name), environment, fds)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role, of those that run."""
        children = [*self._extra, self._desk, self._bookkeeper, self._worker]
        return {child.spec.name: child.process.pid for child in children if child.process and child.alive}

    def stop(self) -> None:
        """As SIGTERM does."""
        self._stopping.set()

    async def run(self) -> None:
        """Starts everything, keeps it running, and returns after an orderly stop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            await self._start_all()
            if self._on_ready is not None and not self._stopping.is_set():
                await asyncio.to_thread(self._on_ready)
            await self._stopping.wait()
        finally:
            await self._stop_all()

    async def _start_all(self) -> None:
        for child in self._extra:
            await self._start(child, wait=False)
            self._keep(child)
        await self._start(self._desk, wait=not self._settings.last_good_file.exists())
        self._keep(self._desk)
        await self._start(self._bookkeeper)
        self._keep(self._bookkeeper)
        await self._start_worker()
        self._keep(self._worker)

    def _keep(self, child: Child) -> None:
        task = asyncio.get_running_loop().create_task(self._watch(child), name=f"watch-{child.spec.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, child: Child) -> None:
        """Waits for a child's death and starts it again, until stopping."""
        while child.process is not None:
            code = await child.process.wait()
            child.ready.clear()
            if self._stopping.is_set():
                return
            LOG.warning("%s (pid %d) ended with %d; starting it again", child.spec.name, child.process.pid, code)
            await self._pause(child)
            if self._stopping.is_set():
                return
            try:
                await (self._start_worker() if child is self._worker else self._start(child, wait=False))
            except Exception:  # whatever it is, the next attempt follows after a pause
                LOG.exception("%s could not be started", child.spec.name)

    async def _pause(self, child: Child) -> None:
        """No pause for a child that had run for a while; a doubling one for one that dies at once again and again."""
        lived_s = asyncio.get_running_loop().time() - child.started_s
        child.failures = 0 if lived_s > STEADY_S else child.failures + 1
        if child.failures > QUICK_RESTARTS:
            pause_s = min(MAX_PAUSE_S, 0.1 * 2 ** min(child.failures - QUICK_RESTARTS, 10))
            await asyncio.sleep(pause_s)

    async def _start(self, child: Child, wait: bool = True) -> None:
        """Starts a child; with `wait` returns when it has said that it is ready, or has died, or time is up."""
        read_end, write_end = os.pipe()
        spec = child.spec
        child.started_s = asyncio.get_running_loop().time()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *spec.command,
                env={**spec.environment, READY_FD_VARIABLE: str(write_end)},
                pass_fds=(*spec.fds, write_end),
                start_new_session=True,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        task = asyncio.get_running_loop().create_task(self._await_ready(child, read_end), name=f"ready-{spec.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if wait:
            await asyncio.wait((task,), timeout=START_TIMEOUT_S)

    async def _await_ready(self, child: Child, read_end: int) -> None:
        """The child writes one byte when ready; the end of the pipe without one means that it has died."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            if await reader.read(1):
                child.ready.set()
        finally:
            transport.close()

    async def _start_worker(self) -> None:
        """Bookkeeper first, if it is dead; then the adoption of every journal without an owner; then the worker.

        Without an answer there is no worker: it would not know what the dead one's calls have spent.
        """
        while not self._stopping.is_set():
            if not self._bookkeeper.alive:
                await asyncio.sleep(0.05)  # its own watcher starts it
            try:
                answer = await request(self._settings.bookkeeper_socket, Adopt(), ADOPT_TIMEOUT_S)
            except ConnectionError as error:
                LOG.warning("the bookkeeper does not answer yet: %s", error)
                await asyncio.sleep(0.2)
                continue
            if isinstance(answer, Adopted) and answer.failed:
                LOG.error("a journal could not be adopted, its reservations stand until it is: %s", answer.failed)
            await self._start(self._worker)
            return

    def _reload(self) -> None:
        """SIGHUP: the desk reads the policy files again, the worker the credential files."""
        for child in (self._desk, self._worker):
            if child.process is not None and child.ready.is_set():
                child.process.send_signal(signal.SIGHUP)

    async def _stop_all(self) -> None:
        """The worker drains first; the desk and then the bookkeeper, which still writes what is left, come last."""
        self._stopping.set()
        self._listener.close()  # with the worker's copy gone too, new connections are refused, not left waiting
        await self._stop(self._worker, self._settings.drain_timeout_s + STOP_TIMEOUT_S)
        await self._stop(self._desk, STOP_TIMEOUT_S)
        await self._stop(self._bookkeeper, STOP_TIMEOUT_S)
        for child in self._extra:
            await self._stop(child, STOP_TIMEOUT_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop(self, child: Child, timeout_s: float) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            LOG.warning("%s (pid %d) did not end within %.0f s; killing it", child.spec.name, process.pid, timeout_s)
            process.kill()
            await process.wait()
