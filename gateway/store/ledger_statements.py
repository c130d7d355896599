"""The writer's statements, made for the schema as it is: this version writes to the schema before its own, too.

So the schema may be taken one revision back under a running bookkeeper. What the older schema has no column for is
not stored; the journals still have it.
"""

from __future__ import annotations

from sqlalchemy import Column, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_bulk import DO_NOTHING, BulkInsert, PlainInsert, add_up, fill_in
from gateway.store.ledger_tables import ATTEMPT, CALL, LEDGER_LINE, POSTING, REFUSAL_STAT, ROLLUP_HOUR

CALL_KEY = ("call_id",)
ATTEMPT_KEY = ("attempt_id",)
POSTING_KEY = ("attempt_id", "kind", "revision")
ADDED: tuple[tuple[int, Column[int]], ...] = ((2, POSTING.c.reported_nusd),)
"""Columns that the first revision of the ledger did not have, each with the revision that added it."""


class Statements:
    """`copy_*` are for rows that are certainly new, `insert_*` and `add_*` say what they have written."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.copy_holds = PlainInsert(ATTEMPT, _absent(ATTEMPT, revision))
        self.copy_postings = PlainInsert(POSTING, _absent(POSTING, revision))
        self.copy_lines = PlainInsert(LEDGER_LINE, _absent(LEDGER_LINE, revision))
        self.copy_calls = PlainInsert(CALL, _absent(CALL, revision))
        self.insert_holds = BulkInsert(ATTEMPT, DO_NOTHING, ATTEMPT_KEY, _absent(ATTEMPT, revision))
        self.insert_postings = BulkInsert(POSTING, DO_NOTHING, POSTING_KEY, _absent(POSTING, revision))
        self.insert_lines = BulkInsert(LEDGER_LINE, absent=_absent(LEDGER_LINE, revision))
        self.insert_running = BulkInsert(CALL, DO_NOTHING, absent=_absent(CALL, revision))
        self.insert_ended = BulkInsert(CALL, fill_in(CALL, while_null="seq"), CALL_KEY, _absent(CALL, revision))
        self.add_rollups = BulkInsert(ROLLUP_HOUR, add_up(ROLLUP_HOUR))
        self.add_refusals = BulkInsert(REFUSAL_STAT, add_up(REFUSAL_STAT))


async def statements_for(connection: AsyncConnection) -> Statements:
    """The statements for the schema behind a connection. Raises what SQL raises when there is none."""
    schema = "" if is_sqlite(connection) else f"{schema_of('ledger')}."
    found = await connection.execute(text(f"SELECT version_num FROM {schema}alembic_version"))  # noqa: S608
    return Statements(int(found.scalar_one()))


def _absent(table: Table, revision: int) -> frozenset[str]:
    return frozenset(column.name for since, column in ADDED if since > revision and column.table is table)
