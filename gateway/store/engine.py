"""Opens SQL: one engine per part (configuration, ledger), the same behaviour on SQLite and PostgreSQL.

Tables are declared without a schema. On PostgreSQL every statement is rendered with the part's own schema
(`faregate_config`, `faregate_ledger`), never through `search_path`, which a pooler may hand on to somebody else. No
prepared statement outlives its transaction, so PgBouncer in transaction mode is fine. On SQLite each part is a file.

Every error that means "SQL did not answer" leaves this module as StoreUnavailable. Errors that blame the data
(`is_data_fault`) are left as they are: only the writer can tell which row it was.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table, Text, event, make_url
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.core.errors import ConfigInvalid, StoreUnavailable
from gateway.store.postgres_url import driver_arguments

Part = Literal["config", "ledger"]
PARTS: tuple[Part, ...] = ("config", "ledger")

BUSY_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0
POOL_SIZE = 5

BIG = BigInteger().with_variant(Integer(), "sqlite")
"""64-bit integers: money in nano-USD, times in ms. SQLite's STRICT tables know them as INTEGER."""
TEXT = Text()
BLOB = LargeBinary()
FLAG = Boolean(create_constraint=False).with_variant(Integer(), "sqlite")
STRICT: dict[str, Any] = {"sqlite_strict": True}
"""`__table_args__` of every table: SQLite then refuses a value of the wrong type, as PostgreSQL does."""
CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
"""The same, stored in primary-key order (SQLite's WITHOUT ROWID): for small rows read by key."""

_BEGIN = "faregate_begin"
_BAD_DATA_STATES = ("22", "23", "54")
"""SQLSTATE classes that blame a row: data exception, integrity violation, program limit (a key too long to index)."""
_MOVED = "23514"
"""Check violation. No table of ours has a check: a partition was made while the row was on its way to the default one.
The same row is taken when it comes again."""
_NO_DATABASE = "create the database first, as docs/postgresql.md shows; a PgBouncer names it under [databases], too"
_NEVER_CREATED = "if the schema was never created, run: faregate db upgrade"
_ADVICE = {
    "3D000": _NO_DATABASE,
    "28P01": "FAREGATE_DATABASE_URL has the role and its password",
    "28000": "FAREGATE_DATABASE_URL has the role, pg_hba.conf says how it may come in",
    "42501": "docs/postgresql.md has the grants under “Two roles”",
    "42P01": _NEVER_CREATED,
    "3F000": _NEVER_CREATED,
}
"""What to do about a refusal, by its SQLSTATE."""
_ADVICE_BY_WORDS = {
    "no such table": _NEVER_CREATED,
    'no such database|^database ".*" does not exist': _NO_DATABASE,
}
"""The same where the state says nothing: SQLite has none, PgBouncer's is always that of a protocol violation."""


def schema_of(part: Part) -> str:
    """The PostgreSQL schema of a part."""
    return f"faregate_{part}"


def sqlite_file(data_dir: Path, part: Part) -> Path:
    return data_dir / f"{part}.db"


def open_engine(
    url: str, data_dir: Path, part: Part, command_timeout_s: float | None = COMMAND_TIMEOUT_S
) -> AsyncEngine:
    """An engine for one part. `url` empty: SQLite in `data_dir`, else `postgresql://…`. Connects on first use. A
    statement may take `command_timeout_s` on PostgreSQL, None: as long as it wants, for those that read whole tables.

    Raises ConfigInvalid for a URL that is neither. `await engine.dispose()` when done, in the loop that used it.
    """
    if not url:
        return _open_sqlite(data_dir, part)
    try:
        parsed = make_url(url)
    except sa_exc.ArgumentError as error:
        raise ConfigInvalid("FAREGATE_DATABASE_URL is not a URL; write postgresql://user:password@host/name") from error
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigInvalid(
            f"FAREGATE_DATABASE_URL starts with {parsed.drivername!r}: only postgresql:// is known; "
            "leave it empty for SQLite in the data folder"
        )
    return _open_postgres(parsed, part, command_timeout_s)


