"""What the writer asks: the dimensions of attempts whose HOLD came in an earlier batch, the corrections there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_sums import Dimensions, attempt_dimensions
from gateway.store.ledger_tables import ATTEMPT, POSTING

IDS_AT_ONCE = 1_000
_WORDS = ("attempt_id", "started_ms", "org", "team", "key_id", "endpoint", "model_asked", "provider", "deployment")
_COLUMNS = [ATTEMPT.c[word] for word in _WORDS]
_BY_ARRAY = f"SELECT {', '.join(_WORDS)} FROM {schema_of('ledger')}.attempt WHERE attempt_id = ANY($1::bytea[])"  # noqa: S608


async def stored_dimensions(connection: AsyncConnection, attempt_ids: Collection[bytes]) -> dict[bytes, Dimensions]:
    """Of the attempts that SQL has, of those asked for."""
    if not attempt_ids:
        return {}
    ids = sorted(attempt_ids)
    if is_sqlite(connection):
        found = await connection.execute(select(*_COLUMNS).where(ATTEMPT.c.attempt_id.in_(ids)))
    else:
        # One parameter, however many there are: the statement's text and plan stay small.
        found = await connection.exec_driver_sql(_BY_ARRAY, (ids,))
    return {row.attempt_id: attempt_dimensions(dict(row._mapping)) for row in found}


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
