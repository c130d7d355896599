"""The processes: one function per role, started by the supervisor as `python -m gateway.roles ROLE`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.api.port import Port, StopTimes
from gateway.api.server import serve_unix
from gateway.api.taking import Taking
from gateway.app import create_desk, create_worker, open_books, prepare_store
from gateway.core.errors import FaregateError
from gateway.settings import Settings, read_settings
from gateway.system import (
    SystemClock,
    SystemEntropy,
    end_with_parent,
    inherited_listener,
    say_prepared,
    say_ready,
)
from gateway.vault.configuration import freeze_heap

DESK_DRAIN_S = 5.0
SWITCH_S = 0.001
"""How long the worker's loop may keep the journal's syncing thread from the interpreter: a sync has four such steps."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def _run(main: Coroutine[Any, Any, None]) -> None:
    import uvloop

    uvloop.run(main)


async def run_worker(settings: Settings) -> None:
    """The worker on the supervisor's listening socket. SIGHUP has credential files read again.

    It is prepared once it has read everything, and admits when no other worker does: at once after a crash, and after
    the HANDOVER of the one that it replaces.
    """
    listener = inherited_listener()
    sys.setswitchinterval(SWITCH_S)
    parts = create_worker(settings)
    freeze_heap()  # the configuration was frozen when it was loaded; what was imported and wired since lives as long
    worker = parts.worker

    def hand_over() -> bool:
        done = worker.hand_over()
        if done:
            taking.step_down()
        return done

    times = StopTimes(settings.pre_stop_s, settings.handover_grace_s, settings.drain_timeout_s)
    port = Port(parts.plane, listener, times, settings.passing_socket, settings.successor_socket, hand_over)
    taking = Taking(settings.successor_socket, settings.passing_socket, port.make_protocol)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.configuration.reload_credentials)
    await worker.start()
    try:
        with port.signals():
            await parts.configured()
            say_prepared()
            if await _first(worker.may_admit(), port.left()):
                return
            taking.begin()
            await port.serve(say_ready)
    finally:
        await taking.close()
        await worker.stop()


async def _first(wanted: Awaitable[None], other: Awaitable[None]) -> bool:
    """Waits for one of them, and whether it was the other."""
    tasks = asyncio.ensure_future(wanted), asyncio.ensure_future(other)
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()
    return tasks[0] not in done


async def run_desk(settings: Settings) -> None:
    """The desk on its Unix socket. SIGHUP reads the files again."""
    desk = create_desk(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, desk.app.state.policy_files.ask)
    async with desk.running():
        await serve_unix(desk.app, settings.desk_socket, drain_s=DESK_DRAIN_S, on_start=say_ready)


async def run_bookkeeper(settings: Settings) -> None:
    """The bookkeeper until SIGTERM; what is left is written first."""
    from gateway.bookkeeper import bookkeeper

    async with open_books(settings) as (ledger, config, alerts):
        say_prepared()
        await bookkeeper.run_bookkeeper(settings, ledger, config, SystemClock(), SystemEntropy(), say_ready, alerts)


async def check(settings: Settings) -> None:
    """Whether the code on disk could take over: loads what each role loads, and prepares the store for it."""
    from gateway.bookkeeper import bookkeeper  # noqa: F401 - that it can be imported is the point
    from gateway.desk import app  # noqa: F401

    await prepare_store(settings)


ROLES: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
    "worker": run_worker,
    "desk": run_desk,
    "bookkeeper": run_bookkeeper,
    "prepare": prepare_store,
    "check": check,
}


def main() -> int:
    """`python -m gateway.roles ROLE`, started by the supervisor. The exit code is 0 after an orderly stop."""
    settings = read_settings()
    logging.basicConfig(level=settings.log_level.upper(), format=_FORMAT)
    for chatty, level in (("uvicorn", logging.WARNING), ("uvicorn.error", logging.ERROR), ("alembic", logging.WARNING)):
        logging.getLogger(chatty).setLevel(level)
    role = sys.argv[1]
    end_with_parent()
    try:
        _run(ROLES[role](settings))
    except FaregateError as error:
        print(f"faregate {role}: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
