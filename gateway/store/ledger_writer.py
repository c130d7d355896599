"""Journal entries into SQL, each exactly once.

A batch is one transaction: rows, rollups from the rows really inserted, and the journal's cursor. Whatever happens
between two batches, the cursor says precisely what is stored. It is also the lock: a second loader waits for it and
then finds nothing left to do.

The database may be older than what was written to it: a backup was restored, or a replica that had not everything took
over. Its cursors then are older, too; the writer notices that they went back, and the loader reads on from there.

Delivery identity `(journal_id, seq)` repeated is a repetition and is skipped. Accounting identity repeated under
another delivery identity is an alarm: the record goes to `dead_letter`, and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.errors import FaregateError, StoreUnavailable
from gateway.core.records import Entry, Hold, Settle
from gateway.store.closed_months import closed_until
from gateway.store.engine import insert_into, reading, writing
from gateway.store.ledger_careful import CarefulBatch, write_dead
from gateway.store.ledger_reads import stored_corrections
from gateway.store.ledger_sorting import dead_row, within
from gateway.store.ledger_statements import CORRECTED_SINCE, GROUPED_SINCE, Statements, schema_revision
from gateway.store.ledger_straight import store_straight
from gateway.store.ledger_tables import JOURNAL_CURSOR
from gateway.store.ledger_values import NO_GROUPING, Grouping, ValuePlaces
from gateway.store.month_keeper import MonthKeeper

REMEMBERED_JOURNALS = 500


class Cursor(msgspec.Struct, frozen=True):
    """How far a journal is in SQL: up to `seq`, which ends at `offset` of `segment`."""

    seq: int
    segment: int
    offset: int
    newest_ms: int


class Loaded(msgspec.Struct, frozen=True):
    """What a batch did: entries newly stored, of them calls ended and attempts ended; entries already there before;
    dead letters written. `rewound`: nothing was done, the cursors have gone back and are to be read again."""

    stored: int = 0
    calls: int = 0
    postings: int = 0
    repeated: int = 0
    dead_letters: int = 0
    rewound: bool = False

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(
            self.stored + other.stored,
            self.calls + other.calls,
            self.postings + other.postings,
            self.repeated + other.repeated,
            self.dead_letters + other.dead_letters,
            self.rewound or other.rewound,
        )


class _Rewound(Exception):
    """A cursor is before where this writer has put it."""


class LedgerWriter:
    """Loads batches. One engine may serve several writers: they exclude each other per journal. `values` bounds the
    sums by user, session and tag."""

    def __init__(self, engine: AsyncEngine, values: ValuePlaces | None = None) -> None:
        self._engine = engine
        self._statements: Statements | None = None
        self._months = MonthKeeper(engine)
        self._values = ValuePlaces() if values is None else values
        self._reached: dict[bytes, int] = {}
        """The last seq of each journal that this writer has stored, of the latest REMEMBERED_JOURNALS."""

    async def cursors(self) -> dict[bytes, Cursor]:
        """Where each journal known to SQL is to be read on. Raises StoreUnavailable."""
        async with reading(self._engine) as connection:
            rows = (await connection.execute(select(JOURNAL_CURSOR))).all()
        self._reached.clear()
        return {row.journal_id: Cursor(row.seq, row.segment, row.offset, row.newest_ms) for row in rows}

    async def reached(self, journal_ids: Sequence[bytes]) -> dict[bytes, int]:
        """The last seq in SQL of each of these journals that it knows. Raises StoreUnavailable."""
        table = JOURNAL_CURSOR.c
        query = select(table.journal_id, table.seq).where(table.journal_id.in_(journal_ids))
        async with reading(self._engine) as connection:
            return {row.journal_id: row.seq for row in await connection.execute(query)}

    async def corrected(self, attempt_ids: Sequence[bytes]) -> dict[tuple[bytes, str], tuple[int, bytes]]:
        """The last revision and its run, by attempt and kind, of those attempts that were corrected. Raises
        StoreUnavailable, also where the schema has no place for corrections."""
        async with reading(self._engine) as connection:
            if await schema_revision(connection) < CORRECTED_SINCE:
                raise StoreUnavailable("SQL has no place for corrections; run: faregate db upgrade")
            return await stored_corrections(connection, attempt_ids)

    async def load(self, batch: Sequence[Entry], tags: Collection[str] = ()) -> Loaded:
        """Stores a batch, entries of a journal in their order, without gaps after its cursor. `tags` are those that
        sums are kept of: the calls of this batch are summed by them.

        Raises StoreUnavailable; the batch is then to be loaded again, whatever became of the commit. Never raises for a
        record SQL cannot hold: halving finds it and it becomes a dead letter, the others are stored.
        """
        if not batch:
            return Loaded()
        try:
            loaded = await self._load(batch, tags)
        except _Rewound:
            self._values.forget()
            return Loaded(rewound=True)
        except StoreUnavailable:
            self._statements = None  # whoever comes back may have another schema
            self._values.forget()
            raise
        for journal_id, seq in {entry.journal_id: entry.seq for entry in batch}.items():
            self._reached.pop(journal_id, None)
            self._reached[journal_id] = seq
        while len(self._reached) > REMEMBERED_JOURNALS:
            del self._reached[next(iter(self._reached))]
        await self._months.keep()
        return loaded

    async def _load(self, batch: Sequence[Entry], tags: Collection[str]) -> Loaded:
        for store in (self._store, self._store_carefully):
            try:
                return await store(batch, tags)
            except (FaregateError, _Rewound):
                raise
            except Exception as error:  # noqa: BLE001 - SQL away is StoreUnavailable; whatever else a record does to us
                fault = error
                self._values.forget()
        if len(batch) == 1:
            return await self._bury(batch[0], fault)
        middle = len(batch) // 2
        return await self._load(batch[:middle], tags) + await self._load(batch[middle:], tags)

    async def _store(self, batch: Sequence[Entry], tags: Collection[str]) -> Loaded:
        async with writing(self._engine) as connection:
            fresh = await self._take_cursors(connection, batch)
            statements = await self._prepared(connection)
            closed = await closed_until(connection, statements)
            grouping = await self._grouping(connection, statements, fresh, tags)
            calls, postings = await store_straight(connection, statements, fresh, closed, grouping)
            await _move_cursors(connection, fresh)
        return Loaded(stored=len(fresh), calls=calls, postings=postings, repeated=len(batch) - len(fresh))

    async def _store_carefully(self, batch: Sequence[Entry], tags: Collection[str]) -> Loaded:
        async with writing(self._engine) as connection:
            fresh = await self._take_cursors(connection, batch)
            statements = await self._prepared(connection)
            closed = await closed_until(connection, statements)
            grouping = await self._grouping(connection, statements, fresh, tags)
            careful = CarefulBatch(connection, statements, closed, grouping)
            await careful.store(fresh)
            await _move_cursors(connection, fresh)
        return Loaded(
            stored=len(fresh) - careful.repeated - careful.refused,
            calls=careful.calls,
            postings=careful.postings,
            repeated=len(batch) - len(fresh) + careful.repeated,
            dead_letters=len(careful.dead),
        )

    async def _bury(self, entry: Entry, error: BaseException) -> Loaded:
        """One record that SQL refuses: kept as bytes, and the journal goes on."""
        reason = f"{type(getattr(error, 'orig', None) or error).__name__}: {getattr(error, 'orig', None) or error}"
        async with writing(self._engine) as connection:
            fresh = await self._take_cursors(connection, [entry])
            if not fresh:
                return Loaded(repeated=1)
            await write_dead(connection, [dead_row(entry, "unstorable", reason[:500])])
            await _move_cursors(connection, fresh)
        return Loaded(dead_letters=1)

    async def _grouping(
        self, connection: AsyncConnection, statements: Statements, fresh: Sequence[Entry], tags: Collection[str]
    ) -> Grouping:
        if statements.revision < GROUPED_SINCE:
            return NO_GROUPING
        begun = {entry.call_id for entry in fresh if type(entry.record) is Hold}
        # The end of a call that begins here is of the same owner, day and values.
        records = [
            entry.record
            for entry in fresh
            if isinstance(entry.record, Hold | Settle) and (type(entry.record) is Hold or entry.call_id not in begun)
        ]
        return await self._values.grouping(connection, records, tags)

    async def _take_cursors(self, connection: AsyncConnection, batch: Sequence[Entry]) -> list[Entry]:
        """Locks the batch's journals and returns the entries that are not stored yet, each once.

        Raises _Rewound when any journal is not as far as this writer has brought it.
        """
        ids = sorted({entry.journal_id for entry in batch})
        table = JOURNAL_CURSOR.c
        reached = dict(self._reached)  # as of before the question: another load may go further while it is answered
        locked = select(table.journal_id, table.seq).where(table.journal_id.in_(sorted({*ids, *reached})))
        locked = locked.order_by(table.journal_id).with_for_update()
        stored = {row.journal_id: row.seq for row in await connection.execute(locked)}
        if any(stored.get(journal_id, -1) < seq for journal_id, seq in reached.items()):
            raise _Rewound
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

    async def _prepared(self, connection: AsyncConnection) -> Statements:
        """For the schema as it is now: it may be migrated under a running bookkeeper, and one that did not see that
        would go on counting into closed months."""
        revision = await schema_revision(connection)
        if self._statements is None or self._statements.revision != revision:
            self._statements = Statements(revision)
        return self._statements


async def _move_cursors(connection: AsyncConnection, fresh: Sequence[Entry]) -> None:
    newest: dict[bytes, int] = {}
    last: dict[bytes, Entry] = {}
    for entry in fresh:
        newest[entry.journal_id] = max(newest.get(entry.journal_id, 0), within(entry.record.ts_ms))
        last[entry.journal_id] = entry
    for journal_id, entry in sorted(last.items()):
        await connection.execute(
            update(JOURNAL_CURSOR)
            .where(JOURNAL_CURSOR.c.journal_id == journal_id)
            .values(seq=entry.seq, segment=entry.segment, offset=entry.end, newest_ms=newest[journal_id])
        )
