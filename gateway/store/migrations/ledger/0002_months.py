"""PostgreSQL keeps calls, attempts, postings and lines by month; a posting has the cost its provider reports.

Both are one revision so that the version before this one still runs on it. What is there stays where it is: it becomes
the partition of everything before next month, which costs one reading of it. The way back copies all rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

from gateway.store import months
from gateway.store.engine import BIG, STRICT, TEXT, is_sqlite

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEYS = {
    "call": "call_id",
    "attempt": "attempt_id",
    "posting": "attempt_id, kind, revision",
    "ledger_line": "attempt_id, kind, revision, line_no",
}
_INDEXES = {
    "call_by_key": ("call", "org, key_id, started_ms, call_id"),
    "call_by_org": ("call", "org, started_ms, call_id"),
    "call_by_team": ("call", "org, team, started_ms, call_id"),
    "attempt_by_call": ("attempt", "call_id"),
    "posting_by_call": ("posting", "call_id"),
}


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.add_column("posting", sa.Column("reported_nusd", BIG, nullable=True), schema=schema)
    op.create_table(
        "detached",
        sa.Column("name", TEXT, primary_key=True, nullable=False),
        sa.Column("table_name", TEXT, nullable=False),
        sa.Column("to_ms", BIG, nullable=False),
        sa.Column("detached_ms", BIG, nullable=False),
        if_not_exists=True,
        **STRICT,
    )
    connection = op.get_bind()
    if not is_sqlite(connection):
        now_ms = months.now_of(connection)
        for table, key in _KEYS.items():
            _partition(connection, f"{schema}", table, key, now_ms)
        months.make_months(connection, (months.month_start(now_ms, ahead) for ahead in (-1, 0)))


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    connection = op.get_bind()
    if not is_sqlite(connection):
        for table, key in _KEYS.items():
            _merge(connection, f"{schema}", table, key)
    prefix = f"{schema}." if schema else ""
    if not connection.exec_driver_sql(f"SELECT count(*) FROM {prefix}detached").scalar_one():  # noqa: S608
        op.drop_table("detached")  # else it stays: nothing else says why sums have no rows
    op.drop_column("posting", "reported_nusd", schema=schema)


def _partition(connection: Connection, schema: str, table: str, key: str, now_ms: int) -> None:
    following_ms = months.month_start(now_ms, 1)
    old = f"{table}_before_{months.month_name(following_ms)}"
    for name in _index_names(connection, schema, table):
        op.execute(f"ALTER INDEX {schema}.{name} RENAME TO {name.replace(table, old, 1)}")
    op.execute(f"ALTER TABLE {schema}.{table} RENAME TO {old}")
    partitioned = f"PARTITION BY RANGE ({months.KEYS[table]})"
    op.execute(f"CREATE TABLE {schema}.{table} (LIKE {schema}.{old} INCLUDING DEFAULTS) {partitioned}")
    _add_keys(schema, table, key)
    months.add_default(connection, table)
    end = f"'\\x{months.first_id(following_ms).hex()}'"
    if connection.exec_driver_sql(f"SELECT EXISTS (SELECT 1 FROM {schema}.{old})").scalar_one():  # noqa: S608
        # A clock that was wrong may have made ids of the future.
        connection.exec_driver_sql(
            f"WITH moved AS (DELETE FROM {schema}.{old} WHERE {months.KEYS[table]} >= {end} RETURNING *) "  # noqa: S608
            f"INSERT INTO {schema}.{table}_default SELECT * FROM moved"
        )
        months.attach(connection, table, old, "MINVALUE", end)
    else:
        op.execute(f"DROP TABLE {schema}.{old}")


def _merge(connection: Connection, schema: str, table: str, key: str) -> None:
    whole = f"{table}_whole"
    op.execute(f"CREATE TABLE {schema}.{whole} (LIKE {schema}.{table} INCLUDING DEFAULTS)")
    op.execute(f"INSERT INTO {schema}.{whole} SELECT * FROM {schema}.{table}")  # noqa: S608
    op.execute(f"DROP TABLE {schema}.{table}")
    op.execute(f"ALTER TABLE {schema}.{whole} RENAME TO {table}")
    _add_keys(schema, table, key)
    if table in months.DELIVERED:
        op.execute(f"ALTER TABLE {schema}.{table} ADD CONSTRAINT {table}_delivery UNIQUE (journal_id, seq)")


def _add_keys(schema: str, table: str, key: str) -> None:
    op.execute(f"ALTER TABLE {schema}.{table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({key})")
    for name, (whose, columns) in _INDEXES.items():
        if whose == table:
            op.execute(f"CREATE INDEX {name} ON {schema}.{table} ({columns})")


def _index_names(connection: Connection, schema: str, table: str) -> list[str]:
    asked = sa.text("SELECT indexname FROM pg_indexes WHERE schemaname = :schema AND tablename = :table")
    return [row.indexname for row in connection.execute(asked, {"schema": schema, "table": table})]
