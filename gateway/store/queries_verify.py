"""What `ledger verify` asks of SQL: the sums that must agree, and each journal's attempts as stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.charge import CostState
from gateway.store import months
from gateway.store.engine import reading
from gateway.store.ledger_rows import HOUR_MS, UNKNOWN_MODEL_CODE
from gateway.store.ledger_tables import ATTEMPT, CALL, DEAD_LETTER, JOURNAL_CURSOR, LEDGER_LINE, POSTING, ROLLUP_HOUR

DAY_MS = 24 * HOUR_MS
ROWS_AT_ONCE = 5_000
_FIGURES = ("calls", "attempts", "input_tokens", "output_tokens", "list_nusd", "effective_nusd", "estimated_nusd")


class SumMismatch(msgspec.Struct, frozen=True):
    """A group whose rollups differ from the rows they were made of: (rollup, rows) of each figure that does."""

    org: str
    team: str
    key_id: str
    model: str
    day_ms: int
    figures: dict[str, tuple[int, int]]


class StoredAttempt(msgspec.Struct, frozen=True):
    """An attempt of one journal as SQL has it. `ends` counts its postings as an attempt."""

    attempt_id: bytes
    seq: int
    ends: int
    outcome: str
    list_nusd: int | None
    effective_nusd: int | None
    input_tokens: int
    output_tokens: int


class StoredCounts(msgspec.Struct, frozen=True):
    """Counts over the whole ledger. `open_attempts` have no end yet; `unended_calls` no SETTLE."""

    calls: int
    attempts: int
    postings: int
    open_attempts: int
    unended_calls: int
    orphan_lines: int
    wrong_totals: int


class SqlLedgerProof:
    """Reads for verification. Slow by design: whole tables, one consistent view a question. Raises StoreUnavailable."""

    def __init__(self, engine: AsyncEngine, rows_at_once: int = ROWS_AT_ONCE) -> None:
        self._engine = engine
        self._rows_at_once = rows_at_once

    async def verify_sums(self) -> list[SumMismatch]:
        """Groups (org, team, key, model asked, UTC day) in which rollups are not the sums of calls and lines.

        Days of months whose rows have been detached are left out: their rollups stand alone.
        """
        group = ("org", "team", "key_id", "model", "day_ms")
        of_rollups = select(
            *(ROLLUP_HOUR.c[word].label(word) for word in group[:4]),
            _day(ROLLUP_HOUR.c.hour_ms).label("day_ms"),
            *(ROLLUP_HOUR.c[word].label(word) for word in _FIGURES),
            *(literal(0).label(f"{word}_rows") for word in _FIGURES),
        )
        both = union_all(of_rollups, _calls(), _postings()).subquery()
        sums = [func.sum(both.c[word]).label(word) for word in _FIGURES]
        rows = [func.sum(both.c[f"{word}_rows"]).label(f"{word}_rows") for word in _FIGURES]
        query = select(*(both.c[word] for word in group), *sums, *rows).group_by(*(both.c[word] for word in group))
        found: list[SumMismatch] = []
        async with reading(self._engine) as connection:
            kept_from_ms = await connection.run_sync(months.kept_from_ms)
            for row in await connection.execute(query.where(both.c.day_ms >= kept_from_ms)):
                figures = {
                    word: (int(row._mapping[word]), int(row._mapping[f"{word}_rows"]))
                    for word in _FIGURES
                    if row._mapping[word] != row._mapping[f"{word}_rows"]
                }
                if figures:
                    found.append(SumMismatch(row.org, row.team, row.key_id, row.model, int(row.day_ms), figures))
        return found

    async def counts(self) -> StoredCounts:
        ended = _is_end()
        open_attempts = (
            select(func.count()).select_from(ATTEMPT.outerjoin(POSTING, ended)).where(POSTING.c.attempt_id.is_(None))
        )
        orphans = (
            select(func.count())
            .select_from(LEDGER_LINE.outerjoin(POSTING, _same_posting(LEDGER_LINE.c)))
            .where(POSTING.c.attempt_id.is_(None))
        )
        lines = _line_sums().subquery()
        wrong = (
            select(func.count())
            .select_from(POSTING.outerjoin(lines, _same_posting(lines.c)))
            .where(
                POSTING.c.effective_nusd.is_not(None),
                (POSTING.c.effective_nusd != func.coalesce(lines.c.effective_nusd, 0))
                | (POSTING.c.list_nusd != func.coalesce(lines.c.list_nusd, 0)),
            )
        )
        queries = (
            select(func.count()).select_from(CALL),
            select(func.count()).select_from(ATTEMPT),
            select(func.count()).select_from(POSTING),
            open_attempts,
            select(func.count()).select_from(CALL).where(CALL.c.seq.is_(None)),
            orphans,
            wrong,
        )
        async with reading(self._engine) as connection:
            return StoredCounts(*[int((await connection.execute(query)).scalar_one()) for query in queries])

    async def kept_from_ms(self) -> int:
        """Since when rows are all there (0: ever): attempts and calls begun earlier may have been detached."""
        async with reading(self._engine) as connection:
            return await connection.run_sync(months.kept_from_ms)

    async def cursors(self) -> dict[bytes, int]:
        """The last seq of each journal in SQL."""
        async with reading(self._engine) as connection:
            rows = await connection.execute(select(JOURNAL_CURSOR.c.journal_id, JOURNAL_CURSOR.c.seq))
            return {row.journal_id: row.seq for row in rows}

    async def calls_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> int:
        """How many calls a journal settles between two seqs, both included; without those of detached months."""
        query = select(func.count()).where(CALL.c.journal_id == journal_id, CALL.c.seq.between(from_seq, through_seq))
        async with reading(self._engine) as connection:
            if kept_from_ms := await connection.run_sync(months.kept_from_ms):
                query = query.where(CALL.c.call_id >= months.first_id(kept_from_ms))
            return int((await connection.execute(query)).scalar_one())

    async def dead_letters(self) -> list[tuple[bytes, int, str, str]]:
        """(journal id, seq, reason, detail) of the first thousand."""
        query = select(DEAD_LETTER).order_by(DEAD_LETTER.c.journal_id, DEAD_LETTER.c.seq).limit(1_000)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query)
            return [(row.journal_id, row.seq, row.reason, row.detail) for row in rows]

    async def attempts_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> AsyncIterator[StoredAttempt]:
        """Every attempt held in a journal between two seqs, both included, with its end, in the order of their ids.

        Pages follow the primary key, so that the whole is one walk through it, however long the journal is.
        """
        after = b""
        while True:
            query = (
                select(
                    ATTEMPT.c.seq,
                    ATTEMPT.c.attempt_id,
                    POSTING.c.outcome,
                    *(POSTING.c[word] for word in ("list_nusd", "effective_nusd", "input_tokens", "output_tokens")),
                )
                .select_from(ATTEMPT.outerjoin(POSTING, _is_end()))
                .where(
                    ATTEMPT.c.attempt_id > after,
                    ATTEMPT.c.journal_id == journal_id,
                    ATTEMPT.c.seq.between(from_seq, through_seq),
                )
                .order_by(ATTEMPT.c.attempt_id)
                .limit(self._rows_at_once)
            )
            async with reading(self._engine) as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                after = row.attempt_id
                yield StoredAttempt(
                    attempt_id=row.attempt_id,
                    seq=row.seq,
                    ends=0 if row.outcome is None else 1,
                    outcome=row.outcome or "",
                    list_nusd=row.list_nusd,
                    effective_nusd=row.effective_nusd,
                    input_tokens=row.input_tokens or 0,
                    output_tokens=row.output_tokens or 0,
                )
            if len(rows) < self._rows_at_once:
                return


def _calls() -> Select[Any]:
    """Settled calls as rows of the comparison, grouped as their rollups are."""
    model = case((CALL.c.error_code == UNKNOWN_MODEL_CODE, ""), else_=CALL.c.model_asked)
    return select(
        CALL.c.org,
        CALL.c.team,
        CALL.c.key_id,
        model.label("model"),
        _day(CALL.c.started_ms).label("day_ms"),
        *_figures(),
        *_figures("_rows", calls=literal(1)),
    ).where(CALL.c.seq.is_not(None))


def _postings() -> Select[Any]:
    """Postings and their lines as rows of the comparison. Money is the lines' own, not the posting's total."""
    lines = _line_sums().subquery()
    priced = and_(POSTING.c.list_nusd.is_not(None), POSTING.c.effective_nusd.is_not(None))
    effective = case((priced, func.coalesce(lines.c.effective_nusd, 0)), else_=0)
    return select(
        ATTEMPT.c.org,
        ATTEMPT.c.team,
        ATTEMPT.c.key_id,
        ATTEMPT.c.model_asked.label("model"),
        _day(ATTEMPT.c.started_ms).label("day_ms"),
        *_figures(),
        *_figures(
            "_rows",
            attempts=case((POSTING.c.kind == "attempt", 1), else_=0),
            input_tokens=POSTING.c.input_tokens,
            output_tokens=POSTING.c.output_tokens,
            list_nusd=case((priced, func.coalesce(lines.c.list_nusd, 0)), else_=0),
            effective_nusd=effective,
            estimated_nusd=case((POSTING.c.state == CostState.ESTIMATED.value, effective), else_=0),
        ),
    ).select_from(
        POSTING.join(ATTEMPT, ATTEMPT.c.attempt_id == POSTING.c.attempt_id).outerjoin(lines, _same_posting(lines.c))
    )


def _figures(suffix: str = "", **given: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return [given.get(word, literal(0)).label(f"{word}{suffix}") for word in _FIGURES]


def _line_sums() -> Select[Any]:
    key = (LEDGER_LINE.c.attempt_id, LEDGER_LINE.c.kind, LEDGER_LINE.c.revision)
    return select(
        *key,
        func.sum(LEDGER_LINE.c.list_nusd).label("list_nusd"),
        func.sum(LEDGER_LINE.c.effective_nusd).label("effective_nusd"),
    ).group_by(*key)


def _day(column: ColumnElement[int]) -> ColumnElement[int]:
    return column - column % DAY_MS


def _is_end() -> ColumnElement[bool]:
    return and_(POSTING.c.attempt_id == ATTEMPT.c.attempt_id, POSTING.c.kind == "attempt", POSTING.c.revision == 0)


def _same_posting(columns: Any) -> ColumnElement[bool]:
    return and_(
        POSTING.c.attempt_id == columns.attempt_id,
        POSTING.c.kind == columns.kind,
        POSTING.c.revision == columns.revision,
    )
