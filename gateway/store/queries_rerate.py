"""core.corrections.RerateQueries over SQL: ended attempts by keyset, each with all its postings say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.charge import CostState
from gateway.core.corrections import CorrectionRun, PostedAttempt, PostedPage, Span
from gateway.core.errors import StoreUnavailable
from gateway.core.queries import QueryScope
from gateway.store.engine import reading
from gateway.store.in_force import Stored, all_of, in_force, lines_by_revision, standing_lines
from gateway.store.ledger_statements import CORRECTED_SINCE, schema_revision
from gateway.store.ledger_tables import ATTEMPT, CALL, CORRECTION, LEDGER_LINE, PERIOD, POSTING
from gateway.store.months import first_id

DAY_MS = 86_400_000
MOST_ROWS = 1_000


class SqlRerateQueries:
    """One instance may be used by many tasks at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(self, scope: QueryScope, span: Span, after: bytes, limit: int) -> PostedPage:
        """See the port. A page costs one walk along the key and three reads by key, however large the ledger is."""
        limit = max(1, min(limit, MOST_ROWS))
        table = ATTEMPT.c
        first, last = first_id(span.from_ms - DAY_MS), first_id(span.to_ms + DAY_MS)
        query = (
            select(ATTEMPT)
            .where(table.attempt_id > after, table.attempt_id >= first, table.attempt_id < last)
            .order_by(table.attempt_id)
            .limit(limit)
        )
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                raise StoreUnavailable("SQL has no place for corrections; run: faregate db upgrade")
            looked_at = (await connection.execute(query)).all()
            wanted = [row for row in looked_at if _is_wanted(row, scope, span)]
            attempts = await _posted(connection, wanted) if wanted else []
        return PostedPage(tuple(attempts), looked_at[-1].attempt_id if len(looked_at) == limit else None)

    async def runs(self, scope: QueryScope, limit: int = 100) -> list[CorrectionRun]:
        """See the port."""
        query = select(CORRECTION).where(CORRECTION.c.org == scope.org).order_by(CORRECTION.c.first_ms.desc())
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                return []
            rows = (await connection.execute(query.limit(max(1, min(limit, MOST_ROWS))))).all()
        return [_run(row) for row in rows]

    async def run(self, org: str, correction_id: bytes) -> CorrectionRun | None:
        """See the port."""
        query = select(CORRECTION).where(CORRECTION.c.correction_id == correction_id, CORRECTION.c.org == org)
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                return None
            row = (await connection.execute(query)).first()
        return None if row is None else _run(row)

    async def closed_until(self, org: str) -> int:
        """See the port."""
        query = select(func.coalesce(func.max(PERIOD.c.end_ms), 0)).where(PERIOD.c.org == org)
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                return 0
            return int((await connection.execute(query)).scalar_one())


def _run(row: Row[Any]) -> CorrectionRun:
    return CorrectionRun(**{word: getattr(row, word) for word in CorrectionRun.__struct_fields__})


class _Told(msgspec.Struct):
    """What a usage tells beside its quantities: Perplexity's name for how much was searched."""

    search_context_size: str = ""


_TOLD = msgspec.json.Decoder(_Told)


def _search_size(raw_usage: bytes) -> str:
    try:
        return _TOLD.decode(raw_usage).search_context_size if raw_usage else ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""  # it is kept as it came, whatever it was


def _is_wanted(row: Row[Any], scope: QueryScope, span: Span) -> bool:
    """Here and not in SQL: a filter there would walk over any number of others within one statement."""
    return bool(
        row.org == scope.org
        and (scope.team is None or row.team == scope.team)
        and (scope.key_id is None or row.key_id == scope.key_id)
        and span.from_ms <= row.started_ms < span.to_ms
        and (not span.model or span.model in (row.model_asked, row.model, row.deployment))
    )


