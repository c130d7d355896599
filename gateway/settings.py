"""One frozen Settings, read once from `FAREGATE_*` variables. `docs/settings.md` is generated from this file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from gateway.core.errors import ConfigInvalid

Durability = Literal["process", "power"]
_PREFIX = "FAREGATE_"


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator may set without a file. Sizes are bytes, times seconds, unless the name says else."""

    data_dir: Path = _setting(Path("data"), "Where journals, SQLite files, secrets and sockets live.")
    config_dir: Path = _setting(Path("policies"), "The folder that holds routes.yaml and the other policy files.")
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(4000, "Port to listen on; 0 picks a free one.")
    database_url: str = _setting("", "postgresql://… for production; empty: SQLite files in the data folder.")
    durability: Durability = _setting(
        "process", "process: kill -9 loses nothing; power: each answer also waits for fdatasync."
    )
    workers: int = _setting(1, "Worker processes. More than 1 needs the leased limit engine, which is not there yet.")
    key_env: str = _setting("live", "The middle word of new keys: fg_<env>_….")
    max_body_bytes: int = _setting(20 * 1024 * 1024, "Largest request body accepted.")
    max_reply_bytes: int = _setting(64 * 1024 * 1024, "Largest upstream reply accepted.")
    drain_timeout_s: float = _setting(120.0, "How long SIGTERM lets running calls finish.")
    drain_max_s: float = _setting(
        60.0, "How long a reply is read on for its usage after the caller has gone (on_disconnect: drain)."
    )
    first_event_wait_s: float = _setting(
        15.0, "How long a stream's headers wait for the first event before 200 and heartbeats."
    )
    reserve_wait_s: float = _setting(2.0, "How long a call waits for money that other running calls hold.")
    budget_status: int = _setting(402, "HTTP status of a budget refusal.")
    journal_sync_ms: int = _setting(5, "How often the journal is forced to disk.")
    journal_keep_days: int = _setting(7, "How long journal segments are kept after they are in SQL.")
    journal_reserve_bytes: int = _setting(
        16 * 1024 * 1024, "Space kept back so that running calls can settle on a full disk."
    )
    segment_bytes: int = _setting(16 * 1024 * 1024, "Size of one preallocated journal segment.")
    log_level: str = _setting("info", "debug, info, warning or error.")
    session_hours: int = _setting(12, "How long a console sign-in lasts.")

    @property
    def run_dir(self) -> Path:
        """Sockets, locks and the last-good configuration."""
        return self.data_dir / "run"

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "journal"

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def desk_socket(self) -> Path:
        return self.run_dir / "desk.sock"

    @property
    def bookkeeper_socket(self) -> Path:
        return self.run_dir / "bookkeeper.sock"

    @property
    def last_good_file(self) -> Path:
        return self.run_dir / "config.msgpack"

    @property
    def checkpoint_file(self) -> Path:
        return self.data_dir / "checkpoint.msgpack"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigInvalid naming the variable, what it holds and what it may hold."""
    source = os.environ if environment is None else environment
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for item in fields(Settings):
        text = source.get(_PREFIX + item.name.upper())
        if text is not None:
            values[item.name] = _parse(item.name, hints[item.name], text)
    return Settings(**values)


def _parse(name: str, wanted: object, text: str) -> object:
    choices = get_args(wanted)
    if choices:
        if text in choices:
            return text
        raise ConfigInvalid(f"{_PREFIX}{name.upper()}={text!r}: must be one of {', '.join(choices)}")
    try:
        return wanted(text)  # type: ignore[operator]
    except ValueError as error:
        expected = "a whole number" if wanted is int else "a number"
        raise ConfigInvalid(f"{_PREFIX}{name.upper()}={text!r}: must be {expected}") from error


def bundled(folder: str) -> Path:
    """A folder that ships with Faregate (`dashboards/console`, `policies`): inside the wheel, or of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "bundled" / folder
    return installed if installed.exists() else package.parent / folder
