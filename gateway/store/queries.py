"""Reads of the ledger for people: spend from rollups, calls and attempts by index. All in one read transaction each.

On PostgreSQL they open only the months they need. A call's id is made of the time at which it starts (flow/run.py), so
a period is a range of ids; a day is added on both sides, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.charge import CostState, Line
from gateway.core.errors import BadRequest
from gateway.core.ids import ATTEMPT as ATTEMPT_PREFIX
from gateway.core.ids import CALL as CALL_PREFIX
from gateway.core.ids import parse_id, print_id
from gateway.core.queries import AttemptRow, CallRow, CorrectionRow, Freshness, QueryScope, SpendRow
from gateway.store.engine import is_sqlite, reading
from gateway.store.in_force import InForce, Stored, all_of, billed_of, in_force, lines_by_revision, standing_lines
from gateway.store.ledger_rows import HOUR_MS, RUNNING
from gateway.store.ledger_tables import ATTEMPT, CALL, DEAD_LETTER, JOURNAL_CURSOR, LEDGER_LINE, POSTING
from gateway.store.months import first_id
from gateway.store.queries_spend import bounded, spend_by, within

DAY_MS = 24 * HOUR_MS
_LOOK_BACK_DAYS = (14, 120)


class SqlLedgerQueries:
    """core.queries.LedgerQueries over SQL. `behind_bytes` says how much journal is not in SQL yet (the bookkeeper's
    figure); without it freshness claims 0."""

    def __init__(self, engine: AsyncEngine, behind_bytes: Callable[[], int] = lambda: 0) -> None:
        self._engine = engine
        self._behind_bytes = behind_bytes

    async def spend(
        self,
        scope: QueryScope,
        by: Sequence[str],
        from_ms: int,
        to_ms: int,
        limit: int = 1000,
        of: tuple[str, str] | None = None,
    ) -> list[SpendRow]:
        """See the port. Raises BadRequest."""
        async with reading(self._engine) as connection:
            return await spend_by(connection, scope, by, from_ms, to_ms, limit, of)

    async def calls(
        self, scope: QueryScope, *, before_ms: int | None = None, before_id: str = "", limit: int = 50
    ) -> list[CallRow]:
        """See the port. `before_id` is the printed id of the last call of the page before. Raises BadRequest."""
        table = CALL.c
        query = all_of(CALL, *within(scope, table))
        if before_id:
            raw = parse_id(CALL_PREFIX, before_id)
            if raw is None or before_ms is None:
                raise BadRequest("before_id is the id of a call and goes with before_ms", param="before_id")
            query = query.where(tuple_(table.started_ms, table.call_id) < tuple_(before_ms, raw))
        elif before_ms is not None:
            query = query.where(table.started_ms < before_ms)
        query = query.order_by(table.started_ms.desc(), table.call_id.desc())
        async with reading(self._engine) as connection:
            rows = await _page(connection, query, before_ms, bounded(limit))
            corrected = await _corrected(connection, rows)
        return [_call_row(row, corrected.get(row.call_id, ())) for row in rows]

    async def call(self, scope: QueryScope, call_id: bytes) -> tuple[CallRow, tuple[AttemptRow, ...]] | None:
        """See the port. Attempts in order; of each what all of its postings come to."""
        async with reading(self._engine) as connection:
            found = await connection.execute(all_of(CALL, CALL.c.call_id == call_id, *within(scope, CALL.c)))
            row = found.first()
            if row is None:
                return None
            attempts = await _attempts(connection, row)
            corrected = await _corrected(connection, [row])
        return _call_row(row, corrected.get(row.call_id, ())), attempts

    async def freshness(self) -> Freshness:
        async with reading(self._engine) as connection:
            newest_ms = (await connection.execute(select(func.max(JOURNAL_CURSOR.c.newest_ms)))).scalar()
            dead_letters = (await connection.execute(select(func.count()).select_from(DEAD_LETTER))).scalar()
        return Freshness(newest_ms or 0, self._behind_bytes(), dead_letters or 0)


async def _page(connection: AsyncConnection, query: Select[Any], before_ms: int | None, limit: int) -> list[Row[Any]]:
    """The first rows of a query for calls: those of the last weeks, and only if they are too few, further back.

    Rows of the future, made under a wrong clock, are on the first page: it has no end.
    """
    limited = query.limit(limit)
    if is_sqlite(connection):
        return list((await connection.execute(limited)).all())
    table = CALL.c
    latest_ms = before_ms
    if latest_ms is None:
        latest_ms = (await connection.execute(select(func.max(JOURNAL_CURSOR.c.newest_ms)))).scalar() or 0
    else:
        limited = limited.where(table.call_id < first_id(latest_ms + DAY_MS))
    for days in _LOOK_BACK_DAYS:
        since_ms = latest_ms - days * DAY_MS
        near = limited.where(table.started_ms >= since_ms, table.call_id >= first_id(since_ms - DAY_MS))
        rows = list((await connection.execute(near)).all())
        if len(rows) == limit:
            return rows
    return list((await connection.execute(limited)).all())


async def _attempts(connection: AsyncConnection, call: Row[Any]) -> tuple[AttemptRow, ...]:
    """A call's attempts, looked for where its time says, and everywhere if some are missing there."""
    table = ATTEMPT.c
    query: Select[Any] = select(table.attempt_id, table.number, table.deployment, table.bound_nusd)
    query = query.where(table.call_id == call.call_id).order_by(table.number, table.seq)
    last_ms = max(call.started_ms, call.ended_ms or 0) + DAY_MS
    near = query.where(table.attempt_id >= first_id(call.started_ms - DAY_MS), table.attempt_id < first_id(last_ms))
    attempts = (await connection.execute(near)).all()
    if len(attempts) < call.attempts:
        attempts = (await connection.execute(query)).all()
    ids = [row.attempt_id for row in attempts]
    postings: dict[bytes, list[Stored]] = {}
    for row in await connection.execute(all_of(POSTING, POSTING.c.attempt_id.in_(ids))):
        postings.setdefault(row.attempt_id, []).append(row._mapping)
    lines: dict[bytes, list[Stored]] = {}
    for row in await connection.execute(all_of(LEDGER_LINE, LEDGER_LINE.c.attempt_id.in_(ids))):
        lines.setdefault(row.attempt_id, []).append(row._mapping)
    return tuple(
        _attempt_row(row, postings.get(row.attempt_id, []), lines_by_revision(lines.get(row.attempt_id, [])))
        for row in attempts
    )


