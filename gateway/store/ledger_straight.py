"""A batch that is as it should be, written the short way: rows go in as they are and nothing is asked back.

Whatever is out of the ordinary (a repetition, a clash, an end without its HOLD, a total that is not its lines' sum, a
value that SQL refuses) raises; the transaction is rolled back and `ledger_careful.py` takes the batch. It is no less
safe: a row that is stored already breaks a unique key, so what has been written here is written for the first time.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.records import Entry, Void
from gateway.store.ledger_corrections import add_corrections
from gateway.store.ledger_reads import stored_owners
from gateway.store.ledger_rows import Row, attempt_row, call_row, running_row, total_fault
from gateway.store.ledger_sorting import Identity, Sorted, identity_of, rows_of, stat_rows
from gateway.store.ledger_statements import Statements
from gateway.store.ledger_sums import NONE_CLOSED, Closed, Sums, Whose, whose
from gateway.store.ledger_values import NO_GROUPING, Grouping


class Unusual(Exception):
    """This batch has to be written carefully."""


async def store_straight(
    connection: AsyncConnection,
    statements: Statements,
    entries: Sequence[Entry],
    closed: Closed = NONE_CLOSED,
    grouping: Grouping = NO_GROUPING,
) -> tuple[int, int]:
    """Writes fresh entries of a batch; (calls ended, attempts ended). Raises Unusual, or an error that blames data."""
    batch, sums = Sorted(entries), Sums(closed)
    holds = {hold.attempt_id: attempt_row(entry, hold) for entry, hold in batch.holds}
    _each_once(holds, batch.holds)
    for _, hold in batch.holds:
        holds[hold.attempt_id]["summed_by"] = grouping.summed_by(hold)
    await statements.copy_holds.run(connection, holds.values())
    owners = {attempt_id: whose(row) for attempt_id, row in holds.items()}
    postings, lines = await _postings(connection, statements, batch, owners, sums)
    await statements.copy_postings.run(connection, postings)
    await statements.copy_lines.run(connection, lines)
    await add_corrections(connection, statements, batch.corrections, postings[len(batch.ends) :], owners)
    await _store_calls(connection, statements, batch, sums, grouping)
    await statements.add_rollups.count(connection, sums.rows())
    await statements.add_values.count_tuples(connection, sums.value_rows())
    await statements.add_refusals.count(connection, stat_rows(batch.stats))
    return len(batch.settles), len(batch.ends)


async def _postings(
    connection: AsyncConnection, statements: Statements, batch: Sorted, owners: dict[bytes, Whose], sums: Sums
) -> tuple[list[Row], list[Row]]:
    posted = [*batch.ends, *batch.corrections] if batch.corrections else batch.ends
    owners |= await stored_owners(connection, statements, {end.attempt_id for _, end in posted} - owners.keys())
    postings: dict[Identity, Row] = {}
    lines: list[Row] = []
    for entry, end in posted:
        owner = owners.get(end.attempt_id)
        if owner is None or (not isinstance(end, Void) and total_fault(end)):
            raise Unusual
        row, its_lines = rows_of(entry, end)
        sums.place_posting(row, owner)
        postings[identity_of(end)] = row
        lines += its_lines
        sums.add_posting(row, owner)
    _each_once(postings, posted)
    return list(postings.values()), lines


async def _store_calls(
    connection: AsyncConnection, statements: Statements, batch: Sorted, sums: Sums, grouping: Grouping
) -> None:
    """A call whose first HOLD is here cannot have a row yet. Of another the row is there, and is filled in."""
    begun = {entry.call_id for entry, hold in batch.holds if hold.attempt_no == 1}
    settled: dict[bytes, Row] = {}
    earlier: dict[bytes, Row] = {}
    for entry, settle in batch.settles:
        new = entry.call_id in begun or not settle.attempts
        row = (settled if new else earlier)[entry.call_id] = call_row(entry, settle)
        row["summed_by"] = grouping.summed_by(settle)
        sums.place_call(row)
        sums.add_call(row)
    _each_once({**settled, **earlier}, batch.settles)
    running, again = _running(batch, begun, settled.keys() | earlier.keys())
    await statements.copy_calls.run(connection, [*settled.values(), *running])
    if await statements.insert_ended.count(connection, earlier.values()) < len(earlier):
        raise Unusual
    await statements.insert_running.count(connection, again)


def _running(batch: Sorted, begun: set[bytes], ended: set[bytes]) -> tuple[list[Row], list[Row]]:
    """Rows of calls that begin here and go on, and of those that go on with a further attempt: they should be there."""
    new: dict[bytes, Row] = {}
    again: dict[bytes, Row] = {}
    for entry, hold in batch.holds:
        if entry.call_id not in ended:
            rows = new if entry.call_id in begun else again
            if entry.call_id not in rows:
                rows[entry.call_id] = running_row(entry, hold)
    return list(new.values()), list(again.values())


def _each_once(rows: Sized, entries: Sized) -> None:
    if len(rows) < len(entries):
        raise Unusual
