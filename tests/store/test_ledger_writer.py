"""The ledger's contract, on SQLite and PostgreSQL alike: everything once, nothing lost, nothing stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.errors import StoreUnavailable
from gateway.core.records import Entry, Stat, decode_record
from gateway.store import migrate
from gateway.store.engine import open_engine, reading, writing
from gateway.store.ledger_rows import hour_of
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
from gateway.store.ledger_writer import LedgerWriter
from store.ledger_entries import T0, Book, calls, end, hold, ident, line, settle, void
from store.stores import Proxy, Store, postgres_database, postgres_server, proxy, store

__all__ = ["postgres_database", "postgres_server", "proxy", "store"]


@dataclass
class Ledger:
    """An open ledger and a way to look into it."""

    engine: AsyncEngine
    writer: LedgerWriter

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        async with reading(self.engine) as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key.columns))
            return [dict(row._mapping) for row in found]

    async def count(self, table: Table) -> int:
        async with reading(self.engine) as connection:
            return (await connection.execute(select(func.count()).select_from(table))).scalar_one()

    async def totals(self) -> dict[str, int]:
        rows = await self.rows(ROLLUP_HOUR)
        words = ("calls", "errors", "refused", "unpriced_calls", "attempts", "input_tokens", "output_tokens")
        return {word: sum(row[word] for row in rows) for word in (*words, "effective_nusd", "estimated_nusd")}

    async def dead(self) -> list[tuple[int, str]]:
        return [(row["seq"], row["reason"]) for row in await self.rows(DEAD_LETTER)]

    async def forget_cursors(self) -> None:
        """As if cursors had been lost, which no transaction of ours can do: the rows must protect themselves."""
        async with writing(self.engine) as connection:
            await connection.execute(delete(JOURNAL_CURSOR))

    async def everything(self) -> list[list[dict[str, Any]]]:
        tables = (CALL, ATTEMPT, POSTING, LEDGER_LINE, ROLLUP_HOUR, JOURNAL_CURSOR, DEAD_LETTER, REFUSAL_STAT)
        return [await self.rows(table) for table in tables]


@pytest.fixture
async def ledger(store: Store) -> AsyncIterator[Ledger]:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    yield Ledger(engine, LedgerWriter(engine))
    await engine.dispose()


async def test_a_call_is_in_every_table_once(ledger: Ledger) -> None:
    loaded = await ledger.writer.load(Book().call(1))
    assert (loaded.stored, loaded.calls, loaded.postings, loaded.repeated, loaded.dead_letters) == (4, 1, 1, 0, 0)
    (call,) = await ledger.rows(CALL)
    (attempt,) = await ledger.rows(ATTEMPT)
    (posting,) = await ledger.rows(POSTING)
    lines = await ledger.rows(LEDGER_LINE)
    assert (call["outcome"], call["seq"], call["effective_nusd"], call["tags"]) == ("ok", 4, 30, '{"env":"prod"}')
    assert (attempt["bound_nusd"], attempt["model"]) == (9_000, "gpt-x-1")
    assert (posting["kind"], posting["revision"], posting["effective_nusd"]) == ("attempt", 0, 30)
    assert [(one["meter"], one["quantity"], one["effective_nusd"]) for one in lines] == [
        ("input", 10, 10),
        ("output", 20, 20),
    ]
    (rollup,) = await ledger.rows(ROLLUP_HOUR)
    assert rollup == {
        "org": "acme",
        "hour_ms": hour_of(T0),
        "team": "search",
        "key_id": "key_1",
        "model": "gpt-x",
        "provider": "openai",
        "deployment": "openai/gpt-x-1",
        "endpoint": "chat.completions",
        "calls": 1,
        "errors": 0,
        "refused": 0,
        "unpriced_calls": 0,
        "duration_us": 1_000,
        "attempts": 1,
        "input_tokens": 10,
        "output_tokens": 20,
        "list_nusd": 30,
        "effective_nusd": 30,
        "estimated_nusd": 0,
    }
    (cursor,) = await ledger.rows(JOURNAL_CURSOR)
    assert (cursor["seq"], cursor["segment"], cursor["offset"], cursor["newest_ms"]) == (4, 0, 400, T0 + 1_000)


async def test_a_batch_delivered_again_changes_nothing(ledger: Ledger) -> None:
    batch = list(calls(50))
    await ledger.writer.load(batch)
    before = await ledger.everything()
    again = await ledger.writer.load(batch)
    assert (again.stored, again.repeated) == (0, 200)
    assert await ledger.everything() == before


async def test_rows_protect_themselves_when_the_cursor_is_lost(ledger: Ledger) -> None:
    batch = list(calls(50))
    await ledger.writer.load(batch)
    before = await ledger.everything()
    await ledger.forget_cursors()
    again = await ledger.writer.load(batch)
    assert (again.calls, again.postings, again.dead_letters) == (0, 0, 0)
    assert await ledger.everything() == before


async def test_entries_twice_in_one_batch_count_once(ledger: Ledger) -> None:
    batch = list(calls(5))
    loaded = await ledger.writer.load([*batch, *batch])
    assert (loaded.stored, loaded.repeated, loaded.dead_letters) == (20, 20, 0)
    assert (await ledger.totals())["effective_nusd"] == 150


@given(cuts=st.lists(st.integers(1, 79), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_where_batches_are_cut_makes_no_difference(ledger: Ledger, cuts: list[int]) -> None:
    """HOLD and its ATTEMPT_END in one batch or in two: the same rows, the same sums."""
    async with writing(ledger.engine) as connection:
        for table in (CALL, ATTEMPT, POSTING, LEDGER_LINE, ROLLUP_HOUR, JOURNAL_CURSOR):
            await connection.execute(delete(table))
    batch = list(calls(20, spread=3))
    edges = [0, *sorted(set(cuts)), len(batch)]
    for start, stop in pairwise(edges):
        await ledger.writer.load(batch[start:stop])
    totals = await ledger.totals()
    assert totals == {
        "calls": 20,
        "errors": 0,
        "refused": 0,
        "unpriced_calls": 0,
        "attempts": 20,
        "input_tokens": 200,
        "output_tokens": 400,
        "effective_nusd": 600,
        "estimated_nusd": 0,
    }
    assert [row["outcome"] for row in await ledger.rows(CALL)] == ["ok"] * 20
    assert await ledger.count(DEAD_LETTER) == 0


async def test_a_call_is_running_until_its_settle_is_read(ledger: Ledger) -> None:
    book = Book()
    first, dispatch, ended, settled = book.call(1)
    await ledger.writer.load([first, dispatch])
    (row,) = await ledger.rows(CALL)
    assert (row["outcome"], row["seq"], row["ended_ms"]) == ("running", None, None)
    assert await ledger.totals() == dict.fromkeys(await ledger.totals(), 0)
    await ledger.writer.load([ended, settled])
    (row,) = await ledger.rows(CALL)
    assert (row["outcome"], row["seq"]) == ("ok", 4)
    assert (await ledger.totals())["calls"] == 1


async def test_a_retry_is_one_call_of_two_attempts_and_its_money_is_there(ledger: Ledger) -> None:
    book, call_id, first, second = Book(), ident(1), ident(2), ident(3)
    records = (
        hold(first, provider="openai"),
        end(first, (line("input", 10),), outcome="error", cause="http_500"),
        hold(second, attempt_no=2, provider="azure", deployment="azure/gpt-x"),
        end(second, (line("input", 10), line("output", 5))),
        settle(second, attempts=2, provider="azure", deployment="azure/gpt-x", effective_nusd=25, list_nusd=25),
    )
    await ledger.writer.load(book.entries(call_id, records))
    by_provider = {row["provider"]: row for row in await ledger.rows(ROLLUP_HOUR)}
    assert [by_provider["openai"][word] for word in ("calls", "attempts", "effective_nusd")] == [0, 1, 10]
    assert [by_provider["azure"][word] for word in ("calls", "attempts", "effective_nusd")] == [1, 1, 15]


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        ("ok", (0, 0)),
        ("client_gone", (0, 0)),
        ("refused", (0, 1)),
        ("error", (1, 0)),
        ("truncated", (1, 0)),
        ("crashed", (1, 0)),
    ],
)
async def test_what_counts_as_an_error(ledger: Ledger, outcome: str, counted: tuple[int, int]) -> None:
    call_id = ident(1)
    await ledger.writer.load(Book().entries(call_id, [settle(call_id, outcome=outcome, attempts=0)]))
    totals = await ledger.totals()
    assert (totals["calls"], totals["errors"], totals["refused"]) == (1, *counted)


async def test_unpriced_is_null_and_counted_never_zero(ledger: Ledger) -> None:
    book, call_id, attempt_id = Book(), ident(1), ident(2)
    records = (
        hold(attempt_id, bound_nusd=None),
        end(attempt_id, (line("input", 10), line("output", 5, rate_pico=None))),
        settle(attempt_id, cost_state="unpriced", effective_nusd=None, list_nusd=None),
    )
    await ledger.writer.load(book.entries(call_id, records))
    (posting,) = await ledger.rows(POSTING)
    assert (posting["effective_nusd"], posting["list_nusd"]) == (None, None)
    assert [row["effective_nusd"] for row in await ledger.rows(LEDGER_LINE)] == [10, None]
    totals = await ledger.totals()
    assert (totals["unpriced_calls"], totals["effective_nusd"], totals["input_tokens"]) == (1, 0, 10)


async def test_estimated_money_is_in_the_sum_and_shown_apart(ledger: Ledger) -> None:
    book, call_id, attempt_id = Book(), ident(1), ident(2)
    records = (hold(attempt_id), end(attempt_id, (line("input", 40),), state="estimated", outcome="crashed"))
    await ledger.writer.load(book.entries(call_id, records))
    totals = await ledger.totals()
    assert (totals["effective_nusd"], totals["estimated_nusd"]) == (40, 40)


async def test_a_void_ends_its_attempt_with_nothing(ledger: Ledger) -> None:
    book, call_id, attempt_id = Book(), ident(1), ident(2)
    await ledger.writer.load(book.entries(call_id, (hold(attempt_id), void(attempt_id))))
    (posting,) = await ledger.rows(POSTING)
    assert (posting["outcome"], posting["effective_nusd"], posting["cause"]) == ("void", 0, "connect")
    assert await ledger.count(LEDGER_LINE) == 0


async def test_refusals_before_identification_add_up_by_hour(ledger: Ledger) -> None:
    book = Book()
    batch = book.entries(ident(1), (Stat(T0, {"invalid_api_key": 3}), Stat(T0 + 1, {"invalid_api_key": 2, "x": 1})))
    await ledger.writer.load(batch)
    await ledger.writer.load(batch)
    rows = await ledger.rows(REFUSAL_STAT)
    assert [(row["hour_ms"], row["code"], row["count"]) for row in rows] == [
        (hour_of(T0), "invalid_api_key", 5),
        (hour_of(T0), "x", 1),
    ]


# ---------------------------------------------------------------- alarms


async def test_the_same_attempt_ended_by_another_record_is_an_alarm(ledger: Ledger) -> None:
    """An accounting identity under a second delivery identity: nothing is counted, and it cannot go unnoticed."""
    book, other = Book(), Book(ident(2))
    batch = book.call(1)
    await ledger.writer.load(batch)
    before = await ledger.totals()
    attempt_id, call_id = batch[0].record.attempt_id, batch[0].call_id
    clash = other.entries(call_id, (end(attempt_id, (line("input", 999),)), void(attempt_id)))
    loaded = await ledger.writer.load(clash)
    assert (loaded.stored, loaded.dead_letters) == (0, 2)
    assert await ledger.dead() == [(1, "attempt_ended_twice"), (2, "attempt_ended_twice")]
    assert await ledger.totals() == before
    kept = (await ledger.rows(DEAD_LETTER))[0]
    assert decode_record(kept["record_type"], kept["payload"]) == clash[0].record


async def test_the_same_attempt_ended_twice_in_one_batch_is_an_alarm(ledger: Ledger) -> None:
    book, call_id, attempt_id = Book(), ident(1), ident(2)
    first = (hold(attempt_id), end(attempt_id, (line("input", 10),)), end(attempt_id, (line("input", 99),)))
    await ledger.writer.load(book.entries(call_id, first))
    assert await ledger.dead() == [(3, "attempt_ended_twice")]
    assert (await ledger.totals())["effective_nusd"] == 10


async def test_a_call_settled_twice_and_a_hold_twice_are_alarms(ledger: Ledger) -> None:
    book = Book()
    batch = book.call(1)
    again = [book.entry(batch[0].call_id, batch[0].record), book.entry(batch[0].call_id, batch[3].record)]
    await ledger.writer.load(batch)
    await ledger.writer.load(again)
    assert await ledger.dead() == [(5, "hold_twice"), (6, "call_settled_twice")]
    assert (await ledger.totals())["calls"] == 1


async def test_an_end_without_its_hold_is_kept_as_a_dead_letter(ledger: Ledger) -> None:
    await ledger.writer.load(Book().entries(ident(1), [end(ident(9), (line("input", 5),))]))
    assert await ledger.dead() == [(1, "hold_unknown")]
    assert await ledger.count(POSTING) == 0


async def test_totals_that_are_not_the_sum_of_their_lines_are_stored_and_an_alarm(ledger: Ledger) -> None:
    book, attempt_id = Book(), ident(2)
    records = (hold(attempt_id), end(attempt_id, (line("input", 5),), effective_nusd=6))
    await ledger.writer.load(book.entries(ident(1), records))
    assert await ledger.dead() == [(2, "sum_mismatch")]
    assert await ledger.count(POSTING) == 1


# ---------------------------------------------------------------- bad rows, races, outages


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
    assert (row["model"][:2], len(row["model"]), row["effective_nusd"]) == ("m\ufffd", 256, 1)


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
            await ledger.writer.load(book.call(number, key_id=f"key_{number % 4}"))

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
