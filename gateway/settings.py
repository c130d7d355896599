"""One frozen Settings, read once from `FAREGATE_*` variables. `docs/settings.md` is generated from this file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from gateway.core.errors import ConfigInvalid

Durability = Literal["process", "power"]
LogLevel = Literal["debug", "info", "warning", "error"]
_PREFIX = "FAREGATE_"
_TEST = "FAREGATE_TEST_"
_OTHERS = frozenset(
    {"FAREGATE_URL", "FAREGATE_API_KEY", "FAREGATE_READY_FD", "FAREGATE_LISTEN_FD", "FAREGATE_FAILPOINT"}
)
"""Variables of the command line, of children and of fault campaigns."""


def _setting(default: Any, meaning: str, least: float = 0, most: float = float("inf")) -> Any:
    """`least` and `most` bound a number; both are allowed."""
    return field(default=default, metadata={"meaning": meaning, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator may set without a file. Sizes are bytes, times seconds, unless the name says else."""

    data_dir: Path = _setting(Path("data"), "Where journals, SQLite files, secrets and sockets live.")
    config_dir: Path = _setting(Path("policies"), "The folder that holds routes.yaml and the other policy files.")
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(4000, "Port to listen on; 0 picks a free one.", most=65535)
    database_url: str = _setting("", "postgresql://… for production; empty: SQLite files in the data folder.")
    durability: Durability = _setting(
        "process", "process: kill -9 loses nothing; power: each answer also waits for fdatasync."
    )
    workers: int = _setting(
        1, "Worker processes. More than 1 needs the leased limit engine, which is not there yet.", least=1
    )
    key_env: str = _setting("live", "The middle word of new keys: fg_<env>_….")
    max_body_bytes: int = _setting(20 * 1024 * 1024, "Largest request body accepted.", least=1024)
    max_bodies_bytes: int = _setting(
        256 * 1024 * 1024, "Request bodies a worker holds at the same time; more calls are told 503.", least=1024
    )
    max_reply_bytes: int = _setting(64 * 1024 * 1024, "Largest upstream reply accepted.", least=1024)
    pre_stop_s: float = _setting(
        0.25,
        "After SIGTERM: how long connections are still accepted while /readyz says 503. Behind a load balancer, as "
        "long as it needs to notice (5 to 15).",
    )
    handover_grace_s: float = _setting(
        2.0, "After the port is closed: how long requests that have begun to arrive are still admitted."
    )
    drain_timeout_s: float = _setting(
        120.0, "How long running calls may then go on, after SIGTERM and in a worker that was replaced."
    )
    drain_max_s: float = _setting(
        60.0, "How long a reply is read on for its usage after the caller has gone (on_disconnect: drain)."
    )
    progress_idle_s: float = _setting(
        300.0, "How long a stream may go on with comments only, once it has begun, before it is given up."
    )
    first_event_wait_s: float = _setting(
        15.0, "How long a stream's headers wait for the first event before 200 and heartbeats.", least=0.1
    )
    reserve_wait_s: float = _setting(2.0, "How long a call waits for money that other running calls hold.")
    reserve_last_wait_s: float = _setting(
        30.0, "The same for a call whose SDK has tried again as often as it will (`x-stainless-retry-count` of 2)."
    )
    budget_status: int = _setting(402, "HTTP status of a budget refusal.", least=400, most=499)
    journal_sync_ms: int = _setting(5, "How often the journal is forced to disk.", least=1)
    journal_keep_days: int = _setting(7, "How long journal segments are kept after they are in SQL.")
    alert_keep_days: int = _setting(
        400, "How long alerts are kept in SQL, so that a year can be looked back on.", least=1
    )
    journal_reserve_bytes: int = _setting(
        16 * 1024 * 1024, "Space kept back so that running calls can settle on a full disk.", least=65536
    )
    segment_bytes: int = _setting(16 * 1024 * 1024, "Size of one preallocated journal segment.", least=65536)
    log_level: LogLevel = _setting("info", "debug, info, warning or error.")
    annex_python: str = _setting(
        "", "The interpreter that has litellm (docs/annex.md); empty: what `make annex` made, else Faregate's own."
    )
    session_hours: int = _setting(12, "How long a console sign-in lasts.", least=1)

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
    def passing_socket(self) -> Path:
        """Where workers that were replaced pass their connections to the one that admits."""
        return self.run_dir / "passing.sock"

    @property
    def successor_socket(self) -> Path:
        """Where a worker listens that is prepared to be that one next."""
        return self.run_dir / "successor.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run_dir / "supervisor.sock"

    @property
    def annex_socket(self) -> Path:
        """Where the annex is called; `providers/litellm_sdk.py` has its name."""
        return self.run_dir / "annex.sock"

    @property
    def last_good_file(self) -> Path:
        """One for each database: what another one said last, also by a higher revision, says nothing of this one."""
        if not self.database_url:
            return self.run_dir / "config.msgpack"
        address, _, options = self.database_url.rpartition("@")[2].partition("?")
        named = [option for option in options.split("&") if option.startswith(("host=", "port="))]
        place = hashlib.sha256("&".join((address, *sorted(named))).encode()).hexdigest()
        return self.run_dir / f"config-{place[:12]}.msgpack"

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
            values[item.name] = _bounded(item, _parse(item.name, hints[item.name], text))
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


def _bounded(item: Field[Any], value: object) -> object:
    """Raises ConfigInvalid for a number outside of what the setting allows; NaN is outside of everything."""
    least, most = item.metadata["least"], item.metadata["most"]
    if isinstance(value, int | float) and not least <= value <= most:
        allowed = f"at least {least}" if most == float("inf") else f"between {least} and {most}"
        raise ConfigInvalid(f"{_PREFIX}{item.name.upper()}={value}: must be {allowed}")
    if item.name == "key_env" and not re.fullmatch(r"[a-z0-9]{1,12}", str(value)):
        raise ConfigInvalid(f"{_PREFIX}KEY_ENV={value!r}: must be 1 to 12 of a-z and 0-9")
    return value


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """`FAREGATE_*` variables that mean nothing, each with the setting it may have been meant for, or nothing."""
    known = {_PREFIX + item.name.upper() for item in fields(Settings)}
    found: dict[str, str] = {}
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known and name not in _OTHERS and not name.startswith(_TEST):
            near = get_close_matches(name, known, n=1)
            found[name] = near[0] if near else ""
    return found


def bundled(folder: str) -> Path:
    """A folder that ships with Faregate (`dashboards/console`, `policies`): inside the wheel, or of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "bundled" / folder
    return installed if installed.exists() else package.parent / folder