async def _corrected(connection: AsyncConnection, calls: Sequence[Row[Any]]) -> dict[bytes, tuple[InForce, ...]]:
    """Of those calls of which an attempt was corrected, what each attempt comes to."""
    if not calls:
        return {}
    ids = [row.call_id for row in calls]
    of_calls = all_of(POSTING, POSTING.c.call_id.in_(ids), *_near(calls))
    some = await connection.execute(of_calls.where(POSTING.c.kind != "attempt"))
    corrected = {row.call_id for row in some}
    if not corrected:
        return {}
    found: dict[bytes, dict[bytes, list[Stored]]] = {}
    for row in await connection.execute(of_calls.where(POSTING.c.call_id.in_(sorted(corrected)))):
        found.setdefault(row.call_id, {}).setdefault(row.attempt_id, []).append(row._mapping)
    return {call_id: tuple(map(in_force, attempts.values())) for call_id, attempts in found.items()}


def _near(calls: Sequence[Row[Any]]) -> tuple[ColumnElement[bool], ...]:
    """Where the postings of calls are: a day around them, so that PostgreSQL opens only their months."""
    first_ms = min(row.started_ms for row in calls) - DAY_MS
    last_ms = max(max(row.started_ms, row.ended_ms or 0) for row in calls) + DAY_MS
    return POSTING.c.attempt_id >= first_id(first_ms), POSTING.c.attempt_id < first_id(last_ms)


_NOT_ENDED: dict[str, Any] = {
    "outcome": RUNNING,
    "cause": "",
    "status": 0,
    "state": "",
    "source": "",
    "input_tokens": 0,
    "output_tokens": 0,
    "reasoning_tokens": 0,
    "ttft_us": -1,
    "duration_us": -1,
    "raw_usage": b"",
}
_NO_COST = InForce(0, "", "", None, None, None, ())


