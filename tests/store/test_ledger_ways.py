"""The two ways into the ledger: the short one for a batch that is as it should be, the careful one for any other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.records import Entry, Settle, decode_record
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_tables import ATTEMPT, CALL, DEAD_LETTER, LEDGER_LINE, POSTING
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book, calls, end, hold, ident, line, settle
from store.ledgers import Ledger, ledger
from store.stores import Proxy, postgres_database, postgres_server, proxy, store

__all__ = ["ledger", "postgres_database", "postgres_server", "proxy", "store"]


async def test_an_ordinary_batch_asks_nothing_back(ledger: Ledger) -> None:
    """Whole calls, calls that go on, that end and that try again, refused ones: all of it goes the short way."""
    book, other = Book(), Book(ident(2))
    await ledger.writer.load([entry for number in range(1, 9) for entry in book.call(number)[:2]])
    seen = ledger.watch()
    batch = [entry for number in range(1, 9) for entry in _ends(book, number)]
    batch += [entry for number in range(20, 30) for entry in other.call(number)]
    batch += other.entries(ident(900), [hold(ident(901)), hold(ident(902), attempt_no=2)])
    batch += other.entries(ident(950), [settle(ident(950), attempts=0, outcome="refused")])
    loaded = await ledger.writer.load(batch)
    assert (loaded.stored, loaded.calls, loaded.postings, loaded.dead_letters) == (len(batch), 19, 18, 0)
    assert not [statement for statement, _ in seen.asked if "RETURNING" in statement]
    again = await ledger.writer.load(other.entries(ident(900), [end(ident(902)), settle(ident(902), attempts=2)]))
    assert (again.calls, again.postings) == (1, 1)
    assert not [statement for statement, _ in seen.asked if "RETURNING" in statement]
    assert await SqlLedgerProof(ledger.engine).verify_sums() == []
    assert (await ledger.totals())["calls"] == 20


def _ends(book: Book, number: int) -> list[Entry]:
    """What `Book.call` writes after its DISPATCH."""
    return Book(book.journal_id, 100 + number * 4).call(number)[2:]


async def test_a_call_that_ends_again_in_a_later_batch_is_an_alarm(ledger: Ledger) -> None:
    book = Book()
    batch = book.call(1)
    await ledger.writer.load(batch)
    before = await ledger.totals()
    again = await ledger.writer.load([book.entry(batch[0].call_id, batch[3].record)])
    assert (again.calls, again.dead_letters) == (0, 1)
    assert await ledger.dead() == [(5, "call_settled_twice")]
    assert await ledger.totals() == before


async def test_a_settle_that_claims_no_attempts_fills_in_what_is_running(ledger: Ledger) -> None:
    """The short way takes the call for a new one and fails; the careful way knows better."""
    book, call_id = Book(), ident(1)
    await ledger.writer.load(book.entries(call_id, [hold(ident(2))]))
    loaded = await ledger.writer.load(book.entries(call_id, [settle(ident(2), attempts=0)]))
    assert (loaded.calls, loaded.dead_letters) == (1, 0)
    assert [row["outcome"] for row in await ledger.rows(CALL)] == ["ok"]


def _too_big(entry: Entry) -> object:
    return settle(_settled(entry).attempt_id, duration_us=2**64 - 1)


def _missing(entry: Entry) -> object:
    return settle(_settled(entry).attempt_id, status=None)


def _wrong_type(entry: Entry) -> object:
    return settle(_settled(entry).attempt_id, started_ms="yesterday")


def _settled(entry: Entry) -> Settle:
    assert isinstance(entry.record, Settle)
    return entry.record


@pytest.mark.parametrize("spoil", [_too_big, _missing, _wrong_type])
async def test_one_bad_record_of_500_is_put_aside(ledger: Ledger, spoil: Callable[[Entry], object]) -> None:
    """F29: whatever SQL or the driver refuses, the other 499 are stored, and the record's bytes are kept."""
    batch = list(calls(125))
    bad = batch[251]
    batch[251] = Entry(bad.journal_id, bad.seq, bad.call_id, spoil(bad), 0, 0)  # type: ignore[arg-type]
    loaded = await ledger.writer.load(batch)
    assert (loaded.stored, loaded.dead_letters) == (499, 1)
    assert await ledger.dead() == [(252, "unstorable")]
    assert [await ledger.count(table) for table in (ATTEMPT, POSTING, LEDGER_LINE)] == [125, 125, 250]
    totals = await ledger.totals()
    assert (totals["calls"], totals["effective_nusd"]) == (124, 125 * 30)


async def test_a_number_that_another_call_has_is_put_aside(ledger: Ledger) -> None:
    """A constraint of SQL's own: two calls settled by one record's number."""
    book = Book()
    first, second = ident(10), ident(20)
    records = [*book.entries(first, [hold(ident(11))]), *book.entries(second, [hold(ident(21))])]
    await ledger.writer.load(records)
    await ledger.writer.load(book.entries(first, [settle(ident(11))]))
    await ledger.forget_cursors()
    same_number = Book(book.journal_id, book.seq - 1).entries(second, [settle(ident(21))])
    loaded = await ledger.writer.load(same_number)
    assert (loaded.calls, loaded.dead_letters) == (0, 1)
    ((seq, reason),) = await ledger.dead()
    assert (seq, reason) == (3, "unstorable")
    kept = (await ledger.rows(DEAD_LETTER))[0]
    assert decode_record(kept["record_type"], kept["payload"]) == same_number[0].record


async def test_two_megabytes_of_tags_are_stored(ledger: Ledger) -> None:
    tags = (("note", "x" * 2_000_000), ("\x00", "nul\x00"))
    book, attempt_id = Book(), ident(2)
    records = (hold(attempt_id, tags=tags), end(attempt_id, (line("input", 1),)), settle(attempt_id, tags=tags))
    loaded = await ledger.writer.load(book.entries(ident(1), records))
    assert (loaded.stored, loaded.dead_letters) == (3, 0)
    (row,) = await ledger.rows(CALL)
    assert len(row["tags"]) > 2_000_000


@pytest.mark.parametrize("word", [b"COPY", b"nothing of this", b"rollup_hour", b"journal_cursor SET"])
async def test_a_connection_that_breaks_anywhere_loses_and_doubles_nothing(
    postgres_database: str, proxy: Proxy, word: bytes
) -> None:
    """Cut while rows are copied, while sums are added, while the cursor moves; and not at all."""
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    engine = open_engine(proxy.url(postgres_database), None, "ledger")  # type: ignore[arg-type]
    ledger = Ledger(engine, LedgerWriter(engine))
    batch = list(calls(50))
    await ledger.writer.load(batch[:40])
    proxy.cut_at(word)
    if word == b"nothing of this":
        assert (await ledger.writer.load(batch[40:])).stored == 160
    else:
        with pytest.raises(StoreUnavailable):
            await ledger.writer.load(batch[40:])
        proxy.mend()
        assert (await ledger.writer.load(batch[40:])).stored == 160
    totals = await ledger.totals()
    assert (totals["calls"], totals["effective_nusd"]) == (50, 1_500)
    assert await ledger.count(DEAD_LETTER) == 0
    assert await SqlLedgerProof(engine).verify_sums() == []
    await engine.dispose()
