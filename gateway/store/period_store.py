"""Closing months: their sums as they were, proved later to be so still."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.corrections import ClosedMonth, MonthSums, month_name
from gateway.core.errors import Conflict, StoreUnavailable
from gateway.store.closed_months import exclude_loads
from gateway.store.engine import insert_into, reading, writing
from gateway.store.ledger_statements import CORRECTED_SINCE, schema_revision
from gateway.store.ledger_tables import ATTEMPT, CALL, JOURNAL_CURSOR, PERIOD, POSTING, ROLLUP_HOUR
from gateway.store.months import first_id, month_start
from gateway.store.period_chain import broken_chains, extend_chain

DAY_MS = 86_400_000
_KEY = tuple(column.name for column in ROLLUP_HOUR.primary_key.columns)
_FIGURES = tuple(column.name for column in ROLLUP_HOUR.columns if column.name not in _KEY)
_WHOLE = 1 << 256
ROWS_AT_ONCE = 2_000


class SqlPeriods:
    """core.corrections.Periods over SQL. Raises StoreUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def closed(self, org: str) -> list[ClosedMonth]:
        """See the port."""
        query = select(PERIOD).where(PERIOD.c.org == org).order_by(PERIOD.c.month_ms)
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                return []
            return [_month(row) for row in await connection.execute(query)]

    async def next_ms(self, org: str) -> int:
        """See the port."""
        async with reading(self._engine) as connection:
            return await _next_ms(connection, org)

    async def sums(self, org: str, month_ms: int) -> MonthSums:
        """See the port."""
        async with reading(self._engine) as connection:
            return await _sums(connection, org, month_ms)

    async def unfinished(self, org: str, month_ms: int) -> int:
        """See the port."""
        async with reading(self._engine) as connection:
            return await _unfinished(connection, org, month_ms)

    async def close(self, org: str, month_ms: int, now_ms: int, actor: str, reason: str) -> ClosedMonth:
        """See the port. The rows are added up before the lock that keeps loads out, and again under it only where a
        load in between was of this month: of what is loaded right after a month's end hardly anything is."""
        async with reading(self._engine) as connection:
            reached = await _reached(connection)  # first: what comes while the rest is read is looked at again
            left = await _unfinished(connection, org, month_ms)
            sums = await _sums(connection, org, month_ms)
        async with writing(self._engine) as connection:
            await exclude_loads(connection)
            next_ms = await _next_ms(connection, org)
            if next_ms and month_ms != next_ms:
                raise Conflict(
                    f"{month_name(month_ms)} is closed already, or before all that is recorded."
                    if month_ms < next_ms
                    else f"{month_name(next_ms)} is open, and months are closed in their order: close it first."
                )
            if await loaded_since(connection, org, month_ms, reached):
                left = await _unfinished(connection, org, month_ms)
                sums = await _sums(connection, org, month_ms)
            if left:
                raise Conflict(f"{left} calls or attempts of {month_name(month_ms)} have not ended in SQL.")
            if not next_ms:  # any month would do, once, and then all that follow had to be closed in their order
                raise Conflict("Nothing is recorded of this organisation yet: there is no month to be closed.")
            closed = ClosedMonth(month_ms, org, month_start(month_ms, 1), now_ms, actor, reason, sums)
            row = {word: getattr(closed, word) for word in ClosedMonth.__struct_fields__ if word != "sums"}
            await connection.execute(insert_into(connection, PERIOD), [row | msgspec.structs.asdict(sums)])
            await extend_chain(connection, org)
        return closed


async def changed_months(connection: AsyncConnection) -> list[str]:
    """What of closed months is no longer what it was when they were closed, for people."""
    if await schema_revision(connection) < CORRECTED_SINCE:
        return []
    found: list[str] = await broken_chains(connection)
    for row in (await connection.execute(select(PERIOD).order_by(PERIOD.c.month_ms, PERIOD.c.org))).all():
        month = _month(row)
        now = await _sums(connection, month.org, month.month_ms)
        if now != month.sums:
            found.append(f"{month.name} {month.org}: {_told(month.sums, now)}")
    return found


def _told(then: MonthSums, now: MonthSums) -> str:
    words = (word for word in MonthSums.__struct_fields__ if word != "digest")
    pairs = ((word, getattr(then, word), getattr(now, word)) for word in words)
    moved = [f"{word} {before} then, {present} now" for word, before, present in pairs if before != present]
    return ", ".join(moved) or "the same sums over other rows"


async def _next_ms(connection: AsyncConnection, org: str) -> int:
    if await schema_revision(connection) < CORRECTED_SINCE:
        raise StoreUnavailable("SQL has no place for closed months; run: faregate db upgrade")
    last_ms = (await connection.execute(select(func.max(PERIOD.c.end_ms)).where(PERIOD.c.org == org))).scalar()
    if last_ms is not None:
        return int(last_ms)
    first = select(func.min(ROLLUP_HOUR.c.hour_ms)).where(ROLLUP_HOUR.c.org == org)
    first_ms = (await connection.execute(first)).scalar()
    return 0 if first_ms is None else month_start(first_ms)


