"""What the writer asks while it writes: the dimensions of attempts whose HOLD came in an earlier batch."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_rows import Dimensions, attempt_dimensions
from gateway.store.ledger_tables import ATTEMPT

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
