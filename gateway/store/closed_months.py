"""Up to when months are closed, and the lock between whoever loads and whoever closes one."""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import is_sqlite
from gateway.store.ledger_statements import CORRECTED_SINCE, Statements
from gateway.store.ledger_tables import PERIOD

CLOSING_LOCK = 0x66617265_636C6F73
"""The advisory lock "fareclos": loads share it, a closing has it alone. SQLite has one writer anyhow."""


async def closed_until(connection: AsyncConnection, statements: Statements) -> dict[str, int]:
    """The end of the last closed month of each org that has closed one, ms UTC. It stays so until the end of this
    transaction."""
    if statements.revision < CORRECTED_SINCE:
        return {}
    if not is_sqlite(connection):
        await connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": CLOSING_LOCK})
    # A statement of its own: on PostgreSQL it sees what was committed while the lock was waited for.
    last = func.max(PERIOD.c.end_ms).label("last_ms")
    return {row.org: int(row.last_ms) for row in await connection.execute(select(PERIOD.c.org, last).group_by("org"))}


async def exclude_loads(connection: AsyncConnection) -> None:
    """Nothing is loaded from here to the end of this transaction, and all that was is there."""
    if not is_sqlite(connection):
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLOSING_LOCK})
