"""One child process: how it is started, what it says of itself, how it is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.system import READY, READY_FD_VARIABLE

LOG = logging.getLogger("faregate.supervisor")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is started. `fds` are passed on under the same numbers."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    fds: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Child:
    """A running or restarting child. `failures` counts deaths in quick succession and sets the pause before the next
    start. `leaving`: it has been replaced and is not started again. `prepared`: it only waits until the one before it
    has handed over or ended; `ready`: it serves."""

    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    started_s: float = 0.0
    failures: int = 0
    leaving: bool = False
    told_to_stop: bool = False
    prepared: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def tell(self, number: int) -> None:
        """Sends a signal, if there is a process."""
        if self.process is not None and self.alive:
            self.process.send_signal(number)

    async def start(self) -> Coroutine[Any, Any, None]:
        """Starts a process; what is returned hears what it says, until its end, and must be run."""
        read_end, write_end = os.pipe()
        spec = self.spec
        self.prepared.clear()
        self.ready.clear()
        self.started_s = asyncio.get_running_loop().time()
        try:
            self.process = await asyncio.create_subprocess_exec(
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
        return self._hear(read_end)

    async def _hear(self, read_end: int) -> None:
        """The child writes a byte when prepared and one when ready; the pipe's end without means that it died."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while said := await reader.read(1):
                self.prepared.set()
                if said == READY:
                    self.ready.set()
                    return
        finally:
            transport.close()

    async def reaches(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Waits for `prepared` or `ready`; False when the process has died, or time is up."""
        if self.process is None:
            return False
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.process.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return event.is_set()

    async def stop(self, timeout_s: float, number: int = signal.SIGTERM) -> None:
        """SIGTERM or another signal that ends it, and SIGKILL when it does not end in time."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        self.told_to_stop = True
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            LOG.warning("%s (pid %d) did not end within %.0f s; killing it", self.spec.name, process.pid, timeout_s)
            process.kill()
            await process.wait()
