"""What the writer asks: the dimensions of attempts whose HOLD came in an earlier batch, the corrections there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_statements import GROUPED_SINCE, Statements
from gateway.store.ledger_sums import Whose, whose
from gateway.store.ledger_tables import ATTEMPT, POSTING

IDS_AT_ONCE = 1_000
_WORDS = ("attempt_id", "started_ms", "org", "team", "key_id", "endpoint", "model_asked", "provider", "deployment")


async def stored_owners(
    connection: AsyncConnection, statements: Statements, attempt_ids: Collection[bytes]
) -> dict[bytes, Whose]:
    """Whose the attempts are that SQL has, of those asked for."""
    if not attempt_ids:
        return {}
    ids = sorted(attempt_ids)
    words = (*_WORDS, "summed_by") if statements.revision >= GROUPED_SINCE else _WORDS
    if is_sqlite(connection):
        query = select(*(ATTEMPT.c[word] for word in words)).where(ATTEMPT.c.attempt_id.in_(ids))
        found = await connection.execute(query)
    else:
        # One parameter, however many there are: the statement's text and plan stay small.
        by_array = f"SELECT {', '.join(words)} FROM {schema_of('ledger')}.attempt WHERE attempt_id = ANY($1::bytea[])"  # noqa: S608
        found = await connection.exec_driver_sql(by_array, (ids,))
    return {row.attempt_id: whose({"summed_by": None, **row._mapping}) for row in found}


async def stored_corrections(
    connection: AsyncConnection, attempt_ids: Sequence[bytes]
) -> dict[tuple[bytes, str], tuple[int, bytes]]:
    """The last revision and its run, by attempt and kind, of those attempts that were corrected."""
    table = POSTING.c
    found: dict[tuple[bytes, str], tuple[int, bytes]] = {}
    for start in range(0, len(attempt_ids), IDS_AT_ONCE):
        query = (
            select(table.attempt_id, table.kind, table.revision, table.correction_id)
            .where(table.attempt_id.in_(attempt_ids[start : start + IDS_AT_ONCE]), table.kind != "attempt")
            .order_by(table.revision)
        )
        for row in await connection.execute(query):
            found[row.attempt_id, row.kind] = (row.revision, row.correction_id or b"")
    return found
