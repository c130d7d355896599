"""The law of the two ways: however a journal is cut into batches, it makes the rows that one record at a time, each
asked after, would make."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from gateway.core.records import AnyRecord, Entry, Hold, Settle
from gateway.store import migrate
from gateway.store.engine import writing
from gateway.store.ledger_careful import CarefulBatch
from gateway.store.ledger_statements import Statements
from gateway.store.ledger_tables import JOURNAL_CURSOR, LedgerTable
from gateway.store.ledger_values import ValuePlaces
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import T0, Book, end, hold, ident, line, settle, void
from store.ledgers import Ledger, ledger
from store.stores import postgres_database, postgres_server, store

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]

MONTH = 31 * 86_400_000
TAGS = ("env",)


def records_of(call: int, number: int, step: str) -> AnyRecord:
    """One record of one of a few calls, which began in different months and are some other people's."""
    at_ms = T0 + call * MONTH
    who = {"key_id": f"key_{call % 2}", "started_ms": at_ms, "user": f"u{call % 3}", "session": "s" * (call % 2)}
    attempt_id = ident(100 * call + number, at_ms)
    match step:
        case "hold":
            return hold(attempt_id, attempt_no=number, **who)
        case "end":
            return end(attempt_id, (line("input", 10 * number), line("output", call)))
        case "unpriced":
            return end(attempt_id, (line("input", 3, rate_pico=None),))
        case "wrong":
            return end(attempt_id, (line("input", 3),), effective_nusd=4)
        case "void":
            return void(attempt_id)
        case _:
            return settle(attempt_id, attempts=number, outcome="error" if number > 1 else "ok", **who)


steps = st.tuples(
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from(["hold", "hold", "end", "end", "unpriced", "wrong", "void", "settle", "settle"]),
)


@given(journal=st.lists(steps, max_size=40), cuts=st.lists(st.integers(1, 39), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_batches_make_what_single_records_make(
    ledger: Ledger, journal: list[tuple[int, int, str]], cuts: list[int]
) -> None:
    """Ends twice, HOLDs twice, calls that end twice, ends of attempts never held: alarms and sums are the same."""
    book = Book()
    entries: list[Entry] = []
    held: set[tuple[int, int]] = set()
    for call, number, step in journal:
        if step == "hold":
            held.add((call, number))
        elif step not in ("settle",) and (call, number) not in held and (call, number, "hold") in journal:
            continue  # a journal has a HOLD before its end, or nowhere
        entries.append(book.entry(ident(1_000 + call, T0 + call * MONTH), records_of(call, number, step)))
    await wipe(ledger)
    edges = [0, *sorted({cut for cut in cuts if cut < len(entries)}), len(entries)]
    for start, stop in pairwise(edges):
        await ledger.writer.load(entries[start:stop], TAGS)
    batched = await rows(ledger)
    if "wrong" not in {step for _, _, step in journal}:
        proof = SqlLedgerProof(ledger.engine)
        assert (await proof.verify_sums(), list(await proof.verify_values())) == ([], [])
    await wipe(ledger)
    statements, places = Statements(int(migrate.head("ledger"))), ValuePlaces()
    for entry in entries:
        async with writing(ledger.engine) as connection:
            records = [entry.record] if isinstance(entry.record, Hold | Settle) else []
            grouping = await places.grouping(connection, records, TAGS)
            await CarefulBatch(connection, statements, grouping=grouping).store([entry])
    assert batched == await rows(ledger)


async def wipe(ledger: Ledger) -> None:
    async with writing(ledger.engine) as connection:
        for table in LedgerTable.metadata.sorted_tables:
            await connection.execute(delete(table))
    await ledger.forget_cursors()


async def rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: await ledger.rows(table)
        for table in LedgerTable.metadata.sorted_tables
        if table is not JOURNAL_CURSOR
    }