async def _posted(connection: AsyncConnection, held: Sequence[Row[Any]]) -> list[PostedAttempt]:
    ids = [row.attempt_id for row in held]
    postings: dict[bytes, list[Stored]] = {}
    for row in await connection.execute(all_of(POSTING, POSTING.c.attempt_id.in_(ids))):
        postings.setdefault(row.attempt_id, []).append(row._mapping)
    lines: dict[bytes, list[Stored]] = {}
    for row in await connection.execute(all_of(LEDGER_LINE, LEDGER_LINE.c.attempt_id.in_(ids))):
        lines.setdefault(row.attempt_id, []).append(row._mapping)
    found = []
    unpriced: list[Row[Any]] = []
    for row in held:
        its = postings.get(row.attempt_id, [])
        end = next((one for one in its if one["kind"] == "attempt" and not one["revision"]), None)
        if end is None or end["outcome"] == "void":
            continue
        cost = in_force(its)
        if cost.state == CostState.UNPRICED:
            unpriced.append(row)
        found.append(
            PostedAttempt(
                attempt_id=row.attempt_id,
                call_id=row.call_id,
                held_ms=row.held_ms,
                started_ms=row.started_ms,
                org=row.org,
                team=row.team,
                key_id=row.key_id,
                provider=row.provider,
                deployment=row.deployment,
                config_revision=row.config_revision,
                model=row.model,
                model_asked=row.model_asked,
                revision=cost.revision,
                state=cost.state,
                source=cost.source,
                list_nusd=cost.list_nusd,
                effective_nusd=cost.effective_nusd,
                billed_nusd=cost.billed_nusd,
                lines=standing_lines(lines_by_revision(lines.get(row.attempt_id, [])), cost.revision),
                takes=cost.takes,
                takes_known=end.get("takes") is not None,
                served_tier=end["served_tier"],
                region=end.get("region") or "",
                reasoning_tokens=end["reasoning_tokens"],
                model_served=end["model_served"],
                search_size=_search_size(end["raw_usage"]),
            )
        )
    return await _with_calls(connection, found, unpriced) if unpriced else found


async def _with_calls(
    connection: AsyncConnection, attempts: list[PostedAttempt], unpriced: Sequence[Row[Any]]
) -> list[PostedAttempt]:
    """What of the same calls has no price: only when all of it has one, the call has."""
    calls = sorted({row.call_id for row in unpriced})
    near = _near(POSTING.c.attempt_id, unpriced)
    states: dict[bytes, dict[bytes, tuple[int, str]]] = {}
    for row in await connection.execute(
        select(POSTING.c.call_id, POSTING.c.attempt_id, POSTING.c.revision, POSTING.c.state)
        .where(POSTING.c.call_id.in_(calls), *near)
        .order_by(POSTING.c.revision)
    ):
        states.setdefault(row.call_id, {})[row.attempt_id] = (row.revision, row.state)
    settled = select(CALL.c.call_id).where(
        CALL.c.call_id.in_(calls), CALL.c.cost_state == CostState.UNPRICED.value, *_near(CALL.c.call_id, unpriced)
    )
    without = {row.call_id for row in await connection.execute(settled)}
    return [
        attempt
        if attempt.state != CostState.UNPRICED
        else _of_call(attempt, states.get(attempt.call_id, {}), attempt.call_id in without)
        for attempt in attempts
    ]


def _of_call(attempt: PostedAttempt, states: dict[bytes, tuple[int, str]], call_unpriced: bool) -> PostedAttempt:
    others = tuple(
        other for other, (_, state) in states.items() if other != attempt.attempt_id and state == CostState.UNPRICED
    )
    return msgspec.structs.replace(attempt, unpriced_others=others, call_unpriced=call_unpriced)


def _near(column: ColumnElement[bytes], rows: Sequence[Row[Any]]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """A day around what is asked for, so that PostgreSQL opens only its months."""
    times = [row.started_ms for row in rows]
    return column >= first_id(min(times) - DAY_MS), column < first_id(max(times) + 2 * DAY_MS)
