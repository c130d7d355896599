"""A partitioned ledger whose months are long past, so that nothing depends on the day on which tests run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from gateway.store import migrate
from gateway.store.engine import open_engine, reading
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.month_keeper import make_months
from store.ledgers import Ledger

DAY = 86_400_000


def at(year: int, month: int, day: int = 1, hour: int = 0) -> int:
    """A time, ms UTC."""
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture
async def by_month(postgres_database: str) -> AsyncIterator[Ledger]:
    """January to June 2021 are there; the months around them are not."""
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    engine = open_engine(postgres_database, None, "ledger")  # type: ignore[arg-type]
    await make_months(engine, 0, [at(2021, month) for month in range(1, 7)])
    yield Ledger(engine, LedgerWriter(engine))
    await engine.dispose()


async def rows_in(ledger: Ledger, table: str) -> int:
    """Rows of a table of the schema, a partition for instance."""
    async with reading(ledger.engine) as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM faregate_ledger.{table}"))).scalar_one())
