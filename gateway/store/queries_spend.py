"""Spend from rollups: by the hour, and by the day where it is grouped by what callers choose (user, session, a tag)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, String, Table, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.core.queries import (
    BESIDE_VALUES,
    OTHER_VALUE,
    SPEND_DIMENSIONS,
    Bucket,
    QueryScope,
    SpendRow,
    is_value_dimension,
)
from gateway.store.engine import is_sqlite
from gateway.store.ledger_rows import HOUR_MS, name
from gateway.store.ledger_statements import CORRECTED_SINCE, GROUPED_SINCE, schema_revision
from gateway.store.ledger_tables import ROLLUP_HOUR, ROLLUP_VALUE

MOST_ROWS = 10_000
DAY_MS = 24 * HOUR_MS
_COLUMN_OF = {
    "org": "org",
    "team": "team",
    "key": "key_id",
    "model": "model",
    "provider": "provider",
    "deployment": "deployment",
    "endpoint": "endpoint",
}
_TIME_FORMATS = {
    # dimension: (SQLite strftime, PostgreSQL to_char), the same text
    "hour": ("%Y-%m-%dT%H:00Z", 'YYYY-MM-DD"T"HH24":00Z"'),
    "day": ("%Y-%m-%d", "YYYY-MM-DD"),
    "month": ("%Y-%m", "YYYY-MM"),
}
_SUMS = (
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "effective_nusd",
    "list_nusd",
    "estimated_nusd",
    "unpriced_calls",
)
_SUMS_3 = (*_SUMS, "margin_nusd", "prior_list_nusd", "prior_effective_nusd", "prior_margin_nusd")
Group = tuple[str, ...]


async def spend_by(
    connection: AsyncConnection,
    scope: QueryScope,
    by: Sequence[str],
    from_ms: int,
    to_ms: int,
    limit: int,
    of: tuple[str, str] | None = None,
) -> list[SpendRow]:
    """core.queries.LedgerQueries.spend. Time groups are UTC text: `2026-09-21T14:00Z`, `2026-09-21`, `2026-09`. Raises
    BadRequest."""
    values = [word for word in by if is_value_dimension(word)]
    if of is not None:
        known = list(BESIDE_VALUES)
    else:
        known = [*BESIDE_VALUES, values[0]] if values else list(SPEND_DIMENSIONS)
    unknown = [word for word in by if word not in known]
    if unknown:
        raise BadRequest(f"unknown dimension {unknown[0]!r}: use {', '.join(known)}", param="by")
    revision = await schema_revision(connection)
    if (values or of) and revision < GROUPED_SINCE:
        raise StoreUnavailable("SQL has no place for sums by user, session or tag; run: faregate db upgrade")
    if of is not None:
        first_ms, last_ms = _days(from_ms, to_ms)
        query = _summed(connection, ROLLUP_VALUE, scope, by, first_ms, last_ms, _SUMS_3)
        query = query.where(ROLLUP_VALUE.c.dimension == of[0], ROLLUP_VALUE.c.value == name(of[1]))
        rows = (await connection.execute(query.limit(bounded(limit)))).all()
        return [_spend_row(row, _SUMS_3, len(by)) for row in rows]
    if values:
        return await _by_value(connection, scope, values[0], by, from_ms, to_ms, limit)
    words = _SUMS_3 if revision >= CORRECTED_SINCE else _SUMS
    first_ms, last_ms = from_ms - from_ms % HOUR_MS, -(-to_ms // HOUR_MS) * HOUR_MS
    query = _summed(connection, ROLLUP_HOUR, scope, by, first_ms, last_ms, words)
    rows = (await connection.execute(query.limit(bounded(limit)))).all()
    return [_spend_row(row, words, len(by)) for row in rows]


async def _by_value(
    connection: AsyncConnection,
    scope: QueryScope,
    dimension: str,
    by: Sequence[str],
    from_ms: int,
    to_ms: int,
    limit: int,
) -> list[SpendRow]:
    """Groups of a dimension that callers choose, and beside them what the sums by the hour have and none of these."""
    others = [word for word in by if word != dimension]
    first_ms, last_ms = _days(from_ms, to_ms)

    async def asked(table: Table, words: Sequence[str], most: int) -> list[SpendRow]:
        query = _summed(connection, table, scope, words, first_ms, last_ms, _SUMS_3)
        if table is ROLLUP_VALUE:
            query = query.where(table.c.dimension == dimension)
        rows = (await connection.execute(query.limit(most))).all()
        return [_spend_row(row, _SUMS_3, len(words)) for row in rows]

    found = await asked(ROLLUP_VALUE, by, bounded(limit))
    at = list(by).index(dimension)
    rows = [_told(row, Bucket.OTHER if row.group[at] == OTHER_VALUE else Bucket.VALUE) for row in found]
    summed = {row.group: row for row in await asked(ROLLUP_VALUE, others, MOST_ROWS)}
    wholes = await asked(ROLLUP_HOUR, others, MOST_ROWS)
    if len(wholes) == MOST_ROWS:
        raise BadRequest(f"That is over {MOST_ROWS} groups: ask for a shorter time or fewer dimensions.", param="by")
    for whole in wholes:
        group = (*whole.group[:at], OTHER_VALUE, *whole.group[at:])
        rest = _less(whole, summed.get(whole.group), group)
        if any(getattr(rest, word) for word in _SUMS_3):
            rows.append(rest)
    times = [index for index, word in enumerate(by) if word in _TIME_FORMATS]
    rows.sort(key=lambda row: ([row.group[index] for index in times], -row.effective_nusd, row.group))
    return rows[: bounded(limit)]


def _days(from_ms: int, to_ms: int) -> tuple[int, int]:
    return from_ms - from_ms % DAY_MS, -(-to_ms // DAY_MS) * DAY_MS


def _told(row: SpendRow, bucket: Bucket) -> SpendRow:
    return msgspec.structs.replace(row, bucket=bucket)


def _less(whole: SpendRow, part: SpendRow | None, group: Group) -> SpendRow:
    figures = {word: getattr(whole, word) - (0 if part is None else getattr(part, word)) for word in _SUMS_3}
    return msgspec.structs.replace(whole, group=group, bucket=Bucket.NONE, **figures)


def _summed(
    connection: AsyncConnection,
    table: Table,
    scope: QueryScope,
    by: Sequence[str],
    first_ms: int,
    last_ms: int,
    words: Sequence[str],
) -> Select[Any]:
    """Sums of a rollup's rows within [first_ms, last_ms) by dimensions, dearest first, time groups in time order."""
    groups = [_group(connection, table, word) for word in by]
    times = [group for word, group in zip(by, groups, strict=True) if word in _TIME_FORMATS]
    sums = [func.coalesce(func.sum(table.c[word]), 0).label(word) for word in words]
    time_ms = _time_of(table)
    query = select(*groups, *sums).where(*within(scope, table.c), time_ms >= first_ms, time_ms < last_ms)
    if groups:
        query = query.group_by(*groups)
    return query.order_by(*times, sums[words.index("effective_nusd")].desc(), *groups)


