"""What `ledger verify` asks of the sums by value: that they are the sums of the calls and lines that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, Table, cast, func, literal, or_, select, true, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store import months
from gateway.store.engine import is_sqlite
from gateway.store.ledger_statements import GROUPED_SINCE, schema_revision
from gateway.store.ledger_sums import VALUE_FIGURES, ValueDimensions
from gateway.store.ledger_tables import ATTEMPT, CALL, ROLLUP_VALUE
from gateway.store.verify_rows import Rows, call_rows, posting_rows

_KEY = ValueDimensions._fields


class ValueMismatch(msgspec.Struct, frozen=True):
    """A sum by value that is not that of the rows it was made of: (rollup, rows) of each figure that differs."""

    org: str
    dimension: str
    value: str
    team: str
    key_id: str
    model: str
    day_ms: int
    figures: dict[str, tuple[int, int]]


async def verify_values(connection: AsyncConnection) -> Sequence[ValueMismatch]:
    """Days of months whose rows have been detached are left out. Reads whole tables."""
    if await schema_revision(connection) < GROUPED_SINCE:
        return []
    nothing = [literal(0).label(f"{word}_rows") for word in VALUE_FIGURES]
    kept = select(*(ROLLUP_VALUE.c[word] for word in (*_KEY, *VALUE_FIGURES)), *nothing)
    rows = [_exploded(connection, CALL, call_rows()), _exploded(connection, ATTEMPT, posting_rows())]
    both = union_all(kept, *rows).subquery()
    key = [both.c[word] for word in _KEY]
    pairs = [(func.sum(both.c[word]), func.sum(both.c[f"{word}_rows"])) for word in VALUE_FIGURES]
    query = select(*key, *(one for pair in pairs for one in pair)).group_by(*key)
    query = query.having(or_(*(one != other for one, other in pairs)))
    kept_from_ms = await connection.run_sync(months.kept_from_ms)
    found = (await connection.execute(query.where(both.c.day_ms >= kept_from_ms).order_by(*key))).all()
    return [_mismatch(tuple(row)) for row in found]


def _mismatch(row: tuple[Any, ...]) -> ValueMismatch:
    sums = [int(value) for value in row[len(_KEY) :]]
    pairs = zip(VALUE_FIGURES, zip(sums[::2], sums[1::2], strict=True), strict=True)
    figures = {word: pair for word, pair in pairs if pair[0] != pair[1]}
    return ValueMismatch(**dict(zip(_KEY, row, strict=False)), figures=figures)


def _exploded(connection: AsyncConnection, table: Table, rows: Rows) -> Select[Any]:
    """Rows of the comparison once for each value that they are summed by. Those that say the same are added first."""
    column = table.c.summed_by
    named = {**rows.named, "summed_by": column}
    inner = (
        select(
            *(one.label(word) for word, one in named.items()),
            *(func.sum(rows.figures.get(word, literal(0))).label(word) for word in VALUE_FIGURES),
        )
        .select_from(rows.source)
        .where(column.is_not(None), *rows.conditions)
        .group_by(*named.values())
        .subquery()
    )
    said = inner.c.summed_by
    each: Any = func.json_each(said) if is_sqlite(connection) else func.jsonb_each_text(cast(said, JSONB))
    each = each.table_valued("key", "value", name="each_value")
    whose = {**inner.c, "dimension": each.c.key, "value": each.c.value}
    return select(
        *(whose[word].label(word) for word in _KEY),
        *(literal(0).label(word) for word in VALUE_FIGURES),
        *(inner.c[word].label(f"{word}_rows") for word in VALUE_FIGURES),
    ).select_from(inner.join(each, true()))
