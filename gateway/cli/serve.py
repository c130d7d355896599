"""`faregate serve`: production. The supervisor runs desk, bookkeeper and worker until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.core.errors import ConfigInvalid, StoreUnavailable
from gateway.settings import Settings, bundled, unknown_variables
from gateway.supervisor import ChildSpec, Supervisor, bind
from gateway.system import lock_data_folder

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment with the settings that options have changed, for the children."""
    return {
        **os.environ,
        "FAREGATE_DATA_DIR": str(settings.data_dir.resolve()),
        "FAREGATE_CONFIG_DIR": str(settings.config_dir.resolve()),
        "FAREGATE_HOST": settings.host,
        "FAREGATE_PORT": str(settings.port),
    }


def check(settings: Settings) -> None:
    """Raises ConfigInvalid for what `serve` cannot do, before anything is started."""
    if settings.workers != 1:
        raise ConfigInvalid(
            f"FAREGATE_WORKERS={settings.workers}: only one worker can run until limits can be leased from PostgreSQL "
            "to several. Unset it; one worker serves thousands of calls per second."
        )
    routes = settings.config_dir / "routes.yaml"
    if not routes.exists():
        raise ConfigInvalid(
            f"There is no {routes}. Copy {bundled('policies') / 'routes.yaml'} and adapt it, or set "
            "FAREGATE_CONFIG_DIR to the folder that has one; `faregate config validate` checks it."
        )


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises Conflict when the port or the data folder is in use."""
    check(settings)
    log = logging.getLogger("faregate")
    start(settings, (), lambda address: log.info("serving on %s (console: %s/ui)", address, address))


def start(
    settings: Settings, extra: tuple[ChildSpec, ...], on_ready: Callable[[str], None], log_level: str = ""
) -> None:
    """Owns data folder and port, prepares the store, supervises until stopped. `on_ready` gets the address."""
    level = (log_level or settings.log_level).upper()
    logging.basicConfig(level=level, format=_FORMAT)
    for name, near in unknown_variables(os.environ).items():
        logging.getLogger("faregate").warning("%s is no setting%s", name, f"; is it {near}?" if near else "")
    lock = lock_data_folder(settings)
    try:
        environment = {**environment_of(settings), "FAREGATE_LOG_LEVEL": level.lower()}
        prepared = subprocess.run(
            [sys.executable, "-P", "-m", "gateway.roles", "prepare"], env=environment, check=False
        )
        if prepared.returncode:
            raise StoreUnavailable("Not started: the database is not ready (see above).")
        with bind(settings.host, settings.port) as listener:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{port}"
            supervisor = Supervisor(settings, listener, environment, extra, lambda: on_ready(address))
            asyncio.run(supervisor.run())
    finally:
        os.close(lock)


def with_options(settings: Settings, host: str | None, port: int | None, data_dir: Path | None) -> Settings:
    """Settings with what the command line says instead of the environment."""
    changes: dict[str, Any] = {}
    if host is not None:
        changes["host"] = host
    if port is not None:
        changes["port"] = port
    if data_dir is not None:
        changes["data_dir"] = data_dir
    return replace(settings, **changes)