def _time_of(table: Table) -> ColumnElement[int]:
    return table.c.hour_ms if table is ROLLUP_HOUR else table.c.day_ms


def _group(connection: AsyncConnection, table: Table, word: str) -> ColumnElement[Any]:
    if is_value_dimension(word):
        return table.c.value.label("by_value")
    if word not in _TIME_FORMATS:
        return table.c[_COLUMN_OF[word]].label(f"by_{word}")
    seconds = _time_of(table) // 1000
    for_sqlite, for_postgres = _TIME_FORMATS[word]
    if is_sqlite(connection):
        return func.strftime(for_sqlite, seconds, "unixepoch").label(f"by_{word}")
    in_utc = func.timezone("UTC", func.to_timestamp(seconds))
    return func.to_char(in_utc, cast(for_postgres, String)).label(f"by_{word}")


def within(scope: QueryScope, columns: Any) -> list[ColumnElement[bool]]:
    """The rows a scope may see, as conditions: no query for people is without them."""
    conditions: list[ColumnElement[bool]] = [columns.org == scope.org]
    if scope.key_id is not None:
        conditions.append(columns.key_id == scope.key_id)
    if scope.team is not None:
        # Beside a key the team only filters: SQLite would take its index for it and read the whole team's calls.
        team = columns.team if scope.key_id is None else columns.team.concat("")
        conditions.append(team == scope.team)
    return conditions


def bounded(limit: int) -> int:
    return max(1, min(limit, MOST_ROWS))


def _spend_row(row: Row[Any], words: Sequence[str], groups: int) -> SpendRow:
    # PostgreSQL sums BIGINT as NUMERIC; every one of these is an integer.
    sums: dict[str, Any] = dict(zip(words, (int(value) for value in row[groups:]), strict=True))
    return SpendRow(group=tuple(str(value) for value in row[:groups]), **sums)
