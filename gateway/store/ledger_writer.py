"""Journal entries into SQL, each exactly once.

A batch is one transaction: rows, rollups from the rows really inserted, and the journal's cursor. Whatever happens
between two batches, the cursor says precisely what is stored. It is also the lock: a second loader waits for it and
then finds nothing left to do.

Delivery identity `(journal_id, seq)` repeated is a repetition and is skipped. Accounting identity repeated under
another delivery identity is an alarm: the record goes to `dead_letter`, and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.errors import FaregateError
from gateway.core.records import TYPE_OF, AttemptEnd, Entry, Hold, Settle, Stat, Void, encode_record
from gateway.store.engine import insert_into, reading, writing
from gateway.store.ledger_bulk import DO_NOTHING, BulkInsert, add_up, fill_in
from gateway.store.ledger_rows import (
    MOST_BIG,
    Dimensions,
    Row,
    Sums,
    attempt_dimensions,
    attempt_row,
    call_row,
    clean,
    hour_of,
    line_rows,
    name,
    posting_row,
    running_row,
    total_fault,
    void_row,
)
from gateway.store.ledger_tables import (
    ATTEMPT,
    CALL,
    DEAD_LETTER,
    JOURNAL_CURSOR,
    LEDGER_LINE,
    POSTING,
    REFUSAL_STAT,
    ROLLUP_HOUR,
)

_CALL_KEY = ("call_id",)
_ATTEMPT_KEY = ("attempt_id",)
_POSTING_KEY = ("attempt_id", "kind", "revision")
_INSERT_HOLDS = BulkInsert(ATTEMPT, DO_NOTHING, _ATTEMPT_KEY)
_INSERT_POSTINGS = BulkInsert(POSTING, DO_NOTHING, _POSTING_KEY)
_INSERT_LINES = BulkInsert(LEDGER_LINE)
_INSERT_RUNNING = BulkInsert(CALL, DO_NOTHING)
_INSERT_ENDED = BulkInsert(CALL, fill_in(CALL, while_null="seq"), _CALL_KEY)
_ADD_ROLLUPS = BulkInsert(ROLLUP_HOUR, add_up(ROLLUP_HOUR))
_ADD_REFUSALS = BulkInsert(REFUSAL_STAT, add_up(REFUSAL_STAT))
_DIMENSIONS = [ATTEMPT.c[word] for word in ("attempt_id", "started_ms", "org", "team", "key_id", "endpoint")] + [
    ATTEMPT.c[word] for word in ("model_asked", "provider", "deployment")
]


class Cursor(msgspec.Struct, frozen=True):
    """How far a journal is in SQL: up to `seq`, which ends at `offset` of `segment`."""

    seq: int
    segment: int
    offset: int
    newest_ms: int


class Loaded(msgspec.Struct, frozen=True):
    """What a batch did: entries newly stored, of them calls ended and attempts ended; entries already there before;
    dead letters written."""

    stored: int = 0
    calls: int = 0
    postings: int = 0
    repeated: int = 0
    dead_letters: int = 0

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(
            self.stored + other.stored,
            self.calls + other.calls,
            self.postings + other.postings,
            self.repeated + other.repeated,
            self.dead_letters + other.dead_letters,
        )


class LedgerWriter:
    """Loads batches. One engine may serve several writers: they exclude each other per journal."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def cursors(self) -> dict[bytes, Cursor]:
        """Where each journal known to SQL is to be read on. Raises StoreUnavailable."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(JOURNAL_CURSOR))).all()
        return {row.journal_id: Cursor(row.seq, row.segment, row.offset, row.newest_ms) for row in rows}

    async def load(self, batch: Sequence[Entry]) -> Loaded:
        """Stores a batch, entries of a journal in their order, without gaps after its cursor.

        Raises StoreUnavailable; the batch is then to be loaded again, whatever became of the commit. Never raises for a
        record SQL cannot hold: halving finds it and it becomes a dead letter, the others are stored.
        """
        if not batch:
            return Loaded()
        try:
            return await self._store(batch)
        except FaregateError:
            raise
        except Exception as error:  # noqa: BLE001 - SQL away is StoreUnavailable; whatever else a record does to us
            if len(batch) == 1:
                return await self._bury(batch[0], error)
        middle = len(batch) // 2
        return await self.load(batch[:middle]) + await self.load(batch[middle:])

    async def _store(self, batch: Sequence[Entry]) -> Loaded:
        async with writing(self._engine) as connection:
            posting = _Batch(connection)
            fresh = await _take_cursors(connection, batch)
            await posting.store(fresh)
            await _move_cursors(connection, fresh)
        return Loaded(
            stored=len(fresh) - posting.repeated - posting.refused,
            calls=posting.calls,
            postings=posting.postings,
            repeated=len(batch) - len(fresh) + posting.repeated,
            dead_letters=len(posting.dead),
        )

    async def _bury(self, entry: Entry, error: BaseException) -> Loaded:
        """One record that SQL refuses: kept as bytes, and the journal goes on."""
        reason = f"{type(getattr(error, 'orig', None) or error).__name__}: {getattr(error, 'orig', None) or error}"
        async with writing(self._engine) as connection:
            fresh = await _take_cursors(connection, [entry])
            if not fresh:
                return Loaded(repeated=1)
            await _write_dead(connection, [_dead_row(entry, "unstorable", reason[:500])])
            await _move_cursors(connection, fresh)
        return Loaded(dead_letters=1)


class _Batch:
    """One transaction's work on fresh entries."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._sums = Sums()
        self.dead: dict[tuple[bytes, int], Row] = {}
        self.repeated = 0
        self.refused = 0
        self.calls = 0
        self.postings = 0

    async def store(self, entries: Sequence[Entry]) -> None:
        holds: list[tuple[Entry, Hold]] = []
        settles: list[tuple[Entry, Settle]] = []
        ends: list[tuple[Entry, AttemptEnd | Void]] = []
        stats: list[Stat] = []
        for entry in entries:
            match entry.record:
                case Hold() as hold:
                    holds.append((entry, hold))
                case Settle() as settle:
                    settles.append((entry, settle))
                case (AttemptEnd() | Void()) as end:
                    ends.append((entry, end))
                case Stat() as stat:
                    stats.append(stat)
                case _:
                    pass  # SHRINK, DISPATCH, PROGRESS, CORRECT and HANDOVER move counters, not the ledger
        dimensions = await self._store_holds(holds, {entry.call_id for entry, _ in settles})
        await self._store_ends(ends, dimensions)
        await self._store_settles(settles)
        await _ADD_ROLLUPS.run(self._connection, self._sums.rows())
        await _ADD_REFUSALS.run(self._connection, _stat_rows(stats))
        await _write_dead(self._connection, list(self.dead.values()))

    async def _store_holds(self, holds: list[tuple[Entry, Hold]], settled: set[bytes]) -> dict[bytes, Dimensions]:
        """Inserts attempts, and a running call where its end is not at hand. Dimensions of the inserted attempts."""
        rows = {hold.attempt_id: attempt_row(entry, hold) for entry, hold in reversed(holds)}
        inserted = await _INSERT_HOLDS.run(self._connection, list(rows.values()))
        if len(inserted) < len(holds):
            keyed = [(entry, (hold.attempt_id,)) for entry, hold in holds]
            await self._judge(keyed, inserted, ATTEMPT, _ATTEMPT_KEY, "hold_twice")
        running = {
            entry.call_id: running_row(entry, hold) for entry, hold in reversed(holds) if entry.call_id not in settled
        }
        await _INSERT_RUNNING.run(self._connection, list(running.values()))
        return {key[0]: attempt_dimensions(rows[key[0]]) for key in inserted}

    async def _store_ends(
        self, ends: list[tuple[Entry, AttemptEnd | Void]], dimensions: dict[bytes, Dimensions]
    ) -> None:
        dimensions.update(await self._stored_dimensions({end.attempt_id for _, end in ends} - dimensions.keys()))
        rows: dict[tuple[Any, ...], Row] = {}
        lines: dict[tuple[Any, ...], list[Row]] = {}
        known: list[tuple[Entry, AttemptEnd | Void]] = []
        for entry, end in ends:
            if end.attempt_id not in dimensions:
                self._bury(entry, "hold_unknown", "its HOLD is not in SQL, so nobody knows whose money it is")
                continue
            known.append((entry, end))
            key = _posting_key(end)
            if key not in rows:
                row = posting_row(entry, end) if isinstance(end, AttemptEnd) else void_row(entry, end)
                rows[key] = row
                lines[key] = line_rows(row, end.lines) if isinstance(end, AttemptEnd) else []
        inserted = await _INSERT_POSTINGS.run(self._connection, list(rows.values()))
        if len(inserted) < len(known):
            keyed = [(entry, _posting_key(end)) for entry, end in known]
            await self._judge(keyed, inserted, POSTING, _POSTING_KEY, "attempt_ended_twice")
        await _INSERT_LINES.run(self._connection, [line for key in inserted for line in lines[key]])
        for key in inserted:
            self._sums.add_posting(rows[key], dimensions[key[0]])
        self.postings += len(inserted)
        for entry, end in known:
            fault = total_fault(end) if isinstance(end, AttemptEnd) else ""
            if fault and _posting_key(end) in inserted:
                self._bury(entry, "sum_mismatch", fault, stored=True)

    async def _store_settles(self, settles: list[tuple[Entry, Settle]]) -> None:
        rows = {entry.call_id: call_row(entry, settle) for entry, settle in reversed(settles)}
        ended = await _INSERT_ENDED.run(self._connection, list(rows.values()))
        if len(ended) < len(settles):
            keyed = [(entry, (entry.call_id,)) for entry, _ in settles]
            await self._judge(keyed, ended, CALL, _CALL_KEY, "call_settled_twice")
        for (call_id,) in ended:
            self._sums.add_call(rows[call_id])
        self.calls += len(ended)

    async def _judge(
        self,
        keyed: Sequence[tuple[Entry, tuple[Any, ...]]],
        inserted: set[tuple[Any, ...]],
        table: Table,
        key: tuple[str, ...],
        reason: str,
    ) -> None:
        """Tells repetitions (the stored row is this very entry) from clashes (it is another one), which are alarms."""
        columns = [table.c[word] for word in key]
        found = await self._connection.execute(
            select(*columns, table.c.journal_id, table.c.seq).where(tuple_(*columns).in_(sorted(k for _, k in keyed)))
        )
        stored = {tuple(row[: len(key)]): (row.journal_id, row.seq) for row in found}
        for entry, identity in keyed:
            holder = stored.get(identity)
            if holder == (entry.journal_id, entry.seq):
                self.repeated += identity not in inserted
            elif holder is None or holder[1] is None:
                self._bury(entry, "delivery_clash", "another record is stored under this journal and number")
            else:
                self._bury(entry, reason, f"stored already as number {holder[1]} of journal {holder[0].hex()}")

    async def _stored_dimensions(self, attempt_ids: set[bytes]) -> dict[bytes, Dimensions]:
        if not attempt_ids:
            return {}
        found = await self._connection.execute(
            select(*_DIMENSIONS).where(ATTEMPT.c.attempt_id.in_(sorted(attempt_ids)))
        )
        return {row.attempt_id: attempt_dimensions(dict(row._mapping)) for row in found}

    def _bury(self, entry: Entry, reason: str, detail: str, *, stored: bool = False) -> None:
        self.refused += not stored
        self.dead.setdefault((entry.journal_id, entry.seq), _dead_row(entry, reason, detail))


