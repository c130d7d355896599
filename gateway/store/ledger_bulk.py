"""Many rows in one go, with the SQL written once.

`PlainInsert` puts rows in as they are: binary COPY into the table itself on PostgreSQL, a prepared INSERT on SQLite. It
asks nothing back, so a row that is there already is an error. `BulkInsert` has an ON CONFLICT clause and says which
rows were written; it costs more than twice as much: SQLite gets one VALUES list, PostgreSQL one array a column
(`unnest`). SQLAlchemy's own bulk insert would cost as much as all of the rest of the loader. Nothing here uses a
temporary table: one a batch would grow PostgreSQL's catalogue by fifty rows each time, and is slower.

Names come from the tables, values only as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
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


def fill_in(table: Table, while_null: str, absent: Collection[str] = ()) -> str:
    """ON CONFLICT: the new row replaces the stored one for as long as its column `while_null` is NULL."""
    key = [column.name for column in table.primary_key.columns]
    others = [word for word in _columns(table, absent) if word not in key]
    updates = ", ".join(f'"{word}" = excluded."{word}"' for word in others)
    return f'ON CONFLICT ({_names(key)}) DO UPDATE SET {updates} WHERE stored."{while_null}" IS NULL'


def add_up(table: Table, absent: Collection[str] = ()) -> str:
    """ON CONFLICT: everything but the key is added to the stored row."""
    key = [column.name for column in table.primary_key.columns]
    others = [word for word in _columns(table, absent) if word not in key]
    updates = ", ".join(f'"{word}" = stored."{word}" + excluded."{word}"' for word in others)
    return f"ON CONFLICT ({_names(key)}) DO UPDATE SET {updates}"


class PlainInsert:
    """Rows into `table` of the ledger that cannot be there yet. `absent` are columns the schema does not have.

    Rows that lack all of `rare` are written without these columns: NULL is as good, and most rows have none of them.
    """

    def __init__(self, table: Table, absent: Collection[str] = (), rare: Collection[str] = ()) -> None:
        self._usual = _PlainInsert(table, {*absent, *rare})
        self._whole = _PlainInsert(table, absent)
        self._nothing = dict.fromkeys(rare)
        self._usual_words = len(table.columns) - len(rare)

    async def run(self, connection: AsyncConnection, rows: Iterable[Row]) -> None:
        """All rows or an error that blames the data: SQLAlchemy's, or asyncpg's own.

        The transaction must have begun on the server: COPY goes to the driver's connection, past SQLAlchemy's begin.
        """
        if not self._nothing:
            await self._whole.run(connection, rows)
            return
        usual: list[Row] = []
        whole: list[Row] = []
        for row in rows:
            if len(row) == self._usual_words:
                usual.append(row)
            else:
                whole.append({**self._nothing, **row})
        await self._usual.run(connection, usual)
        await self._whole.run(connection, whole)


class _PlainInsert:
    """One list of columns."""

    def __init__(self, table: Table, absent: Collection[str]) -> None:
        self._table = table.name
        self._columns = _columns(table, absent)
        self._take: Callable[[Row], tuple[Any, ...]] = itemgetter(*self._columns)
        marks = ", ".join("?" * len(self._columns))
        self._statement = f'INSERT INTO "{table.name}" ({_names(self._columns)}) VALUES ({marks})'  # noqa: S608

    async def run(self, connection: AsyncConnection, rows: Iterable[Row]) -> None:
        tuples = list(map(self._take, rows))
        if not tuples:
            return
        if is_sqlite(connection):
            await connection.exec_driver_sql(self._statement, tuples)
            return
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.copy_records_to_table(
            self._table, schema_name=schema_of("ledger"), columns=self._columns, records=tuples
        )


class BulkInsert:
    """INSERT INTO `table` of the ledger with a fixed ON CONFLICT clause. `returning` is what `run` says of the rows."""

    def __init__(
        self, table: Table, conflict: str = "", returning: Iterable[str] = (), absent: Collection[str] = ()
    ) -> None:
        columns = _columns(table, absent)
        self._take: Callable[[Row], tuple[Any, ...]] = itemgetter(*columns)
        self._rows_at_once = SQLITE_VARIABLES // len(columns)
        self._values = f"({', '.join('?' * len(columns))})"
        head = f'"{table.name}" AS stored ({_names(columns)})'
        kinds = (table.columns[word].type for word in columns)
        arrays = ", ".join(f"${number}::{_array(kind)}" for number, kind in enumerate(kinds, start=1))
        self._sqlite = f"INSERT INTO {head} VALUES "  # noqa: S608
        self._postgres = f"INSERT INTO {schema_of('ledger')}.{head} SELECT * FROM unnest({arrays}) {conflict}"  # noqa: S608
        self._conflict = conflict
        self._returning = f" RETURNING {_names(returning)}"

    async def run(self, connection: AsyncConnection, rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        """Inserts `rows`; `returning` of those that were written."""
        if not rows:
            return set()
        tuples = list(map(self._take, rows))
        if not is_sqlite(connection):
            result = await connection.exec_driver_sql(self._postgres + self._returning, _turned(tuples))
            return {tuple(row) for row in result}
        written: set[tuple[Any, ...]] = set()
        for start in range(0, len(tuples), self._rows_at_once):
            chunk = tuples[start : start + self._rows_at_once]
            values = ", ".join([self._values] * len(chunk))
            statement = f"{self._sqlite}{values} {self._conflict}{self._returning}"
            written |= set(map(tuple, await connection.exec_driver_sql(statement, tuple(chain.from_iterable(chunk)))))
        return written

    async def count(self, connection: AsyncConnection, rows: Iterable[Row]) -> int:
        """Inserts `rows`; how many were written. Cheaper than `run`."""
        return await self.count_tuples(connection, list(map(self._take, rows)))

    async def count_tuples(self, connection: AsyncConnection, tuples: Sequence[tuple[Any, ...]]) -> int:
        """The same of rows that are tuples in the order of the columns."""
        if not tuples:
            return 0
        if is_sqlite(connection):
            statement = f"{self._sqlite}{self._values} {self._conflict}"
            return (await connection.exec_driver_sql(statement, list(tuples))).rowcount
        return (await connection.exec_driver_sql(self._postgres, _turned(tuples))).rowcount


def _turned(tuples: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """Rows as columns."""
    return tuple(map(list, zip(*tuples, strict=True)))


def _columns(table: Table, absent: Collection[str]) -> list[str]:
    return [column.name for column in table.columns if column.name not in absent]


def _names(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _array(kind: TypeEngine[Any]) -> str:
    for known, array in _ARRAYS:
        if isinstance(kind, known):
            return array
    raise TypeError(f"no array type for {kind!r}")
