"""A batch in which something is out of the ordinary: every row is asked after, and what is wrong becomes an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.records import Entry, Hold, Settle, Void
from gateway.store.engine import insert_into
from gateway.store.ledger_corrections import add_corrections
from gateway.store.ledger_reads import stored_owners
from gateway.store.ledger_rows import (
    LINE_DETAILS,
    POSTING_DETAILS,
    Row,
    attempt_row,
    call_row,
    running_row,
    total_fault,
)
from gateway.store.ledger_sorting import Identity, Posted, Sorted, dead_row, identity_of, rows_of, stat_rows
from gateway.store.ledger_statements import ATTEMPT_KEY, CALL_KEY, POSTING_KEY, Statements
from gateway.store.ledger_sums import NONE_CLOSED, Closed, Sums, Whose, whose
from gateway.store.ledger_tables import ATTEMPT, CALL, DEAD_LETTER, POSTING
from gateway.store.ledger_values import NO_GROUPING, Grouping

_NO_POSTING_DETAILS = dict.fromkeys(POSTING_DETAILS)
_NO_LINE_DETAILS = dict.fromkeys(LINE_DETAILS)


class CarefulBatch:
    """One transaction's work on fresh entries. The figures are those of what was really written."""

    def __init__(
        self,
        connection: AsyncConnection,
        statements: Statements,
        closed: Closed = NONE_CLOSED,
        grouping: Grouping = NO_GROUPING,
    ) -> None:
        self._connection = connection
        self._grouping = grouping
        self._statements = statements
        self._sums = Sums(closed)
        self.dead: dict[tuple[bytes, int], Row] = {}
        self.repeated = 0
        self.refused = 0
        self.calls = 0
        self.postings = 0

    async def store(self, entries: Sequence[Entry]) -> None:
        batch = Sorted(entries)
        owners = await self._store_holds(batch.holds, {entry.call_id for entry, _ in batch.settles})
        self.postings += len(await self._store_posted(batch.ends, owners, "attempt_ended_twice"))
        corrected = await self._store_posted(batch.corrections, owners, "corrected_twice")
        await add_corrections(
            self._connection,
            self._statements,
            [(entry, record) for entry, record in batch.corrections if identity_of(record) in corrected],
            list(corrected.values()),
            owners,
        )
        await self._store_settles(batch.settles)
        await self._statements.add_rollups.count(self._connection, self._sums.rows())
        await self._statements.add_values.count_tuples(self._connection, self._sums.value_rows())
        await self._statements.add_refusals.count(self._connection, stat_rows(batch.stats))
        await write_dead(self._connection, list(self.dead.values()))

    async def _store_holds(self, holds: list[tuple[Entry, Hold]], settled: set[bytes]) -> dict[bytes, Whose]:
        """Inserts attempts, and a running call where its end is not at hand. Whose the inserted attempts are."""
        rows = {hold.attempt_id: attempt_row(entry, hold) for entry, hold in reversed(holds)}
        for _, hold in reversed(holds):  # of two with one id the first is written
            rows[hold.attempt_id]["summed_by"] = self._grouping.summed_by(hold)
        inserted = await self._statements.insert_holds.run(self._connection, list(rows.values()))
        if len(inserted) < len(holds):
            keyed = [(entry, (hold.attempt_id,)) for entry, hold in holds]
            await self._judge(keyed, inserted, ATTEMPT, ATTEMPT_KEY, "hold_twice")
        running = {
            entry.call_id: running_row(entry, hold) for entry, hold in reversed(holds) if entry.call_id not in settled
        }
        await self._statements.insert_running.count(self._connection, list(running.values()))
        return {key[0]: whose(rows[key[0]]) for key in inserted}

    async def _store_posted(
        self, ends: list[tuple[Entry, Posted]], owners: dict[bytes, Whose], twice: str
    ) -> dict[Identity, Row]:
        """Inserts postings and their lines; those that were really written."""
        earlier = {end.attempt_id for _, end in ends} - owners.keys()
        owners.update(await stored_owners(self._connection, self._statements, earlier))
        rows: dict[Identity, Row] = {}
        lines: dict[Identity, list[Row]] = {}
        known: list[tuple[Entry, Posted]] = []
        for entry, end in ends:
            if end.attempt_id not in owners:
                self._bury(entry, "hold_unknown", "its HOLD is not in SQL, so nobody knows whose money it is")
                continue
            known.append((entry, end))
            key = identity_of(end)
            if key not in rows:
                row, its = rows_of(entry, end)
                rows[key] = {**_NO_POSTING_DETAILS, **row}
                lines[key] = [{**_NO_LINE_DETAILS, **line} for line in its]
                self._sums.place_posting(rows[key], owners[end.attempt_id])
        inserted: set[Any] = await self._statements.insert_postings.run(self._connection, list(rows.values()))
        if len(inserted) < len(known):
            keyed = [(entry, identity_of(end)) for entry, end in known]
            await self._judge(keyed, inserted, POSTING, POSTING_KEY, twice)
        await self._statements.insert_lines.count(self._connection, [line for key in inserted for line in lines[key]])
        for key in inserted:
            self._sums.add_posting(rows[key], owners[key[0]])
        for entry, end in known:
            fault = "" if isinstance(end, Void) else total_fault(end)
            if fault and identity_of(end) in inserted:
                self._bury(entry, "sum_mismatch", fault, stored=True)
        return {key: row for key, row in rows.items() if key in inserted}

    async def _store_settles(self, settles: list[tuple[Entry, Settle]]) -> None:
        rows = {entry.call_id: call_row(entry, settle) for entry, settle in reversed(settles)}
        for entry, settle in reversed(settles):
            rows[entry.call_id]["summed_by"] = self._grouping.summed_by(settle)
        for row in rows.values():
            self._sums.place_call(row)
        ended = await self._statements.insert_ended.run(self._connection, list(rows.values()))
        if len(ended) < len(settles):
            keyed = [(entry, (entry.call_id,)) for entry, _ in settles]
            await self._judge(keyed, ended, CALL, CALL_KEY, "call_settled_twice")
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

    def _bury(self, entry: Entry, reason: str, detail: str, *, stored: bool = False) -> None:
        self.refused += not stored
        self.dead.setdefault((entry.journal_id, entry.seq), dead_row(entry, reason, detail))


async def write_dead(connection: AsyncConnection, rows: list[Row]) -> None:
    """Alarms, each once."""
    if rows:
        await connection.execute(insert_into(connection, DEAD_LETTER).on_conflict_do_nothing(), rows)