def _posting_key(end: AttemptEnd | Void) -> tuple[bytes, str, int]:
    return (
        (end.attempt_id, clean(end.kind), end.revision)
        if isinstance(end, AttemptEnd)
        else (
            end.attempt_id,
            "attempt",
            0,
        )
    )


def _stat_rows(stats: Iterable[Stat]) -> list[Row]:
    counts: dict[tuple[int, str], int] = {}
    for stat in stats:
        for code, count in stat.counts.items():
            key = (hour_of(stat.ts_ms), name(code))
            counts[key] = counts.get(key, 0) + count
    return [{"hour_ms": hour, "code": code, "count": count} for (hour, code), count in sorted(counts.items())]


def _dead_row(entry: Entry, reason: str, detail: str) -> Row:
    return {
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "call_id": entry.call_id,
        "record_type": int(TYPE_OF[type(entry.record)]),
        "reason": reason,
        "detail": clean(detail),
        "payload": encode_record(entry.record),
        "recorded_ms": _within(entry.record.ts_ms),
    }


def _within(number: int) -> int:
    """A number as BIGINT holds it: a record may be bad in any of its fields."""
    return max(-MOST_BIG, min(MOST_BIG, number))


async def _write_dead(connection: AsyncConnection, rows: list[Row]) -> None:
    if rows:
        await connection.execute(insert_into(connection, DEAD_LETTER).on_conflict_do_nothing(), rows)


