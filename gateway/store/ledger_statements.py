"""The writer's statements, made for the schema as it is: this version writes to the schema before its own, too.

So the schema may be taken one revision back under a running bookkeeper. What the older schema has no column for is
not stored; the journals still have it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_bulk import DO_NOTHING, BulkInsert, PlainInsert, add_up, fill_in
from gateway.store.ledger_rows import LINE_DETAILS, POSTING_DETAILS
from gateway.store.ledger_tables import ATTEMPT, CALL, LEDGER_LINE, POSTING, REFUSAL_STAT, ROLLUP_HOUR, ROLLUP_VALUE

CALL_KEY = ("call_id",)
ATTEMPT_KEY = ("attempt_id",)
POSTING_KEY = ("attempt_id", "kind", "revision")
CORRECTED_SINCE = 3
"""The revision that has corrections, closed months and what the columns of 3 keep."""
GROUPED_SINCE = 4
"""The revision that has sums by what callers choose, and the chain of closed months."""
_ROLLUP_3 = ("margin_nusd", "prior_list_nusd", "prior_effective_nusd", "prior_margin_nusd")
ADDED: tuple[tuple[int, Column[Any]], ...] = (
    (2, POSTING.c.reported_nusd),
    (3, CALL.c.counted_ms),
    *((3, POSTING.c[word]) for word in ("takes", *POSTING_DETAILS)),
    *((3, LEDGER_LINE.c[word]) for word in LINE_DETAILS),
    *((3, ROLLUP_HOUR.c[word]) for word in _ROLLUP_3),
    (4, CALL.c.summed_by),
    (4, ATTEMPT.c.summed_by),
)
"""Columns that the first revision of the ledger did not have, each with the revision that added it."""


class Statements:
    """`copy_*` are for rows that are certainly new, `insert_*` and `add_*` say what they have written."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.copy_holds = PlainInsert(ATTEMPT, _absent(ATTEMPT, revision))
        self.copy_postings = PlainInsert(POSTING, _absent(POSTING, revision), POSTING_DETAILS)
        self.copy_lines = PlainInsert(LEDGER_LINE, _absent(LEDGER_LINE, revision), LINE_DETAILS)
        self.copy_calls = PlainInsert(CALL, _absent(CALL, revision))
        self.insert_holds = BulkInsert(ATTEMPT, DO_NOTHING, ATTEMPT_KEY, _absent(ATTEMPT, revision))
        self.insert_postings = BulkInsert(POSTING, DO_NOTHING, POSTING_KEY, _absent(POSTING, revision))
        self.insert_lines = BulkInsert(LEDGER_LINE, absent=_absent(LEDGER_LINE, revision))
        self.insert_running = BulkInsert(CALL, DO_NOTHING, absent=_absent(CALL, revision))
        no_call, no_rollup = _absent(CALL, revision), _absent(ROLLUP_HOUR, revision)
        self.insert_ended = BulkInsert(CALL, fill_in(CALL, "seq", no_call), CALL_KEY, no_call)
        self.add_rollups = BulkInsert(ROLLUP_HOUR, add_up(ROLLUP_HOUR, no_rollup), absent=no_rollup)
        self.add_values = BulkInsert(ROLLUP_VALUE, add_up(ROLLUP_VALUE))
        self.add_refusals = BulkInsert(REFUSAL_STAT, add_up(REFUSAL_STAT))


async def schema_revision(connection: AsyncConnection) -> int:
    """The revision of the schema behind a connection. Raises what SQL raises when there is none."""
    schema = "" if is_sqlite(connection) else f"{schema_of('ledger')}."
    found = await connection.execute(text(f"SELECT version_num FROM {schema}alembic_version"))  # noqa: S608
    return int(found.scalar_one())


def _absent(table: Table, revision: int) -> frozenset[str]:
    return frozenset(column.name for since, column in ADDED if since > revision and column.table is table)
