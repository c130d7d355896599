"""A worker's life: it serves the data plane, follows configuration, counts what it refused, and drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.api.plane import DataPlane
from gateway.core.errors import UsageLogUnavailable
from gateway.core.ports import Clock, Journal
from gateway.core.upstream import Upstream

LOG = logging.getLogger("faregate.worker")
STAT_EVERY_S = 10.0
NO_CALL = b"\0" * 16
_LOOK_S = 0.01
_LOOKS = 200
"""Cancelled calls are settled within some turns of the event loop; only then may the journal be closed."""


class Worker:
    """The data plane with what runs beside it. `start` and `stop` are called once, in the serving event loop."""

    def __init__(
        self,
        plane: DataPlane,
        journal: Journal,
        clock: Clock,
        upstreams: tuple[Upstream, ...],
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self.plane = plane
        self._journal = journal
        self._clock = clock
        self._upstreams = upstreams
        self._follow = follow
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run_follow(), name="follow-configuration"),
            loop.create_task(self._count(), name="count-refusals"),
        ]

    async def _run_follow(self) -> None:
        await self._follow()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(STAT_EVERY_S)
            self._record_refusals()

    def _record_refusals(self) -> None:
        record = self.plane.refusals.record(self._clock.now_ms())
        if record is None:
            return
        try:
            self._journal.append(record, NO_CALL)
        except UsageLogUnavailable as error:
            LOG.error("refusals could not be counted: %s", error.message)

    async def stop(self) -> None:
        """After the last call has ended or was cancelled: counts, connections and the journal are closed."""
        for _ in range(_LOOKS):
            if not self.plane.running:
                break
            await asyncio.sleep(_LOOK_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._record_refusals()
        for upstream in self._upstreams:
            await upstream.close()
        self._journal.close()