async def _take_cursors(connection: AsyncConnection, batch: Sequence[Entry]) -> list[Entry]:
    """Locks the batch's journals and returns the entries that are not stored yet, each once."""
    ids = sorted({entry.journal_id for entry in batch})
    locked = select(JOURNAL_CURSOR.c.journal_id, JOURNAL_CURSOR.c.seq)
    locked = locked.where(JOURNAL_CURSOR.c.journal_id.in_(ids)).order_by(JOURNAL_CURSOR.c.journal_id).with_for_update()
    stored = {row.journal_id: row.seq for row in await connection.execute(locked)}
    missing = [journal_id for journal_id in ids if journal_id not in stored]
    if missing:
        rows = [{"journal_id": one, "seq": -1, "segment": 0, "offset": 0, "newest_ms": 0} for one in missing]
        await connection.execute(insert_into(connection, JOURNAL_CURSOR).on_conflict_do_nothing(), rows)
        stored = {row.journal_id: row.seq for row in await connection.execute(locked)}
    fresh: list[Entry] = []
    for entry in batch:
        if entry.seq > stored[entry.journal_id]:
            fresh.append(entry)
            stored[entry.journal_id] = entry.seq
    return fresh


async def _move_cursors(connection: AsyncConnection, fresh: Sequence[Entry]) -> None:
    newest: dict[bytes, int] = {}
    last: dict[bytes, Entry] = {}
    for entry in fresh:
        newest[entry.journal_id] = max(newest.get(entry.journal_id, 0), _within(entry.record.ts_ms))
        last[entry.journal_id] = entry
    for journal_id, entry in sorted(last.items()):
        await connection.execute(
            update(JOURNAL_CURSOR)
            .where(JOURNAL_CURSOR.c.journal_id == journal_id)
            .values(seq=entry.seq, segment=entry.segment, offset=entry.end, newest_ms=newest[journal_id])
        )
