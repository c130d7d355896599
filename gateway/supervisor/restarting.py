"""A restart of everything on the code that is on disk now: an upgrade without a refused call.

The order: first it is proved that the new code loads and has its store. The bookkeeper before the worker, because it
must read what a new worker writes; the desk last, because it may write what only new workers read. Whatever does not
come up leaves the old process as it was, and ends the restart there.

The worker: the new one is prepared beside the old one, then the old one is told to hand over. Between the two nobody
admits for some milliseconds, and callers wait in the listen queue, which stays open all the time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gateway.channel.messages import Restarted
from gateway.settings import Settings
from gateway.supervisor.children import Child, ChildSpec

CHECK_S = 60.0
PREPARE_S = 30.0
HAND_OVER_S = 5.0
STOP_S = 10.0
GIVE_UP_S = 2.0
"""How long a new process that did not come up has to end by itself."""
MAX_RETIRED = 8
"""Old workers that still end their calls. Each is a process with its memory; more restarts than this must wait."""


class NotReplaced(Exception):
    """Says what goes on as it was, for people."""


class Household(Protocol):
    """What a restart needs of the supervisor."""

    settings: Settings
    environment: Mapping[str, str]
    desk: Child
    bookkeeper: Child
    worker: Child
    retired: list[Child]

    @property
    def changing(self) -> Mapping[str, AbstractAsyncContextManager[Any]]: ...

    def role(self, name: str, environment: Mapping[str, str], fds: tuple[int, ...] = ()) -> ChildSpec: ...

    async def start(self, child: Child, wait: bool = True) -> None: ...

    def keep(self, child: Child) -> None: ...

    async def adopt(self) -> None: ...


async def restart_all(house: Household) -> Restarted:
    """Never raises for what a new process does; says what was done and what was not."""
    done: list[str] = []
    try:
        for step in (_check, _replace_bookkeeper, _replace_worker, _replace_desk):
            done.append(await step(house))
    except NotReplaced as error:
        return Restarted(tuple(done), str(error))
    return Restarted(tuple(done))


async def _check(house: Household) -> str:
    """The code on disk, in a process of its own: it loads, and the store has its schema. Nothing is changed by it."""
    child = Child(house.role("check", house.environment), leaving=True)
    begun_s = _now_s()
    await house.start(child, wait=False)
    if child.process is None:
        raise NotReplaced("Not restarted: the server is stopping.")
    try:
        code = await asyncio.wait_for(child.process.wait(), CHECK_S)
    except TimeoutError:
        await child.stop(GIVE_UP_S)
        raise NotReplaced(f"The code on disk did not load within {CHECK_S:.0f} s. Nothing was replaced.") from None
    if code:
        raise NotReplaced(
            "The code on disk does not load, or its store is not ready (see the log). Nothing was replaced."
        )
    return f"the code on disk loads ({_now_s() - begun_s:.1f} s)"


async def _replace_bookkeeper(house: Household) -> str:
    """The new one waits for the old one's lock: there is one ledger to write. Meanwhile usage waits in the journals."""
    async with house.changing["bookkeeper"]:
        old, new = house.bookkeeper, Child(house.bookkeeper.spec)
        await house.start(new, wait=False)
        if not await new.reaches(new.prepared, PREPARE_S):
            new.leaving = True
            await new.stop(GIVE_UP_S)
            raise NotReplaced(
                "The new bookkeeper did not start (see the log). The old one goes on; nothing was replaced."
            )
        begun_s = _now_s()
        old.leaving = True
        house.bookkeeper = new
        await old.stop(STOP_S, signal.SIGUSR1)
        ready = await new.reaches(new.ready, PREPARE_S)
        house.keep(new)
    if not ready:
        raise NotReplaced(
            "The new bookkeeper does not begin, and is started again and again (see the log). Worker and desk serve on "
            "as they were; usage waits in the journals."
        )
    return f"bookkeeper: {old.pid} → {new.pid} ({_now_s() - begun_s:.1f} s without one)"


async def _replace_worker(house: Household) -> str:
    async with house.changing["worker"]:
        if sum(child.alive for child in house.retired) >= MAX_RETIRED:
            raise NotReplaced(
                f"The worker was not replaced: {MAX_RETIRED} older ones are still ending their calls. Try again when "
                "they have; FAREGATE_DRAIN_TIMEOUT_S says how long they may."
            )
        await house.adopt()
        old, new, begun_s = house.worker, Child(house.worker.spec), _now_s()
        await house.start(new, wait=False)
        if not await new.reaches(new.prepared, PREPARE_S):
            new.leaving = True
            await new.stop(GIVE_UP_S)
            raise NotReplaced(
                "The new worker did not start (see the log). The old one serves on, with the old code; the bookkeeper "
                "is new. Mend the code and restart again."
            )
        asked_s = _now_s()
        old.leaving = True
        house.retired.append(old)
        house.worker = new
        old.tell(signal.SIGUSR1)
        ready = await new.reaches(new.ready, HAND_OVER_S)
        paused_ms = (_now_s() - asked_s) * 1000
        if not ready:
            await new.stop(GIVE_UP_S)  # its watch starts another one, which asks the old one again
        house.keep(new)
    if not ready:
        raise NotReplaced(
            "The new worker was prepared but did not begin (see the log); another one is being started. Callers wait."
        )
    return f"worker: {old.pid} → {new.pid} (prepared in {asked_s - begun_s:.2f} s, callers waited {paused_ms:.0f} ms)"


async def _replace_desk(house: Household) -> str:
    """Side by side: the new one takes the socket's name when it serves."""
    async with house.changing["desk"]:
        old, new, begun_s = house.desk, Child(house.desk.spec), _now_s()
        await house.start(new)
        if not new.ready.is_set():
            new.leaving = True
            await new.stop(GIVE_UP_S)
            raise NotReplaced("The new desk did not start (see the log). The old one serves on; all else is new.")
        old.leaving = True
        house.desk = new
        house.keep(new)
        await old.stop(STOP_S)
    return f"desk: {old.pid} → {new.pid} ({_now_s() - begun_s:.1f} s)"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