def _attempt_row(held: Row[Any], postings: list[Stored], lines: dict[int, tuple[Line, ...]]) -> AttemptRow:
    end = next((row for row in postings if row["kind"] == "attempt" and row["revision"] == 0), _NOT_ENDED)
    cost = in_force(postings) if postings else _NO_COST
    corrections = sorted((row for row in postings if row["revision"]), key=lambda row: int(row["revision"]))
    unknown = end.get("unknown_usage")
    return AttemptRow(
        attempt_id=print_id(ATTEMPT_PREFIX, held.attempt_id),
        number=held.number,
        deployment=held.deployment,
        outcome=end["outcome"],
        cause=end["cause"],
        status=end["status"],
        state=cost.state,
        source=cost.source,
        effective_nusd=cost.effective_nusd,
        list_nusd=cost.list_nusd,
        bound_nusd=held.bound_nusd,
        input_tokens=end["input_tokens"],
        output_tokens=end["output_tokens"],
        reasoning_tokens=end["reasoning_tokens"],
        ttft_us=end["ttft_us"],
        duration_us=end["duration_us"],
        lines=standing_lines(lines, cost.revision),
        raw_usage=end["raw_usage"].decode("utf-8", "replace"),
        reported_nusd=end.get("reported_nusd"),
        own_billed_nusd=None if cost.billed_nusd == cost.effective_nusd else cost.billed_nusd,
        region=end.get("region") or "",
        unknown_usage=msgspec.json.decode(unknown, type=tuple[str, ...]) if unknown else (),
        corrections=tuple(_correction_row(row, lines) for row in corrections),
    )


def _correction_row(row: Stored, lines: dict[int, tuple[Line, ...]]) -> CorrectionRow:
    return CorrectionRow(
        revision=row["revision"],
        posted_ms=row["posted_ms"],
        correction_id=row.get("correction_id") or b"",
        reason=row["cause"],
        state=row["state"],
        list_nusd=row["list_nusd"],
        effective_nusd=row["effective_nusd"],
        billed_nusd=billed_of(row),
        lines=lines.get(row["revision"], ()),
        counted_ms=row.get("counted_ms"),
    )


def _cost(row: Row[Any], corrected: Sequence[InForce]) -> tuple[str, int | None, int | None]:
    """State, effective and list cost of a call. Its own row has them as they were when it ended."""
    if not corrected or row.outcome == RUNNING:
        return row.cost_state, row.effective_nusd, row.list_nusd
    states = {attempt.state for attempt in corrected}
    state = next((one for one in (CostState.UNPRICED, CostState.ESTIMATED) if one in states), CostState.PRICED)
    if state is CostState.UNPRICED:
        return state.value, None, None
    effective = sum(attempt.effective_nusd or 0 for attempt in corrected)
    return state.value, effective, sum(attempt.list_nusd or 0 for attempt in corrected)


def _call_row(row: Row[Any], corrected: Sequence[InForce]) -> CallRow:
    cost_state, effective_nusd, list_nusd = _cost(row, corrected)
    return CallRow(
        call_id=print_id(CALL_PREFIX, row.call_id),
        started_ms=row.started_ms,
        org=row.org,
        team=row.team,
        key_id=row.key_id,
        user=row.end_user,
        session=row.session,
        tags=msgspec.json.decode(row.tags, type=dict[str, str]),
        endpoint=row.endpoint,
        stream=bool(row.stream),
        model_asked=row.model_asked,
        model_served=row.model_served,
        deployment=row.deployment,
        provider=row.provider,
        outcome=row.outcome,
        status=row.status,
        error_code=row.error_code,
        finish_reason=row.finish_reason,
        attempts=row.attempts,
        causes=msgspec.json.decode(row.causes, type=tuple[str, ...]),
        cost_state=cost_state,
        effective_nusd=effective_nusd,
        list_nusd=list_nusd,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        ttft_us=row.ttft_us,
        duration_us=row.duration_us,
        overhead_us=row.overhead_us,
        config_revision=row.config_revision,
        trace_id=row.trace_id.hex(),
        corrected=bool(corrected),
    )
