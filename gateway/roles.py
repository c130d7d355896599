"""The processes: one function per role, started by the supervisor as `python -m gateway.roles ROLE`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.api.protocol import protocol_class
from gateway.api.server import serve
from gateway.app import create_desk, create_worker, open_books, prepare_store
from gateway.core.errors import FaregateError
from gateway.settings import Settings, read_settings
from gateway.system import SystemClock, SystemEntropy, end_with_parent, inherited_listener, say_ready

DESK_DRAIN_S = 5.0
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def _run(main: Coroutine[Any, Any, None]) -> None:
    import uvloop

    uvloop.run(main)


async def run_worker(settings: Settings) -> None:
    """The worker on the supervisor's listening socket. SIGHUP has credential files read again."""
    parts = create_worker(settings)
    listener = inherited_listener()
    worker = parts.worker
    await worker.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.configuration.reload_credentials)

    def draining() -> None:
        worker.plane.draining = True

    try:
        await serve(
            worker.plane,
            drain_s=settings.drain_timeout_s,
            sockets=[listener],
            protocol=protocol_class(worker.plane.raw_refusal),
            on_start=say_ready,
            on_stop=draining,
        )
    finally:
        await worker.stop()


async def run_desk(settings: Settings) -> None:
    """The desk on its Unix socket. SIGHUP reads the files again."""
    desk = create_desk(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, desk.app.state.policy_files.ask)
    async with desk.running():
        await serve(
            desk.app,
            drain_s=DESK_DRAIN_S,
            unix_socket=str(settings.desk_socket),
            lifespan=True,
            on_start=say_ready,
        )


async def run_bookkeeper(settings: Settings) -> None:
    """The bookkeeper until SIGTERM; what is left is written first."""
    from gateway.bookkeeper import bookkeeper

    async with open_books(settings) as (ledger, config):
        await bookkeeper.run_bookkeeper(settings, ledger, config, SystemClock(), SystemEntropy(), say_ready)


ROLES: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
    "worker": run_worker,
    "desk": run_desk,
    "bookkeeper": run_bookkeeper,
    "prepare": prepare_store,
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
