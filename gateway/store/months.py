"""The ledger's big tables by month, on PostgreSQL. SQLite has whole tables, and nothing here applies to it.

A partition holds the ids that were made in one month (UTC): ids begin with their milliseconds, so the key by which
rows are divided is the identity itself, which stays unique over all partitions. A record always has the same id, hence
the same partition: a repeated delivery `(journal_id, seq)` meets its first one there, where a unique index of the
partition's own refuses it.

A month is made before it begins. What has none (nobody made it, or a clock was wrong) goes to the default partition,
so no row is ever refused; when the month is made after all, its rows move there. Months that are over may be detached:
they become plain tables, and sums of rollups stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_tables import DETACHED

KEYS = {"attempt": "attempt_id", "posting": "attempt_id", "ledger_line": "attempt_id", "call": "call_id"}
"""The tables that have months, and the id by which they have them; in the order in which a batch is written, which is
the order of all locks."""
DELIVERED = ("attempt", "posting", "call")
"""Those of them whose rows carry a delivery identity, unique in each partition."""
MONTHS_AHEAD = 3
SCHEMA_LOCK = 0x66617265_67617465
"""The advisory lock of whoever changes the schema: "faregate". One for both parts, changes are seldom and short."""
LOCK_WAIT = "2s"
"""How long a change of partitions waits for others: who waits longer keeps everybody else waiting behind it."""

_LAST_MS = (1 << 48) - 1
_SCHEMA = schema_of("ledger")
_BOUND = re.compile(r"\('?(?:\\x([0-9a-f]{12})|(MINVALUE))'?\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """One table's part [from_ms, to_ms). The default partition has neither; `from_ms` None: everything before."""

    table: str
    name: str
    from_ms: int | None
    to_ms: int | None
    rows: int
    """As PostgreSQL last estimated it; of the default partition, counted."""
    size_bytes: int

    @property
    def is_default(self) -> bool:
        return self.to_ms is None


def month_start(now_ms: int, months: int = 0) -> int:
    """When the month of a time, or one some months later, begins: ms UTC."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    number = now.year * 12 + now.month - 1 + months
    return int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000


def month_name(start_ms: int) -> str:
    """`2026_11`."""
    return datetime.fromtimestamp(start_ms / 1000, UTC).strftime("%Y_%m")


def first_id(time_ms: int) -> bytes:
    """What every id made at a time or later is not less than. Times that no id can have are the first or the last."""
    return max(0, min(time_ms, _LAST_MS)).to_bytes(6, "big")


def now_of(connection: Connection) -> int:
    """The database's clock, ms UTC: partitions are its affair, and hosts' clocks differ."""
    return int(connection.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")).scalar_one())


def has_months(connection: Connection) -> bool:
    """Whether the ledger is partitioned: not on SQLite, nor in the first revision of its schema."""
    if is_sqlite(connection):
        return False
    found = connection.execute(
        text(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = :schema AND c.relkind = 'p'"
        ),
        {"schema": _SCHEMA},
    )
    return bool(found.scalar_one())


def list_partitions(connection: Connection, *, measure: bool = False) -> list[Partition]:
    """All partitions, by table and time, the default ones last. Without `measure` sizes are 0 and rows estimated."""
    if not has_months(connection):
        return []
    found = connection.execute(
        text(
            "SELECT p.relname AS parent, c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound, "
            "greatest(c.reltuples, 0)::bigint AS rows "
            "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent "
            "JOIN pg_namespace n ON n.oid = p.relnamespace WHERE n.nspname = :schema AND p.relkind = 'p'"
        ),
        {"schema": _SCHEMA},
    )
    partitions = []
    for row in found.all():
        from_ms, to_ms = _bounds(row.bound)
        rows, size = int(row.rows), 0
        if measure:
            size = _scalar(connection, f"SELECT pg_total_relation_size('{_SCHEMA}.{row.name}'::regclass)")
        if measure and to_ms is None:
            rows = _scalar(connection, f"SELECT count(*) FROM {_SCHEMA}.{row.name}")  # noqa: S608
        partitions.append(Partition(row.parent, row.name, from_ms, to_ms, rows, size))
    order = list(KEYS)
    return sorted(partitions, key=lambda one: (order.index(one.table), one.is_default, one.from_ms or 0))


def kept_from_ms(connection: Connection) -> int:
    """Since when the rows behind the rollups are all there: the end of the last month detached; 0 when none was."""
    if is_sqlite(connection):
        return 0
    there = connection.execute(text(f"SELECT to_regclass('{_SCHEMA}.detached') IS NOT NULL")).scalar_one()
    if not there:
        return 0
    return int(connection.execute(select(func.coalesce(func.max(DETACHED.c.to_ms), 0))).scalar_one())


def uncovered(connection: Connection, starts_ms: Iterable[int]) -> list[int]:
    """Those of the months that lack a partition, of any table."""
    return [one for one in starts_ms if not all(_is_covered(connection, table, one) for table in KEYS)]


def make_months(connection: Connection, starts_ms: Iterable[int], tables: Iterable[str] = KEYS) -> list[str]:
    """Makes the partitions of months that are not covered yet; names of the new ones.

    Rows of such a month that lie in the default partition move. In the caller's transaction, which should be short.
    """
    made: list[str] = []
    for start_ms in starts_ms:
        for table in tables:
            name = None if _is_covered(connection, table, start_ms) else _make(connection, table, start_ms)
            made += [] if name is None else [name]
    return made


def add_default(connection: Connection, table: str) -> None:
    """The partition of everything that has no other."""
    connection.execute(text(f"CREATE TABLE {_SCHEMA}.{table}_default PARTITION OF {_SCHEMA}.{table} DEFAULT"))
    _index_delivery(connection, table, f"{table}_default")


def detach_months(connection: Connection, before_ms: int) -> list[Partition]:
    """Takes all partitions that end by then out of the ledger. They stay as tables of the same names."""
    connection.execute(text(f"LOCK TABLE {', '.join(f'{_SCHEMA}.{table}' for table in KEYS)}"))
    now_ms = now_of(connection)
    found = [one for one in list_partitions(connection) if one.to_ms is not None and one.to_ms <= before_ms]
    for one in found:
        connection.execute(text(f"ALTER TABLE {_SCHEMA}.{one.table} DETACH PARTITION {_SCHEMA}.{one.name}"))
        row = {"name": one.name, "table_name": one.table, "to_ms": one.to_ms, "detached_ms": now_ms}
        connection.execute(postgresql.insert(DETACHED).values(row).on_conflict_do_nothing())
    return found


def take_turn(connection: Connection) -> None:
    """One change of the schema at a time: until the end of the transaction. The lock is a migration's, too."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})


