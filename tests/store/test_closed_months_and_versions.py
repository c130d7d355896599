"""Closed months and corrections across versions: a schema that changes under a running writer, a figure of later; and
months that are closed while something is loaded."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import Conflict
from gateway.store import migrate, period_store
from gateway.store.engine import open_engine, reading
from gateway.store.ledger_tables import ROLLUP_HOUR
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.period_store import SqlPeriods
from gateway.store.queries_rerate import SqlRerateQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book, ident
from store.ledgers import Ledger, ledger
from store.stores import Store, postgres_database, postgres_server, store
from store.test_ledger_corrections import ALL, NOVEMBER, OCTOBER, SCOPE, WRONG, at, call, priced

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]


async def test_a_schema_upgraded_under_a_running_writer_is_seen_by_the_next_batch(store: Store) -> None:
    """A writer that goes on as before would count into a month that is closed since, and forget its counters."""
    await migrate.upgrade(store.url, store.data_dir, "ledger", "0002")
    engine = open_engine(store.url, store.data_dir, "ledger")
    writer, book = LedgerWriter(engine), Book()
    await writer.load(call(book, 1, OCTOBER, priced(100, WRONG)))
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    await SqlPeriods(engine).close("acme", OCTOBER, at("2026-11-02"), "f", "")
    await writer.load(call(book, 2, OCTOBER + 7, priced(100, WRONG)))
    proof = SqlLedgerProof(engine)
    assert (await proof.changed_months(), await proof.verify_sums()) == ([], [])
    attempts = (await SqlRerateQueries(engine).page(SCOPE, ALL, b"", 10)).attempts
    assert [attempt.takes_known for attempt in attempts] == [False, True]
    await engine.dispose()


async def test_a_figure_that_a_later_version_adds_changes_no_closed_month(ledger: Ledger) -> None:
    await ledger.writer.load(call(Book(), 1, OCTOBER, priced(100, WRONG)))
    periods = SqlPeriods(ledger.engine)
    closed = await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
    wider = (*period_store._FIGURES, "hour_ms - hour_ms")
    rows = [{**row, "hour_ms - hour_ms": 0} for row in await ledger.rows(ROLLUP_HOUR)]
    key = period_store._KEY
    digests = [period_store._row_digest(tuple(row[word] for word in (*key, *wider)), wider) for row in rows]
    assert sum(digests) % (1 << 256) == int.from_bytes(closed.sums.digest, "big")


@pytest.mark.parametrize(
    ("started_ms", "org", "touches"),
    [
        (OCTOBER, "acme", True),
        (NOVEMBER - 1, "acme", True),
        (NOVEMBER, "acme", False),
        (OCTOBER, "rival", False),
    ],
)
async def test_what_was_loaded_while_a_month_was_added_up_is_noticed(
    ledger: Ledger, started_ms: int, org: str, touches: bool
) -> None:
    book = Book()
    await ledger.writer.load(call(book, 1, OCTOBER, priced(100, WRONG)))
    reached = {journal: cursor.seq for journal, cursor in (await ledger.writer.cursors()).items()}

    async def noticed(month_ms: int = OCTOBER) -> bool:
        async with reading(ledger.engine) as connection:
            return await period_store.loaded_since(connection, "acme", month_ms, reached)

    assert not await noticed()
    await ledger.writer.load(call(book, 2, started_ms, priced(100, WRONG), org=org))
    assert await noticed() is touches
    await ledger.writer.load(call(Book(ident(9)), 3, started_ms, priced(100, WRONG), org=org))
    assert await noticed() is touches, "of a journal that was not there, too"


async def test_a_month_closed_under_load_has_all_or_counts_it_later(ledger: Ledger) -> None:
    """Calls of the month come while it is being added up: each is in its sums, or of a prior period."""
    books, periods = [Book(ident(20 + number)) for number in range(3)], SqlPeriods(ledger.engine)
    await ledger.writer.load(call(books[0], 1, OCTOBER, priced(100, WRONG)))

    async def load(number: int, book: Book) -> None:
        writer = LedgerWriter(ledger.engine)
        for at_once in range(4):
            await writer.load(call(book, 10 + 10 * number + at_once, OCTOBER + at_once, priced(100, WRONG)))

    async def close() -> None:
        while True:
            try:
                await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
            except Conflict:
                continue  # a call had not ended yet
            return

    await asyncio.gather(*(load(number, book) for number, book in enumerate(books)), close())
    (closed,) = await periods.closed("acme")
    proof = SqlLedgerProof(ledger.engine)
    assert (await proof.changed_months(), await proof.verify_sums(), list(await proof.verify_values())) == ([], [], [])
    rows = await ledger.rows(ROLLUP_HOUR)
    prior = sum(row["prior_effective_nusd"] for row in rows)
    assert closed.sums.effective_nusd + prior == 13 * 100_000
