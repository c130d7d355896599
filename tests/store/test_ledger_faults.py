"""Bad rows, races and outages, on SQLite and PostgreSQL alike: nothing lost, nothing doubled, nothing stuck."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.records import Entry, decode_record
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_tables import (
    ATTEMPT,
    CALL,
    DEAD_LETTER,
    JOURNAL_CURSOR,
    POSTING,
    ROLLUP_HOUR,
)
from gateway.store.ledger_writer import LedgerWriter
from store.ledger_entries import Book, calls, end, hold, ident, line, settle
from store.ledgers import Ledger, ledger
from store.stores import Proxy, Store, postgres_database, postgres_server, proxy, store

__all__ = ["ledger", "postgres_database", "postgres_server", "proxy", "store"]


async def test_poison_is_found_by_halving_and_the_others_are_stored(ledger: Ledger) -> None:
    """F29: one number that no BIGINT holds, in the middle of 500 records."""
    batch = list(calls(125))
    poisoned = {7: 3, 250: 2}
    for index in poisoned:
        attempt_id = batch[index // 4 * 4].record.attempt_id
        bad = (
            settle(attempt_id, duration_us=2**64 - 1)
            if index % 4 == 3
            else end(attempt_id, (line("input", 10), line("output", 2**63)))
        )
        batch[index] = Entry(batch[index].journal_id, batch[index].seq, batch[index].call_id, bad, 0, 0)
    loaded = await ledger.writer.load(batch)
    assert (loaded.stored, loaded.dead_letters) == (498, 2)
    assert await ledger.dead() == [(8, "unstorable"), (251, "unstorable")]
    assert await ledger.count(ATTEMPT) == 125
    assert await ledger.count(POSTING) == 124
    assert (await ledger.totals())["calls"] == 124
    assert (await ledger.rows(JOURNAL_CURSOR))[0]["seq"] == 500
    kept = (await ledger.rows(DEAD_LETTER))[0]
    assert decode_record(kept["record_type"], kept["payload"]) == batch[7].record


async def test_a_poisoned_time_does_not_stop_the_dead_letter_itself(ledger: Ledger) -> None:
    bad = settle(ident(1), ts_ms=2**64 - 1, started_ms=2**63)
    loaded = await ledger.writer.load(Book().entries(ident(1), [bad]))
    assert loaded.dead_letters == 1


async def test_what_a_caller_writes_cannot_keep_its_call_out_of_the_ledger(ledger: Ledger) -> None:
    nasty = {
        "model_asked": "m\x00" + "x" * 10_000,
        "user": "\x00",
        "session": "s" * 100_000,
        "tags": (("\x00", "\x00"),),
    }
    book, call_id, attempt_id = Book(), ident(1), ident(2)
    records = (hold(attempt_id, **nasty), end(attempt_id, (line("input", 1),)), settle(attempt_id, **nasty))
    loaded = await ledger.writer.load(book.entries(call_id, records))
    assert (loaded.stored, loaded.dead_letters) == (3, 0)
    (row,) = await ledger.rows(ROLLUP_HOUR)
    assert (row["model"][:2], len(row["model"].encode()), row["effective_nusd"]) == ("m\ufffd", 256, 1)


async def test_the_longest_names_still_fit_into_an_index(ledger: Ledger) -> None:
    """Seven dimensions of what does not compress, four bytes a character."""
    alphabet = [chr(0x1F300 + number) for number in range(250)]
    words = ("org", "team", "key_id", "endpoint", "model_asked", "provider", "deployment")
    longest = {word: "".join(alphabet[number * 7 :] + alphabet[: number * 7]) * 3 for number, word in enumerate(words)}
    book, attempt_id = Book(), ident(2)
    records = (hold(attempt_id, **longest), end(attempt_id, (line("input", 1),)), settle(attempt_id, **longest))
    loaded = await ledger.writer.load(book.entries(ident(1), records))
    assert (loaded.stored, loaded.dead_letters) == (3, 0)


async def test_models_that_do_not_exist_do_not_grow_the_rollups(ledger: Ledger) -> None:
    book = Book()
    batch = [
        book.entry(ident(n), settle(ident(n), model_asked=f"nonsense-{n}", error_code="model_not_found", attempts=0))
        for n in range(40)
    ]
    await ledger.writer.load(batch)
    (row,) = await ledger.rows(ROLLUP_HOUR)
    assert (row["model"], row["calls"]) == ("", 40)
    assert (await ledger.rows(CALL))[0]["model_asked"].startswith("nonsense-")


async def test_two_loaders_of_one_journal_do_nothing_twice(ledger: Ledger, store: Store) -> None:
    batch = list(calls(200))
    engine = open_engine(store.url, store.data_dir, "ledger")
    try:
        second = LedgerWriter(engine)

        async def load(writer: LedgerWriter, size: int) -> int:
            stored = 0
            for start in range(0, len(batch), size):
                stored += (await writer.load(batch[start : start + size])).stored
            return stored

        stored = await asyncio.gather(load(ledger.writer, 100), load(second, 70))
    finally:
        await engine.dispose()
    assert sum(stored) == 800
    assert await ledger.count(DEAD_LETTER) == 0
    totals = await ledger.totals()
    assert (totals["calls"], totals["attempts"], totals["effective_nusd"]) == (200, 200, 6_000)


async def test_journals_of_several_workers_share_rollups(ledger: Ledger) -> None:
    """Concurrent loaders of different journals update the same rollup rows, in one order, so none deadlocks."""
    books = [Book(ident(1)), Book(ident(2))]

    async def load(book: Book, first: int) -> None:
        for number in range(first, first + 30):
            loaded = await ledger.writer.load(book.call(number, key_id=f"key_{number % 4}"))
            assert (loaded.calls, loaded.rewound) == (1, False)

    await asyncio.gather(load(books[0], 100), load(books[1], 200))
    totals = await ledger.totals()
    assert (totals["calls"], totals["effective_nusd"]) == (60, 1_800)


async def test_an_answer_lost_after_commit_does_not_double_anything(postgres_database: str, proxy: Proxy) -> None:
    """F28: the server commits, its reply never arrives, the batch is loaded again."""
    store = proxy.url(postgres_database)
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    engine = open_engine(store, None, "ledger")  # type: ignore[arg-type]
    ledger = Ledger(engine, LedgerWriter(engine))
    batch = list(calls(25))
    proxy.cut_at(b"COMMIT")
    with pytest.raises(StoreUnavailable):
        await ledger.writer.load(batch)
    with pytest.raises(StoreUnavailable):
        await ledger.writer.load(batch)
    proxy.mend()
    again = await ledger.writer.load(batch)
    assert (again.stored, again.repeated) == (0, 100), "it had been committed"
    totals = await ledger.totals()
    assert (totals["calls"], totals["effective_nusd"]) == (25, 750)
    await engine.dispose()