async def _unfinished(connection: AsyncConnection, org: str, month_ms: int) -> int:
    """Attempts and calls begun in the month or the day before it whose end SQL does not have."""
    first_ms, end_ms = month_ms - DAY_MS, month_start(month_ms, 1)
    first, last = first_id(first_ms), first_id(end_ms + DAY_MS)
    ended = (
        select(POSTING.c.attempt_id)
        .where(POSTING.c.attempt_id == ATTEMPT.c.attempt_id, POSTING.c.kind == "attempt")
        .exists()
    )
    attempt, call = ATTEMPT.c, CALL.c
    attempts = (attempt.attempt_id >= first, attempt.attempt_id < last, attempt.started_ms < end_ms, ~ended)
    calls = (call.call_id >= first, call.call_id < last, call.started_ms < end_ms, call.seq.is_(None))
    queries = (
        select(func.count()).select_from(ATTEMPT).where(attempt.org == org, *attempts),
        select(func.count()).select_from(CALL).where(call.org == org, *calls),
    )
    return sum([int((await connection.execute(query)).scalar_one()) for query in queries])


async def _reached(connection: AsyncConnection) -> dict[bytes, int]:
    rows = await connection.execute(select(JOURNAL_CURSOR.c.journal_id, JOURNAL_CURSOR.c.seq))
    return {row.journal_id: row.seq for row in rows}


async def loaded_since(connection: AsyncConnection, org: str, month_ms: int, reached: dict[bytes, int]) -> bool:
    """Whether anything was loaded that is of a month of an org, after each journal's cursor was at `reached`."""
    end_ms = month_start(month_ms, 1)
    for journal_id, seq in (await _reached(connection)).items():
        before = reached.get(journal_id, -1)
        if seq < before:
            return True  # SQL is older than it was
        if seq == before:
            continue
        counted_ms = func.coalesce(POSTING.c.counted_ms, ATTEMPT.c.started_ms)
        postings = POSTING.join(ATTEMPT, ATTEMPT.c.attempt_id == POSTING.c.attempt_id)
        calls_ms = func.coalesce(CALL.c.counted_ms, CALL.c.started_ms)
        for table, source, of, time_ms, since_ms in (
            (ATTEMPT, ATTEMPT, ATTEMPT.c.org, ATTEMPT.c.started_ms, month_ms - DAY_MS),  # as `_unfinished` looks
            (POSTING, postings, ATTEMPT.c.org, counted_ms, month_ms),
            (CALL, CALL, CALL.c.org, calls_ms, month_ms),
        ):
            new = (table.c.journal_id == journal_id, table.c.seq > before, of == org)
            query = select(literal(1)).select_from(source).where(*new, time_ms >= since_ms, time_ms < end_ms).limit(1)
            if (await connection.execute(query)).first() is not None:
                return True
    return False


async def _sums(connection: AsyncConnection, org: str, month_ms: int) -> MonthSums:
    """Row by row: the digest is the sum of the rows' own, so that no order matters."""
    table = ROLLUP_HOUR.c
    query = select(*(table[word] for word in (*_KEY, *_FIGURES))).where(
        table.org == org, table.hour_ms >= month_ms, table.hour_ms < month_start(month_ms, 1)
    )
    rollups = digest = 0
    totals = [0] * len(_FIGURES)
    result = await connection.stream(query)
    async for rows in result.partitions(ROWS_AT_ONCE):
        for row in rows:
            values = tuple(row)
            rollups += 1
            digest += _row_digest(values)
            for at, value in enumerate(values[len(_KEY) :]):
                totals[at] += value
    sums = dict(zip(_FIGURES, totals, strict=True))
    return MonthSums(
        rollups=rollups,
        calls=sums["calls"],
        attempts=sums["attempts"],
        list_nusd=sums["list_nusd"],
        effective_nusd=sums["effective_nusd"],
        billed_nusd=sums["effective_nusd"] + sums["margin_nusd"],
        prior_effective_nusd=sums["prior_effective_nusd"],
        digest=(digest % _WHOLE).to_bytes(32, "big"),
    )


def _row_digest(values: tuple[Any, ...], figures: Sequence[str] = _FIGURES) -> int:
    """SHA-256 of a row's key and of those of its figures that are not 0, by name: a figure that a later version adds
    changes no month that was closed before."""
    own = values[len(_KEY) :]
    in_order = _BY_NAME if figures is _FIGURES else _named(figures)
    counted = [(word, value) for word, at in in_order if (value := own[at])]
    row = msgspec.msgpack.encode((values[: len(_KEY)], counted))
    return int.from_bytes(hashlib.sha256(row).digest(), "big")


def _named(figures: Sequence[str]) -> list[tuple[str, int]]:
    """Figures in the order of their names, with where they stand."""
    return sorted((word, at) for at, word in enumerate(figures))


_BY_NAME = _named(_FIGURES)


def _month(row: Row[Any]) -> ClosedMonth:
    words = (word for word in ClosedMonth.__struct_fields__ if word != "sums")
    sums = MonthSums(**{word: getattr(row, word) for word in MonthSums.__struct_fields__})
    return ClosedMonth(**{word: getattr(row, word) for word in words}, sums=sums)
