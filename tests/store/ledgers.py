"""An open ledger, and a way to look into it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Table, delete, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.store import migrate
from gateway.store.engine import open_engine, reading, writing
from gateway.store.ledger_tables import (
    ATTEMPT,
    CALL,
    DEAD_LETTER,
    JOURNAL_CURSOR,
    LEDGER_LINE,
    POSTING,
    REFUSAL_STAT,
    ROLLUP_HOUR,
    ROLLUP_VALUE,
)
from gateway.store.ledger_writer import LedgerWriter
from store.stores import Store


class Watch:
    """The statements that an engine sends."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.asked: list[tuple[str, Any]] = []

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            self.asked.append((statement, parameters))

    async def opened(self) -> set[str]:
        """The partitions that PostgreSQL opens for the reads seen since the last time."""
        asked, self.asked = self.asked, []
        found: set[str] = set()
        async with reading(self._engine) as connection:
            for statement, parameters in asked:
                if statement.startswith("SELECT"):
                    plan = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                    found |= set(
                        re.findall(r" on ((?:call|attempt|posting|ledger_line)_\w+) ", "\n".join(plan.scalars()))
                    )
        self.asked.clear()
        return found


@dataclass
class Ledger:
    """An open ledger and a way to look into it."""

    engine: AsyncEngine
    writer: LedgerWriter

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        async with reading(self.engine) as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key.columns))
            return [dict(row._mapping) for row in found]

    async def count(self, table: Table) -> int:
        async with reading(self.engine) as connection:
            return (await connection.execute(select(func.count()).select_from(table))).scalar_one()

    async def totals(self) -> dict[str, int]:
        rows = await self.rows(ROLLUP_HOUR)
        words = ("calls", "errors", "refused", "unpriced_calls", "attempts", "input_tokens", "output_tokens")
        return {word: sum(row[word] for row in rows) for word in (*words, "effective_nusd", "estimated_nusd")}

    async def dead(self) -> list[tuple[int, str]]:
        return [(row["seq"], row["reason"]) for row in await self.rows(DEAD_LETTER)]

    async def forget_cursors(self) -> None:
        """As if cursors had been lost, which no transaction of ours can do: the rows must protect themselves from
        the next writer."""
        async with writing(self.engine) as connection:
            await connection.execute(delete(JOURNAL_CURSOR))
        self.writer = LedgerWriter(self.engine)

    def watch(self) -> Watch:
        """Notes what is asked from here on."""
        return Watch(self.engine)

    async def everything(self) -> list[list[dict[str, Any]]]:
        tables = (
            CALL,
            ATTEMPT,
            POSTING,
            LEDGER_LINE,
            ROLLUP_HOUR,
            ROLLUP_VALUE,
            JOURNAL_CURSOR,
            DEAD_LETTER,
            REFUSAL_STAT,
        )
        return [await self.rows(table) for table in tables]


@pytest.fixture
async def ledger(store: Store) -> AsyncIterator[Ledger]:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    yield Ledger(engine, LedgerWriter(engine))
    await engine.dispose()
