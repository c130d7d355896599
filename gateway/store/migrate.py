"""Alembic, run from code: two independent version trees, `migrations/config` and `migrations/ledger`.

Revisions are four digits counting up by one (`0001`, `0002`): their distance says whether a process may start on a
schema (N ± 1), so that an old and a new version can run side by side during an upgrade. A run holds a lock (a file's on
SQLite, PostgreSQL's advisory lock for the transaction) and is one transaction: a crash leaves the old schema whole.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateSchema

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.store import months
from gateway.store.engine import Part, is_sqlite, open_engine, reading, schema_of, writing

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
LOCK_WAIT_S = 60.0
_LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a part's schema is and where this version wants it. `current` None: never created."""

    part: Part
    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        return self.current == self.head


async def upgrade(url: str, data_dir: Path, part: Part, revision: str = "head") -> SchemaStatus:
    """Brings a part's schema to `revision`, creating it where there is none. Returns the status afterwards.

    Raises StoreUnavailable: SQL does not answer, another run holds the lock for over a minute, or the schema was
    written by a newer version (nothing is changed then).
    """
    return await _run(url, data_dir, part, lambda config: command.upgrade(config, revision), after=_make_months)


async def downgrade(url: str, data_dir: Path, part: Part, revision: str) -> SchemaStatus:
    """Back to `revision` (`base`: nothing left). Drops what later revisions added, with its data.

    Raises BadRequest for a revision that does not exist or is later than where the schema is; StoreUnavailable.
    """

    def allowed(connection: Connection, part: Part) -> None:
        _back(connection, part, revision)

    return await _run(url, data_dir, part, lambda config: command.downgrade(config, revision), before=allowed)


async def status(url: str, data_dir: Path, part: Part) -> SchemaStatus:
    """Reads where the schema is. Changes nothing. Raises StoreUnavailable."""
    engine = open_engine(url, data_dir, part)
    try:
        return await status_of(engine, part)
    finally:
        await engine.dispose()


async def status_of(engine: AsyncEngine, part: Part) -> SchemaStatus:
    """The same over an open engine."""
    async with reading(engine) as connection:
        current = await connection.run_sync(_current, part)
    return SchemaStatus(part, current, head(part))


async def check_schema(engine: AsyncEngine, part: Part) -> SchemaStatus:
    """Refuses to start on a schema outside N ± 1 of this version's. Raises StoreUnavailable saying what to run."""
    found = await status_of(engine, part)
    if found.current is None:
        raise StoreUnavailable(f"the {part} schema was never created; run: faregate db upgrade")
    if not found.current.isdigit():
        raise StoreUnavailable(f"the {part} schema is at {found.current!r}, which is none of Faregate's revisions")
    distance = int(found.current) - int(found.head)
    if distance < -1:
        raise StoreUnavailable(
            f"the {part} schema is at {found.current}, this version needs {found.head}; run: faregate db upgrade"
        )
    if distance > 1:
        raise StoreUnavailable(
            f"the {part} schema is at {found.current}, written by a newer version; this one knows up to {found.head}: "
            "start that newer version, or downgrade the schema with it"
        )
    return found


def head(part: Part) -> str:
    """The newest revision this version knows."""
    found = ScriptDirectory.from_config(_config(part)).get_current_head()
    if found is None:
        raise StoreUnavailable(f"no migrations of {part} are installed beside {MIGRATIONS}")
    return found


def _back(connection: Connection, part: Part, revision: str) -> None:
    """Raises BadRequest when a part cannot be taken back to a revision from where it is."""
    current = _current(connection, part)
    known = {script.revision for script in ScriptDirectory.from_config(_config(part)).walk_revisions()}
    if revision not in known | {"base"}:
        raise BadRequest(
            f"the {part} schema has no revision {revision!r}: use base or one of {', '.join(sorted(known))}"
        )
    if revision != "base" and (current is None or current < revision):
        raise BadRequest(f"the {part} schema is at {current or 'nothing'}, which is before {revision}")


async def _run(
    url: str,
    data_dir: Path,
    part: Part,
    act: Callable[[Config], None],
    *,
    before: Callable[[Connection, Part], None] = lambda connection, part: None,
    after: Callable[[Connection, Part], None] = lambda connection, part: None,
) -> SchemaStatus:
    engine = open_engine(url, data_dir, part)
    try:
        async with _lock(engine, data_dir, part), writing(engine) as connection:
            if not is_sqlite(engine):
                await connection.run_sync(months.take_turn)
            await connection.run_sync(before, part)
            await connection.run_sync(_act, part, act)
            await connection.run_sync(after, part)
        return await status_of(engine, part)
    finally:
        await engine.dispose()


def _act(connection: Connection, part: Part, act: Callable[[Config], None]) -> None:
    schema = None if is_sqlite(connection) else schema_of(part)
    if schema is not None and schema not in inspect(connection).get_schema_names():
        connection.execute(CreateSchema(schema))
    current, known = _current(connection, part), head(part)
    if current is not None and (not current.isdigit() or int(current) > int(known)):
        raise StoreUnavailable(
            f"the {part} schema is at {current}, written by a newer version; this one knows up to {known}"
        )
    config = _config(part)
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    act(config)


def _make_months(connection: Connection, part: Part) -> None:
    """The months to come, for those whose bookkeeper may not make them."""
    if part == "ledger" and months.has_months(connection):
        now_ms = months.now_of(connection)
        months.make_months(connection, (months.month_start(now_ms, ahead) for ahead in range(months.MONTHS_AHEAD + 1)))


def _current(connection: Connection, part: Part) -> str | None:
    schema = None if is_sqlite(connection) else schema_of(part)
    if not inspect(connection).has_table("alembic_version", schema=schema):
        return None
    table = "alembic_version" if schema is None else f"{schema}.alembic_version"
    row = connection.execute(text(f"SELECT version_num FROM {table}")).first()  # noqa: S608 - a constant of ours
    return None if row is None else str(row[0])


def _config(part: Part) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(MIGRATIONS / part).replace("%", "%%"))
    return config


@asynccontextmanager
async def _lock(engine: AsyncEngine, data_dir: Path, part: Part) -> AsyncIterator[None]:
    """One migration at a time on a data folder. PostgreSQL's own lock is taken inside the transaction."""
    if not is_sqlite(engine):
        yield
        return
    handle = _open_lock(data_dir, part)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"another process has been migrating {part} for over {LOCK_WAIT_S:.0f} s"
                    ) from error
                await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def _open_lock(data_dir: Path, part: Part) -> int:
    data_dir.mkdir(parents=True, exist_ok=True)
    return os.open(data_dir / f"{part}.migrate.lock", os.O_RDWR | os.O_CREAT, 0o600)
