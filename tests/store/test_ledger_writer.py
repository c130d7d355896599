"""The ledger's contract, on SQLite and PostgreSQL alike: everything once, in the right sums, alarms for the rest."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from gateway.core.records import Stat, decode_record
from gateway.store.engine import writing
from gateway.store.ledger_sums import hour_of
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
from store.ledger_entries import T0, Book, calls, end, hold, ident, line, settle, void
from store.ledgers import Ledger, ledger
from store.stores import postgres_database, postgres_server, proxy, store

__all__ = ["ledger", "postgres_database", "postgres_server", "proxy", "store"]


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
        "margin_nusd": 0,
        "prior_list_nusd": 0,
        "prior_effective_nusd": 0,
        "prior_margin_nusd": 0,
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
        for table in (CALL, ATTEMPT, POSTING, LEDGER_LINE, ROLLUP_HOUR):
            await connection.execute(delete(table))
    await ledger.forget_cursors()
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
