"""Closed months and corrections across versions: a schema that changes under a running writer, a figure of later."""

from __future__ import annotations

from gateway.store import migrate, period_store
from gateway.store.engine import open_engine
from gateway.store.ledger_tables import ROLLUP_HOUR
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.period_store import SqlPeriods
from gateway.store.queries_rerate import SqlRerateQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book
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
