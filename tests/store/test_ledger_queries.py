"""What people may ask of the ledger: the right sums, only their own rows, pages that miss and repeat nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.core.ids import CALL as CALL_PREFIX
from gateway.core.ids import parse_id, print_id
from gateway.core.queries import QueryScope, SpendRow
from gateway.store import migrate
from gateway.store.engine import open_engine, reading, writing
from gateway.store.ledger_tables import CALL, LEDGER_LINE, ROLLUP_HOUR
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import T0, Book, calls, end, hold, ident, line, settle, void
from store.stores import Store, postgres_database, postgres_server, store

__all__ = ["postgres_database", "postgres_server", "store"]

HOUR = 3_600_000
ALL = QueryScope("acme")


@pytest.fixture
async def engine(store: Store) -> AsyncIterator[AsyncEngine]:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    yield engine
    await engine.dispose()


@pytest.fixture
async def loaded(engine: AsyncEngine) -> SqlLedgerQueries:
    """Two teams' calls in two hours across a month's end, and one call of another org."""
    writer = LedgerWriter(engine)
    book = Book()
    last_hour = 1_790_812_800_000 - HOUR  # 2026-09-30T23:00Z
    for number, (team, key, model, started) in enumerate(
        [
            ("search", "k1", "gpt-x", last_hour + 5),
            ("search", "k1", "gpt-x", last_hour + 6),
            ("search", "k2", "gpt-y", last_hour + HOUR),
            ("ads", "k3", "gpt-x", last_hour + HOUR + 1),
        ],
        start=1,
    ):
        await writer.load(book.call(number, team=team, key_id=key, model_asked=model, started_ms=started))
    await writer.load(book.call(99, org="rival", key_id="k9", started_ms=last_hour))
    return SqlLedgerQueries(engine, behind_bytes=lambda: 17)


def figures(rows: list[SpendRow]) -> list[tuple[tuple[str, ...], int, int]]:
    return [(row.group, row.calls, row.effective_nusd) for row in rows]


async def spend(queries: SqlLedgerQueries, *by: str, scope: QueryScope = ALL) -> list[tuple[tuple[str, ...], int, int]]:
    return figures(await queries.spend(scope, by, 0, 2_000_000_000_000))


async def test_spend_without_a_dimension_is_one_row(loaded: SqlLedgerQueries) -> None:
    assert await spend(loaded) == [((), 4, 120)]


async def test_spend_is_dearest_first(loaded: SqlLedgerQueries) -> None:
    assert await spend(loaded, "model") == [(("gpt-x",), 3, 90), (("gpt-y",), 1, 30)]
    assert await spend(loaded, "team", "key") == [
        (("search", "k1"), 2, 60),
        (("ads", "k3"), 1, 30),
        (("search", "k2"), 1, 30),
    ]


async def test_time_groups_come_in_time_order_and_read_the_same_on_both_stores(loaded: SqlLedgerQueries) -> None:
    assert await spend(loaded, "hour") == [(("2026-09-30T23:00Z",), 2, 60), (("2026-10-01T00:00Z",), 2, 60)]
    assert await spend(loaded, "day", "team") == [
        (("2026-09-30", "search"), 2, 60),
        (("2026-10-01", "ads"), 1, 30),
        (("2026-10-01", "search"), 1, 30),
    ]
    assert await spend(loaded, "month") == [(("2026-09",), 2, 60), (("2026-10",), 2, 60)]


async def test_every_dimension_of_the_port_is_known(loaded: SqlLedgerQueries) -> None:
    by = ("org", "team", "key", "model", "provider", "deployment", "endpoint", "hour", "day", "month")
    rows = await loaded.spend(ALL, by, 0, 2_000_000_000_000)
    assert sum(row.calls for row in rows) == 4
    with pytest.raises(BadRequest, match="unknown dimension 'colour'"):
        await loaded.spend(ALL, ["colour"], 0, 1)


async def test_the_period_is_rounded_to_whole_hours(loaded: SqlLedgerQueries) -> None:
    start = 1_790_812_800_000
    assert figures(await loaded.spend(ALL, (), start + 1, start + 2)) == [((), 2, 60)]
    assert figures(await loaded.spend(ALL, (), start, start + HOUR)) == [((), 2, 60)]
    assert figures(await loaded.spend(ALL, (), start - 1, start)) == [((), 2, 60)]


async def test_rows_are_bounded(loaded: SqlLedgerQueries) -> None:
    assert len(await loaded.spend(ALL, ["key"], 0, 2_000_000_000_000, limit=2)) == 2
    assert len(await loaded.calls(ALL, limit=0)) == 1


@pytest.mark.parametrize(
    ("scope", "calls_seen"),
    [
        (QueryScope("acme"), 4),
        (QueryScope("acme", team="search"), 3),
        (QueryScope("acme", team="search", key_id="k2"), 1),
        (QueryScope("acme", key_id="k9"), 0),
        (QueryScope("rival"), 1),
        (QueryScope("nobody"), 0),
        (QueryScope("' OR 1=1 --"), 0),
    ],
)
async def test_a_scope_sees_its_own_rows_only(loaded: SqlLedgerQueries, scope: QueryScope, calls_seen: int) -> None:
    rows = await loaded.calls(scope)
    assert len(rows) == calls_seen
    assert sum(row.calls for row in await loaded.spend(scope, ["key"], 0, 2_000_000_000_000)) == calls_seen
    every = [*await loaded.calls(QueryScope("acme")), *await loaded.calls(QueryScope("rival"))]
    mine = {row.call_id for row in rows}
    for row in every:
        raw = parse_id(CALL_PREFIX, row.call_id)
        assert raw is not None
        found = await loaded.call(scope, raw)
        assert (found is not None) == (row.call_id in mine)


async def test_pages_of_calls_miss_and_repeat_nothing_even_within_one_millisecond(engine: AsyncEngine) -> None:
    await LedgerWriter(engine).load(list(calls(50)))
    queries = SqlLedgerQueries(engine)
    seen: list[str] = []
    before_ms, before_id = None, ""
    while page := await queries.calls(ALL, before_ms=before_ms, before_id=before_id, limit=7):
        seen += [row.call_id for row in page]
        before_ms, before_id = page[-1].started_ms, page[-1].call_id
    assert len(seen) == len(set(seen)) == 50
    with pytest.raises(BadRequest):
        await queries.calls(ALL, before_ms=1, before_id="not-an-id")


async def test_a_call_with_its_attempts_and_lines(engine: AsyncEngine) -> None:
    first, second, call_id = ident(2), ident(3), ident(1)
    records = (
        hold(first),
        void(first),
        hold(second, attempt_no=2),
        end(second, (line("input", 10), line("output", 5, rate_pico=None)), raw_usage=b'{"a":"\xff"}'),
    )
    book = Book()
    writer, queries = LedgerWriter(engine), SqlLedgerQueries(engine)
    await writer.load(book.entries(call_id, records[:3]))
    found = await queries.call(ALL, call_id)
    assert found is not None
    assert [found[0].outcome, found[0].cost_state] == ["running", ""]
    assert [(row.outcome, row.duration_us) for row in found[1]] == [("void", -1), ("running", -1)]
    await writer.load([book.entry(call_id, records[3])])
    unpriced = settle(second, attempts=2, causes=("connect",), effective_nusd=None, cost_state="unpriced")
    await writer.load([book.entry(call_id, unpriced)])
    found = await queries.call(ALL, call_id)
    assert found is not None
    row, attempts = found
    assert (row.call_id, row.outcome, row.causes, row.effective_nusd) == (
        print_id("req", call_id),
        "ok",
        ("connect",),
        None,
    )
    assert (row.tags, row.stream, row.trace_id) == ({"env": "prod"}, False, (b"t" * 16).hex())
    assert attempts[1].lines == (line("input", 10), line("output", 5, rate_pico=None))
    assert (attempts[1].effective_nusd, attempts[1].bound_nusd, attempts[1].raw_usage) == (
        None,
        9_000,
        '{"a":"\ufffd"}',
    )
    assert await queries.call(ALL, ident(77)) is None


async def test_freshness(loaded: SqlLedgerQueries) -> None:
    fresh = await loaded.freshness()
    assert (fresh.newest_ms, fresh.behind_bytes, fresh.dead_letters) == (1_790_809_200_000 + 1_000, 17, 0)


async def test_queries_without_a_schema_say_what_to_do(store: Store) -> None:
    engine = open_engine(store.url, store.data_dir, "ledger")
    with pytest.raises(StoreUnavailable, match="faregate db upgrade"):
        await SqlLedgerQueries(engine).freshness()
    await engine.dispose()


# ---------------------------------------------------------------- proof


async def a_mixed_ledger(engine: AsyncEngine) -> Book:
    """Retries, voids, estimates, unpriced calls, refusals, open attempts, over many batches."""
    book, writer = Book(), LedgerWriter(engine)
    await writer.load(list(calls(60, book)))
    odd = []
    for number in range(200, 230):
        call_id, one, two = ident(number * 10), ident(number * 10 + 1), ident(number * 10 + 2)
        priced = None if number % 5 == 0 else 1_000
        state = {"state": "estimated"} if number % 3 == 0 and priced else {}
        odd += book.entries(
            call_id,
            (
                hold(one, started_ms=T0 + number * 900_000),
                void(one),
                hold(two, attempt_no=2, started_ms=T0 + number * 900_000),
                end(two, (line("input", number), line("output", 3, priced)), **state),
                settle(two, attempts=2, started_ms=T0 + number * 900_000),
            ),
        )
    odd += book.entries(ident(5_000), [settle(ident(5_000), attempts=0, error_code="model_not_found", model_asked="?")])
    odd += book.entries(ident(6_000), [hold(ident(6_001))])
    for start in range(0, len(odd), 13):
        await writer.load(odd[start : start + 13])
    return book


async def test_the_sums_agree_and_the_counts_are_right(engine: AsyncEngine) -> None:
    book = await a_mixed_ledger(engine)
    proof = SqlLedgerProof(engine)
    assert await proof.verify_sums() == []
    counts = await proof.counts()
    assert (counts.calls, counts.attempts, counts.postings) == (92, 121, 120)
    assert (counts.open_attempts, counts.unended_calls, counts.orphan_lines, counts.wrong_totals) == (1, 1, 0, 0)
    assert await proof.cursors() == {book.journal_id: book.seq}
    attempts = [attempt async for attempt in proof.attempts_of(book.journal_id, 1, book.seq)]
    assert len(attempts) == 121
    assert [one.end for one in attempts].count(None) == 1


@pytest.mark.parametrize("rows_at_once", [1, 7, 60, 121, 122])
async def test_attempts_of_a_journal_are_there_once_whatever_the_page(engine: AsyncEngine, rows_at_once: int) -> None:
    book = await a_mixed_ledger(engine)
    other = Book(ident(900_000))
    await LedgerWriter(engine).load(other.call(700_000))
    proof = SqlLedgerProof(engine, rows_at_once)
    whole = [one async for one in SqlLedgerProof(engine).attempts_of(book.journal_id, 1, book.seq)]
    assert [one async for one in proof.attempts_of(book.journal_id, 1, book.seq)] == whole
    assert len({one.attempt_id for one in whole}) == len(whole) == 121
    seqs = sorted(one.seq for one in whole)
    some = [one.seq async for one in proof.attempts_of(book.journal_id, seqs[20], seqs[90])]
    assert sorted(some) == seqs[20:91]
    assert len([one async for one in proof.attempts_of(other.journal_id, 1, other.seq)]) == 1


@pytest.mark.parametrize(
    ("table", "column", "figure"),
    [
        (ROLLUP_HOUR, "effective_nusd", "effective_nusd"),
        (ROLLUP_HOUR, "calls", "calls"),
        (ROLLUP_HOUR, "estimated_nusd", "estimated_nusd"),
        (LEDGER_LINE, "effective_nusd", "effective_nusd"),
        (LEDGER_LINE, "list_nusd", "list_nusd"),
    ],
)
async def test_one_nano_dollar_too_much_is_found(engine: AsyncEngine, table: object, column: str, figure: str) -> None:
    await LedgerWriter(engine).load(Book().call(1))
    async with writing(engine) as connection:
        await connection.execute(update(table).values({column: table.c[column] + 1}))  # type: ignore[arg-type, attr-defined]
    (mismatch,) = await SqlLedgerProof(engine).verify_sums()
    assert (mismatch.org, mismatch.key_id, mismatch.model) == ("acme", "key_1", "gpt-x")
    assert set(mismatch.figures) == {figure}
    wrong = (await SqlLedgerProof(engine).counts()).wrong_totals
    assert wrong == (1 if table is LEDGER_LINE else 0)


async def test_a_call_that_was_lost_is_found(engine: AsyncEngine) -> None:
    await LedgerWriter(engine).load(list(calls(9)))
    async with writing(engine) as connection:
        await connection.execute(CALL.delete().where(CALL.c.key_id == "key_4"))
    (mismatch,) = await SqlLedgerProof(engine).verify_sums()
    assert (mismatch.key_id, mismatch.figures) == ("key_4", {"calls": (1, 0)})


@pytest.mark.parametrize(
    ("scope", "index"),
    [
        (QueryScope("acme"), "call_by_org"),
        (QueryScope("acme", team="team_1"), "call_by_team"),
        (QueryScope("acme", key_id="key_1"), "call_by_key"),
        (QueryScope("acme", team="team_1", key_id="key_1"), "call_by_key"),
    ],
)
async def test_pages_of_calls_are_read_from_an_index_in_order(tmp_path: Path, scope: QueryScope, index: str) -> None:
    """Nothing is sorted and nobody else's calls are walked over, on SQLite, which has no statistics to go by."""
    await migrate.upgrade("", tmp_path, "ledger")
    engine = open_engine("", tmp_path, "ledger")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    queries = SqlLedgerQueries(engine)
    await queries.calls(scope)
    await queries.calls(scope, before_ms=T0, before_id=print_id(CALL_PREFIX, ident(1)))
    selects = [one for one in asked if one[0].startswith("SELECT")]
    async with reading(engine) as connection:
        for statement, parameters in selects:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            assert [row[-1].split(" (")[0] for row in plan] == [f"SEARCH call USING INDEX {index}"]
    await engine.dispose()
