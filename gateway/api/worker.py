"""A worker's life: it waits for its forerunner, follows configuration, counts what it refused, hands over, and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.api.plane import DataPlane
from gateway.core.errors import UsageLogUnavailable
from gateway.core.ports import Clock, Journal
from gateway.core.records import AnyRecord, Handover
from gateway.core.upstream import Upstream

LOG = logging.getLogger("faregate.worker")
STAT_EVERY_S = 10.0
FOLLOW_AGAIN_S = 1.0
NO_CALL = b"\0" * 16
_LOOK_S = 0.01
_LOOKS = 200
"""Cancelled calls are settled within some turns of the event loop; only then may the journal be closed."""


Fold = Callable[[AnyRecord, bytes], None]


class Others(Protocol):
    """The workers before this one, as their journals tell; `fold` gets each of their records."""

    async def handed_over(self, fold: Fold) -> None:
        """Returns once none of them admits any more."""
        ...

    async def follow(self, fold: Fold) -> None:
        """Returns once none of them has anything left to end."""
        ...

    def close(self) -> None: ...


class Admissions(Protocol):
    """What of the limits a hand-over touches."""

    def hand_over(self) -> None:
        """Nothing is granted any more."""
        ...


class Worker:
    """The data plane with what runs beside it. `start` and `stop` are called once, in the serving event loop.

    With `others` no call may come before `may_admit` has returned; `fold` gets what they still write.
    """

    def __init__(
        self,
        plane: DataPlane,
        journal: Journal,
        clock: Clock,
        upstreams: tuple[Upstream, ...],
        follow: Callable[[], Awaitable[None]],
        admissions: Admissions | None = None,
        others: Others | None = None,
        fold: Fold | None = None,
    ) -> None:
        self.plane = plane
        self._journal = journal
        self._clock = clock
        self._upstreams = upstreams
        self._follow = follow
        self._admissions = admissions
        self._others = others
        self._fold = fold
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run_follow(), name="follow-configuration"),
            loop.create_task(self._count(), name="count-refusals"),
        ]

    async def may_admit(self) -> None:
        """Waits until this is the only worker that admits; from then on what others still end is followed."""
        if self._others is not None and self._fold is not None:
            await self._others.handed_over(self._fold)
            following = self._follow_others(self._others, self._fold)
            self._tasks.append(asyncio.get_running_loop().create_task(following, name="follow-others"))

    async def _follow_others(self, others: Others, fold: Fold) -> None:
        """Until there is nothing left to follow: what is not read stays reserved here for good."""
        while True:
            try:
                await others.follow(fold)
            except Exception:  # whatever it is, it goes on where it was
                LOG.exception("an older worker's journal could not be followed; trying again")
                await asyncio.sleep(FOLLOW_AGAIN_S)
            else:
                return

    def hand_over(self) -> bool:
        """Appends HANDOVER: from here on this worker only ends what it has admitted. False, and nothing has changed,
        when the journal does not take it."""
        try:
            self._journal.append(Handover(self._clock.now_ms(), b""), NO_CALL)
        except UsageLogUnavailable as error:
            LOG.error("not handed over: %s", error.message)
            return False
        if self._admissions is not None:
            self._admissions.hand_over()
        return True

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
        if self._others is not None:
            self._others.close()
        self._record_refusals()
        for upstream in self._upstreams:
            await upstream.close()
        self._journal.close()
