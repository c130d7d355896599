"""Running the children of one data folder: started in order, watched, restarted, drained.

It owns the data folder's lock and the listening socket, and nothing else: no SQL, no configuration, no call passes
through it. The order after a worker's death is what keeps the books: bookkeeper alive → it adopts the dead worker's
journal (every attempt and call ended, checkpoint written) → a new worker starts. Clients wait in the listen queue.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from gateway.annex.following import FollowedSpec
from gateway.annex.process import LIMITS, AnnexProcess, annex_command
from gateway.annex.sockets import bind_socket
from gateway.annex.spec import deployments_of, spec_of
from gateway.channel.client import request
from gateway.channel.frames import Connection
from gateway.channel.messages import Adopt, Adopted, Request, Restart, Restarted
from gateway.channel.server import serve
from gateway.settings import Settings
from gateway.supervisor.children import Child, ChildSpec
from gateway.supervisor.restarting import restart_all
from gateway.system import LISTEN_FD_VARIABLE

LOG = logging.getLogger("faregate.supervisor")

START_TIMEOUT_S = 60.0
ADOPT_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
MAX_PAUSE_S = 5.0
STEADY_S = 1.0
QUICK_RESTARTS = 3


class Supervisor:
    """Runs the children of one data folder until SIGTERM or SIGINT; a second one ends them at once. SIGHUP has files
    read again, SIGUSR2 replaces every process (`restarting.py`).

    `worker`, `desk` and `bookkeeper` are those that shall run; `retired` workers have handed over and end their calls.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        environment: Mapping[str, str],
        extra: tuple[ChildSpec, ...] = (),
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.environment = environment
        self._listener = listener
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._serving = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: dict[Child, None] = {}
        self._extra = [Child(spec) for spec in extra]
        self.desk = Child(self.role("desk", environment))
        self.bookkeeper = Child(self.role("bookkeeper", environment))
        worker_environment = {**environment, LISTEN_FD_VARIABLE: str(listener.fileno())}
        self.worker = Child(self.role("worker", worker_environment, (listener.fileno(),)))
        self.retired: list[Child] = []
        self._annex_socket = bind_socket(settings.annex_socket)
        followed = FollowedSpec(
            settings.last_good_file, lambda policy: spec_of(policy.providers.values(), deployments_of(policy))
        )
        self._annex = AnnexProcess(
            self._annex_socket,
            followed.read,
            environment,
            annex_command(settings.annex_python),
            replace(LIMITS, drain_s=settings.drain_timeout_s),
        )
        self._annexed: asyncio.Task[None] | None = None
        self.changing = {name: asyncio.Lock() for name in ("desk", "bookkeeper", "worker", *(s.name for s in extra))}
        """Held by whoever starts or replaces the child of a role: a restart, or the watch over one that died."""
        self._restarting = asyncio.Lock()

    @staticmethod
    def role(name: str, environment: Mapping[str, str], fds: tuple[int, ...] = ()) -> ChildSpec:
        return ChildSpec(name, (sys.executable, "-P", "-m", "gateway.roles", name), environment, fds)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role, of those that run."""
        children = [*self._extra, self.desk, self.bookkeeper, self.worker]
        return {child.spec.name: child.pid for child in children if child.alive}

    # ------------------------------------------------------------ life

    def stop(self) -> None:
        """As SIGTERM does; a second one is passed on to whoever is still stopping."""
        for child in self._started:
            if self._stopping.is_set() and child.told_to_stop:
                child.tell(signal.SIGTERM)
        self._stopping.set()

    async def run(self) -> None:
        """Starts everything, keeps it running, and returns after an orderly stop."""
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR2: self._restart_by_signal,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            async with serve(self.settings.supervisor_socket, self._answer):
                await self._start_all()
                self._serving.set()
                if self._on_ready is not None and not self._stopping.is_set():
                    await asyncio.to_thread(self._on_ready)
                await self._stopping.wait()
        finally:
            await self._stop_all()

    async def _start_all(self) -> None:
        for child in self._extra:
            await self.start(child, wait=False)
            self.keep(child)
        await self.start(self.desk, wait=not self.settings.last_good_file.exists())
        self.keep(self.desk)
        await self.start(self.bookkeeper)
        self.keep(self.bookkeeper)
        self._annexed = asyncio.get_running_loop().create_task(self._annex.run(), name="annex")
        await self.start_worker()
        self.keep(self.worker)

    def keep(self, child: Child) -> None:
        """Has it started again whenever it dies, unless it is leaving."""
        self._background(self._watch(child), f"watch-{child.spec.name}")

    def _background(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self, child: Child) -> None:
        """Waits for a child's death and starts it again, until stopping."""
        while child.process is not None:
            code = await child.process.wait()
            child.prepared.clear()
            child.ready.clear()
            async with self.changing[child.spec.name]:
                if self._stopping.is_set() or child.leaving:
                    self._gone(child, code)
                    return
                LOG.warning("%s (pid %d) ended with %d; starting it again", child.spec.name, child.pid, code)
                await self.pause(child)
                if self._stopping.is_set():
                    return
                try:
                    await (self.start_worker() if child is self.worker else self.start(child, wait=False))
                except Exception:  # whatever it is, the next attempt follows after a pause
                    LOG.exception("%s could not be started", child.spec.name)

    def _gone(self, child: Child, code: int) -> None:
        self._started.pop(child, None)
        if child in self.retired:
            self.retired.remove(child)
            LOG.info("the old worker (pid %d) has ended with %d", child.pid, code)

    async def pause(self, child: Child) -> None:
        """No pause for a child that had run for a while; a doubling one for one that dies at once again and again."""
        lived_s = asyncio.get_running_loop().time() - child.started_s
        child.failures = 0 if lived_s > STEADY_S else child.failures + 1
        if child.failures > QUICK_RESTARTS:
            pause_s = min(MAX_PAUSE_S, 0.1 * 2 ** min(child.failures - QUICK_RESTARTS, 10))
            await asyncio.sleep(pause_s)

    async def start(self, child: Child, wait: bool = True) -> None:
        """Starts a child; with `wait` returns when it has said that it is ready, or has died, or time is up. While
        stopping nothing is started."""
        if self._stopping.is_set():
            return
        for left in [one for one in self._started if one.leaving and not one.alive]:
            del self._started[left]
        self._started[child] = None
        self._background(await child.start(), f"hear-{child.spec.name}")
        if wait:
            await child.reaches(child.ready, START_TIMEOUT_S)

    async def start_worker(self) -> None:
        """Bookkeeper first, if it is dead; then the adoption of every journal without an owner; then the worker.

        Without an answer there is no worker: it would not know what the dead one's calls have spent.
        """
        await self.adopt()
        if self._stopping.is_set():
            return
        await self.start(self.worker, wait=False)
        if await self.worker.reaches(self.worker.prepared, START_TIMEOUT_S):
            for old in self.retired:  # one that could not hand over when it was asked to
                old.tell(signal.SIGUSR1)
            await self.worker.reaches(self.worker.ready, START_TIMEOUT_S)

    async def adopt(self) -> None:
        """Has the bookkeeper close every journal whose process is gone. Returns when it has, or when stopping."""
        while not self._stopping.is_set():
            if not self.bookkeeper.alive:
                await asyncio.sleep(0.05)  # its own watcher starts it
            try:
                answer = await request(self.settings.bookkeeper_socket, Adopt(), ADOPT_TIMEOUT_S)
            except ConnectionError as error:
                LOG.warning("the bookkeeper does not answer yet: %s", error)
                await asyncio.sleep(0.2)
                continue
            if isinstance(answer, Adopted) and answer.failed:
                LOG.error("a journal could not be adopted, its reservations stand until it is: %s", answer.failed)
            return

    # ------------------------------------------------------------ asked from outside

    def _reload(self) -> None:
        """SIGHUP: the desk reads the policy files again, the worker the credential files."""
        for child in (self.desk, self.worker):
            if child.ready.is_set():
                child.tell(signal.SIGHUP)
        self._annex.reload()

    def _restart_by_signal(self) -> None:
        self._background(self._restart_and_log(), "restart")

    async def _restart_and_log(self) -> None:
        await self.restart()

    async def _answer(self, connection: Connection[Request]) -> None:
        match await connection.receive():
            case Restart():
                await connection.send(await self.restart())

    async def restart(self) -> Restarted:
        """Replaces every process by the code on disk, one restart at a time; what happened is logged, too."""
        if self._stopping.is_set() or not self._serving.is_set():
            return Restarted((), "Not restarted: the server is starting or stopping.")
        if self._restarting.locked():
            return Restarted((), "Not restarted: a restart is under way already.")
        async with self._restarting:
            result = await restart_all(self)
        if not result.failed:
            self._annex.renew()
        for line in result.done:
            LOG.info("restart: %s", line)
        if result.failed:
            LOG.error("restart: %s", result.failed)
        return result

    # ------------------------------------------------------------ the end

    async def _stop_all(self) -> None:
        """The workers drain first; the desk and then the bookkeeper, which still writes what is left, come last."""
        self._stopping.set()
        self._listener.close()  # with the workers' copies gone too, new connections are refused, not left waiting
        settings = self.settings
        drain_s = settings.pre_stop_s + settings.handover_grace_s + settings.drain_timeout_s + STOP_TIMEOUT_S
        await asyncio.gather(*(child.stop(drain_s) for child in self._of_role("worker")))
        self._annex.stop()  # after the workers: their calls run through it
        if self._annexed is not None:
            await asyncio.gather(self._annexed, return_exceptions=True)
        self._annex_socket.close()
        for name in ("desk", "bookkeeper"):
            await asyncio.gather(*(child.stop(STOP_TIMEOUT_S) for child in self._of_role(name)))
        for child in [*self._started]:
            await child.stop(STOP_TIMEOUT_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _of_role(self, name: str) -> list[Child]:
        return [child for child in self._started if child.spec.name == name]
