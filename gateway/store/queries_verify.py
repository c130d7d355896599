"""What `ledger verify` asks of SQL: the sums that must agree, and each journal's attempts as stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.ledger.posted import Posting
from gateway.store import months
from gateway.store.engine import reading
from gateway.store.in_force import Stored, all_of, billed_of, line_of
from gateway.store.ledger_rows import unpacked_takes
from gateway.store.ledger_statements import CORRECTED_SINCE, schema_revision
from gateway.store.ledger_tables import ATTEMPT, CALL, DEAD_LETTER, JOURNAL_CURSOR, LEDGER_LINE, POSTING, ROLLUP_HOUR
from gateway.store.period_store import changed_months
from gateway.store.verify_rows import Rows, call_rows, day, line_sums, posting_rows, same_posting
from gateway.store.verify_values import ValueMismatch, verify_values

ROWS_AT_ONCE = 5_000
IDS_AT_ONCE = 1_000
_GROUP = ("org", "team", "key_id", "model", "day_ms")
_FIGURES = (
    "calls",
    "errors",
    "unpriced_calls",
    "attempts",
    "input_tokens",
    "output_tokens",
    "list_nusd",
    "effective_nusd",
    "estimated_nusd",
)
_FIGURES_3 = (*_FIGURES, "margin_nusd", "prior_list_nusd", "prior_effective_nusd", "prior_margin_nusd")


class SumMismatch(msgspec.Struct, frozen=True):
    """A group whose rollups differ from the rows they were made of: (rollup, rows) of each figure that does."""

    org: str
    team: str
    key_id: str
    model: str
    day_ms: int
    figures: dict[str, tuple[int, int]]


class StoredAttempt(msgspec.Struct, frozen=True):
    """An attempt of one journal as SQL has it, and how it ended (None: it has not)."""

    attempt_id: bytes
    seq: int
    end: Posting | None


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
        found: list[SumMismatch] = []
        async with reading(self._engine) as connection:
            newest = await schema_revision(connection) >= CORRECTED_SINCE
            figures = _FIGURES_3 if newest else _FIGURES
            of_rollups = select(
                *(ROLLUP_HOUR.c[word].label(word) for word in _GROUP[:4]),
                day(ROLLUP_HOUR.c.hour_ms).label("day_ms"),
                *(ROLLUP_HOUR.c[word].label(word) for word in figures),
                *(literal(0).label(f"{word}_rows") for word in figures),
            )
            both = union_all(
                of_rollups, _again(call_rows(newest), figures), _again(posting_rows(newest), figures)
            ).subquery()
            sums = [func.sum(both.c[word]).label(word) for word in figures]
            rows = [func.sum(both.c[f"{word}_rows"]).label(f"{word}_rows") for word in figures]
            query = select(*(both.c[word] for word in _GROUP), *sums, *rows).group_by(
                *(both.c[word] for word in _GROUP)
            )
            kept_from_ms = await connection.run_sync(months.kept_from_ms)
            for row in await connection.execute(query.where(both.c.day_ms >= kept_from_ms)):
                wrong = {
                    word: (int(row._mapping[word]), int(row._mapping[f"{word}_rows"]))
                    for word in figures
                    if row._mapping[word] != row._mapping[f"{word}_rows"]
                }
                if wrong:
                    found.append(SumMismatch(row.org, row.team, row.key_id, row.model, int(row.day_ms), wrong))
        return found

    async def verify_values(self) -> Sequence[ValueMismatch]:
        """Sums by user, session and tag that are not those of the calls and lines that are summed by them."""
        async with reading(self._engine) as connection:
            return await verify_values(connection)

    async def counts(self) -> StoredCounts:
        async with reading(self._engine) as connection:
            newest = await schema_revision(connection) >= CORRECTED_SINCE
            queries = _counted(newest)
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

    async def changed_months(self) -> list[str]:
        """Closed months that are not what they were when they were closed, and how."""
        async with reading(self._engine) as connection:
            return await changed_months(connection)

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
                select(ATTEMPT.c.seq, ATTEMPT.c.attempt_id)
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
                ends = await _ends_of(connection, [row.attempt_id for row in rows])
            for row in rows:
                after = row.attempt_id
                yield StoredAttempt(row.attempt_id, row.seq, ends.get(row.attempt_id))
            if len(rows) < self._rows_at_once:
                return

    async def corrections_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> AsyncIterator[Posting]:
        """Every correction in a journal between two seqs, both included, in their order."""
        after = from_seq - 1
        while True:
            query = (
                all_of(POSTING, POSTING.c.journal_id == journal_id, POSTING.c.kind != "attempt")
                .where(POSTING.c.seq > after, POSTING.c.seq <= through_seq)
                .order_by(POSTING.c.seq)
                .limit(self._rows_at_once)
            )
            async with reading(self._engine) as connection:
                postings = [row._mapping for row in await connection.execute(query)]
                lines = await _lines_of(connection, postings)
            for row in postings:
                after = int(row["seq"])
                yield _posting(row, lines)
            if len(postings) < self._rows_at_once:
                return


Lines = dict[tuple[bytes, str, int], list[Stored]]


async def _ends_of(connection: AsyncConnection, attempt_ids: Sequence[bytes]) -> dict[bytes, Posting]:
    """How attempts ended, of those that have. In parts: SQLite takes so many parameters and no more."""
    found: dict[bytes, Posting] = {}
    for start in range(0, len(attempt_ids), IDS_AT_ONCE):
        ids = attempt_ids[start : start + IDS_AT_ONCE]
        asked = all_of(POSTING, POSTING.c.attempt_id.in_(ids), POSTING.c.kind == "attempt", POSTING.c.revision == 0)
        postings = [row._mapping for row in await connection.execute(asked)]
        lines = await _lines_of(connection, postings)
        found |= {row["attempt_id"]: _posting(row, lines) for row in postings}
    return found


async def _lines_of(connection: AsyncConnection, postings: Sequence[Stored]) -> Lines:
    found: Lines = {}
    ids = sorted({row["attempt_id"] for row in postings})
    for start in range(0, len(ids), IDS_AT_ONCE):
        asked = all_of(LEDGER_LINE, LEDGER_LINE.c.attempt_id.in_(ids[start : start + IDS_AT_ONCE]))
        for row in await connection.execute(asked):
            found.setdefault((row.attempt_id, row.kind, row.revision), []).append(row._mapping)
    return found


def _posting(row: Stored, lines: Lines) -> Posting:
    unknown = row.get("unknown_usage")
    its = sorted(
        lines.get((row["attempt_id"], row["kind"], row["revision"]), ()), key=lambda line: int(line["line_no"])
    )
    priced = row["effective_nusd"] is not None
    return Posting(
        attempt_id=row["attempt_id"],
        kind=row["kind"],
        revision=row["revision"],
        outcome=row["outcome"],
        state=row["state"],
        source=row["source"],
        list_nusd=row["list_nusd"],
        effective_nusd=row["effective_nusd"],
        billed_nusd=billed_of(row) if priced else None,
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        served_tier=row["served_tier"],
        region=row.get("region") or "",
        unknown_usage=msgspec.json.decode(unknown, type=tuple[str, ...]) if unknown else (),
        takes=unpacked_takes(row.get("takes")),
        lines=tuple(map(line_of, its)),
        detailed=row.get("takes") is not None,
    )


def _counted(newest: bool) -> tuple[Select[Any], ...]:
    """The queries of StoredCounts' members, in their order."""
    lines = line_sums(newest).subquery()
    wrong = (POSTING.c.effective_nusd != func.coalesce(lines.c.effective_nusd, 0)) | (
        POSTING.c.list_nusd != func.coalesce(lines.c.list_nusd, 0)
    )
    if newest:
        billed = func.coalesce(POSTING.c.billed_nusd, POSTING.c.effective_nusd)
        wrong = wrong | (billed != func.coalesce(lines.c.billed_nusd, 0))
    posted_lines = LEDGER_LINE.outerjoin(POSTING, same_posting(LEDGER_LINE.c))
    return (
        select(func.count()).select_from(CALL),
        select(func.count()).select_from(ATTEMPT),
        select(func.count()).select_from(POSTING),
        select(func.count()).select_from(ATTEMPT.outerjoin(POSTING, _is_end())).where(POSTING.c.attempt_id.is_(None)),
        select(func.count()).select_from(CALL).where(CALL.c.seq.is_(None)),
        select(func.count()).select_from(posted_lines).where(POSTING.c.attempt_id.is_(None)),
        select(func.count())
        .select_from(POSTING.outerjoin(lines, same_posting(lines.c)))
        .where(POSTING.c.effective_nusd.is_not(None), wrong),
    )


def _again(rows: Rows, figures: Sequence[str]) -> Select[Any]:
    """Rows of the comparison, grouped as their rollups are."""
    return (
        select(
            *(rows.named[word].label(word) for word in _GROUP),
            *(literal(0).label(word) for word in figures),
            *(rows.figures.get(word, literal(0)).label(f"{word}_rows") for word in figures),
        )
        .select_from(rows.source)
        .where(*rows.conditions)
    )


def _is_end() -> ColumnElement[bool]:
    return and_(POSTING.c.attempt_id == ATTEMPT.c.attempt_id, POSTING.c.kind == "attempt", POSTING.c.revision == 0)
