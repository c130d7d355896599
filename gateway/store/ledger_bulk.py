"""INSERT of many rows with its SQL written once.

SQLAlchemy's own bulk insert builds a dictionary of parameters a row and costs as much as all of the rest of the loader;
here rows go to the driver as they are. SQLite gets one VALUES list, PostgreSQL one array a column (`unnest`), which
keeps its statement's text and plan the same for every batch. Names come from the tables, values only as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import BigInteger, Boolean, LargeBinary, Table, Text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from gateway.store.engine import is_sqlite, schema_of
from gateway.store.ledger_rows import Row

SQLITE_VARIABLES = 32_766
"""Most parameters of one statement in SQLite as it ships."""
_ARRAYS: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (LargeBinary, "bytea[]"),
    (Text, "text[]"),
    (BigInteger, "bigint[]"),
    (Boolean, "boolean[]"),
)

DO_NOTHING = "ON CONFLICT DO NOTHING"


def fill_in(table: Table, while_null: str) -> str:
    """ON CONFLICT: the new row replaces the stored one for as long as its column `while_null` is NULL."""
    key = [column.name for column in table.primary_key.columns]
    others = [column.name for column in table.columns if column.name not in key]
    updates = ", ".join(f'"{word}" = excluded."{word}"' for word in others)
    return f'ON CONFLICT ({_names(key)}) DO UPDATE SET {updates} WHERE stored."{while_null}" IS NULL'


def add_up(table: Table) -> str:
    """ON CONFLICT: everything but the key is added to the stored row."""
    key = [column.name for column in table.primary_key.columns]
    others = [column.name for column in table.columns if column.name not in key]
    updates = ", ".join(f'"{word}" = stored."{word}" + excluded."{word}"' for word in others)
    return f"ON CONFLICT ({_names(key)}) DO UPDATE SET {updates}"


class BulkInsert:
    """INSERT INTO `table` of the ledger with a fixed ON CONFLICT clause; returns `returning` of the rows written."""

    def __init__(self, table: Table, conflict: str = "", returning: Iterable[str] = ()) -> None:
        columns = [column.name for column in table.columns]
        self._take: Callable[[Row], tuple[Any, ...]] = itemgetter(*columns)
        self._rows_at_once = SQLITE_VARIABLES // len(columns)
        self._values = f"({', '.join('?' * len(columns))})"
        self._head = f'INTO {{0}}"{table.name}" AS stored ({_names(columns)})'
        self._arrays = ", ".join(f"${number}::{_array(c.type)}" for number, c in enumerate(table.columns, start=1))
        self._tail = conflict
        self._returns = bool(returning)
        if self._returns:
            self._tail += f" RETURNING {_names(returning)}"

    async def run(self, connection: AsyncConnection, rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        """Inserts `rows`. Without `returning` the answer is empty."""
        if not rows:
            return set()
        tuples = [self._take(row) for row in rows]
        if not is_sqlite(connection):
            head = self._head.format(f"{schema_of('ledger')}.")
            statement = f"INSERT {head} SELECT * FROM unnest({self._arrays}) {self._tail}"  # noqa: S608
            return await self._execute(connection, statement, tuple(map(list, zip(*tuples, strict=True))))
        written: set[tuple[Any, ...]] = set()
        head = self._head.format("")
        for start in range(0, len(tuples), self._rows_at_once):
            chunk = tuples[start : start + self._rows_at_once]
            statement = f"INSERT {head} VALUES {', '.join([self._values] * len(chunk))} {self._tail}"  # noqa: S608
            written |= await self._execute(connection, statement, tuple(chain.from_iterable(chunk)))
        return written

    async def _execute(
        self, connection: AsyncConnection, statement: str, parameters: tuple[Any, ...]
    ) -> set[tuple[Any, ...]]:
        result = await connection.exec_driver_sql(statement, parameters)
        return {tuple(row) for row in result} if self._returns else set()


def _names(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _array(kind: TypeEngine[Any]) -> str:
    for known, array in _ARRAYS:
        if isinstance(kind, known):
            return array
    raise TypeError(f"no array type for {kind!r}")