def is_sqlite(engine: AsyncEngine | AsyncConnection | Connection) -> bool:
    return engine.dialect.name == "sqlite"


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection with a transaction of its own for reads: one consistent view. Raises StoreUnavailable."""
    with store_errors(engine):
        async with engine.connect() as connection, connection.begin():
            yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: committed at the end, rolled back on any exception. Raises StoreUnavailable.

    SQLite takes its write lock at the start (BEGIN IMMEDIATE): a transaction that reads first and then wants to
    write would fail at once when another process has written in between, whatever the busy timeout.
    """
    with store_errors(engine):
        async with engine.connect() as connection:
            writer = await connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
            async with writer.begin():
                yield writer


def insert_into(engine: AsyncEngine | AsyncConnection, table: Table) -> Any:
    """The dialect's INSERT, which knows `on_conflict_do_nothing` and `on_conflict_do_update` on both."""
    return sqlite.insert(table) if is_sqlite(engine) else postgresql.insert(table)


@contextmanager
def store_errors(engine: AsyncEngine) -> Iterator[None]:
    """Maps "SQL did not answer" to StoreUnavailable; lets errors that blame the data through."""
    try:
        yield
    except (sa_exc.SQLAlchemyError, OSError, TimeoutError) as error:
        if is_data_fault(error):
            raise
        raise StoreUnavailable(_explain(error, engine)) from error
    except Exception as error:
        # At connect time asyncpg's own errors arrive unwrapped.
        if type(error).__module__.partition(".")[0] != "asyncpg" or is_data_fault(error):
            raise
        raise StoreUnavailable(_explain(error, engine)) from error


def is_data_fault(error: BaseException) -> bool:
    """True when a statement failed because of a value in it (too large, NUL, constraint), not because of the server."""
    original = error.orig if isinstance(error, sa_exc.DBAPIError) else error  # COPY goes past SQLAlchemy
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in _BAD_DATA_STATES and state != _MOVED
    if isinstance(error, sa_exc.IntegrityError | sa_exc.DataError | OverflowError | UnicodeError):
        return True
    if isinstance(error, sa_exc.DBAPIError):
        if error.connection_invalidated:
            return False
        # asyncpg refuses a value it cannot encode before sending it: a ValueError beneath the DB-API error.
        cause = original.__cause__ if original is not None else None
        return isinstance(original, OverflowError | UnicodeError) or isinstance(cause, ValueError | OverflowError)
    return isinstance(error, sa_exc.StatementError) and isinstance(
        error.orig, OverflowError | UnicodeError | ValueError
    )


def _explain(error: BaseException, engine: AsyncEngine) -> str:
    """One line for people, without statement, parameters or password."""
    original = getattr(error, "orig", None) or error
    name, first = type(original).__name__, str(original).strip().split("\n")[0]
    if isinstance(original, socket.gaierror):
        first = f"no address is known for the host {engine.url.host!r} of FAREGATE_DATABASE_URL"
    by_words = (advice for words, advice in _ADVICE_BY_WORDS.items() if re.search(words, first))
    advice = _ADVICE.get(getattr(original, "sqlstate", None) or "") or next(by_words, "")
    return f"SQL did not answer: {name}" + (f": {first}" if first else "") + (f"; {advice}" if advice else "")


# ---------------------------------------------------------------- SQLite


def _open_sqlite(data_dir: Path, part: Part) -> AsyncEngine:
    path = sqlite_file(data_dir, part)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def _create_private(*_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would create it with the umask's mode, and its -wal and -shm files copy that of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin on its own: `begin` below does
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "wal_autocheckpoint=4000",
            "cache_size=-32768",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


# ---------------------------------------------------------------- PostgreSQL


def _open_postgres(url: URL, part: Part, command_timeout_s: float | None) -> AsyncEngine:
    plain, arguments = driver_arguments(url)
    return create_async_engine(
        plain.set(drivername="postgresql+asyncpg"),
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        execution_options={"schema_translate_map": {None: schema_of(part)}},
        connect_args={
            # Unnamed statements end with the next one, so nothing is left behind on a pooler's server connection.
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": _unnamed,
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": command_timeout_s,
            **arguments,
        },
    )


def _unnamed() -> str:
    return ""