def wait_shortly(connection: Connection) -> None:
    """Has the rest of the transaction give up rather than queue behind somebody's long query."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))


def _make(connection: Connection, table: str, start_ms: int) -> str | None:
    """The name of the new partition; None when somebody else has just made it."""
    # ATTACH locks the others out of the default partition anyhow; a row that came to it before would make it fail.
    connection.execute(text(f"LOCK TABLE {_SCHEMA}.{table}_default IN ACCESS EXCLUSIVE MODE"))
    if _is_covered(connection, table, start_ms):
        return None
    name, key = f"{table}_{month_name(start_ms)}", KEYS[table]
    first, end = (first_id(month_start(start_ms, months)) for months in (0, 1))
    connection.execute(text(f"CREATE TABLE {_SCHEMA}.{name} (LIKE {_SCHEMA}.{table} INCLUDING DEFAULTS)"))
    moving = text(
        f"WITH moved AS (DELETE FROM {_SCHEMA}.{table}_default "  # noqa: S608
        f"WHERE {key} >= :first AND {key} < :last RETURNING *) INSERT INTO {_SCHEMA}.{name} SELECT * FROM moved"
    ).bindparams(bindparam("first", first), bindparam("last", end))
    connection.execute(moving)
    attach(connection, table, name, f"'\\x{first.hex()}'", f"'\\x{end.hex()}'")
    return name


def attach(connection: Connection, table: str, name: str, first: str, end: str) -> None:
    """Puts a table of the same columns into place. Bounds are SQL."""
    _index_delivery(connection, table, name)
    parent = f"{_SCHEMA}.{table}"
    # A driver's statement: a colon or a backslash in it means nothing.
    connection.exec_driver_sql(
        f"ALTER TABLE {parent} ATTACH PARTITION {_SCHEMA}.{name} FOR VALUES FROM ({first}) TO ({end})"
    )


def _index_delivery(connection: Connection, table: str, name: str) -> None:
    if table in DELIVERED:
        connection.execute(
            text(f"CREATE UNIQUE INDEX IF NOT EXISTS {name}_delivery ON {_SCHEMA}.{name} (journal_id, seq)")
        )


def _is_covered(connection: Connection, table: str, start_ms: int) -> bool:
    return any(
        one.table == table and one.to_ms is not None and (one.from_ms or 0) <= start_ms < one.to_ms
        for one in list_partitions(connection)
    )


def _scalar(connection: Connection, query: str) -> int:
    return int(connection.execute(text(query)).scalar_one())


def _bounds(expression: str) -> tuple[int | None, int | None]:
    """The times in `FOR VALUES FROM ('\\x…') TO ('\\x…')`; (None, None) of DEFAULT."""
    found = _BOUND.findall(expression)
    if len(found) != 2:
        return None, None
    first, end = (int(digits, 16) if digits else None for digits, _ in found)
    return first, end
