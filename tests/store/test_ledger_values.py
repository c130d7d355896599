"""Sums by user, session and declared tag: kept from rows that were really inserted, bounded, proved, corrected."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from sqlalchemy import text, update

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.core.queries import Bucket, QueryScope
from gateway.core.records import Entry
from gateway.store import migrate
from gateway.store.engine import is_sqlite, open_engine, reading, writing
from gateway.store.ledger_rows import name
from gateway.store.ledger_tables import ATTEMPT, PERIOD, PERIOD_CHAIN, ROLLUP_VALUE
from gateway.store.ledger_values import ValuePlaces
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.period_store import SqlPeriods
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book, end, hold, ident, line, settle
from store.ledgers import Ledger, ledger
from store.stores import Store, postgres_database, postgres_server, store
from store.test_ledger_corrections import NOVEMBER, OCTOBER, RIGHT, SCOPE, WRONG, at, call, corrections, posted, priced

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]

TAGS = ("feature", "env")
DAY = 86_400_000
Spent = list[tuple[str, str, int, int]]


def of(book: Book, number: int, tokens: int, started_ms: int = NOVEMBER, **who: object) -> list[Entry]:
    """A call of `tokens` nano-USD."""
    attempt_id = ident(number * 2 + 1, started_ms)
    whose = {"started_ms": started_ms, "user": "", "session": "", "tags": (), **who}
    records = (
        hold(attempt_id, ts_ms=started_ms, **whose),
        end(attempt_id, (line("input", tokens),), ts_ms=started_ms + 900),
        settle(attempt_id, ts_ms=started_ms + 1_000, effective_nusd=tokens, list_nusd=tokens, **whose),
    )
    return book.entries(ident(number * 2, started_ms), records)


async def spent(ledger: Ledger, *by: str, scope: QueryScope = SCOPE, limit: int = 100) -> Spent:
    """(group, bucket, calls, nano-USD) of autumn."""
    rows = await SqlLedgerQueries(ledger.engine).spend(scope, by, OCTOBER, at("2027-01-01"), limit)
    return [("/".join(row.group), row.bucket.value, row.calls, row.effective_nusd) for row in rows]


async def proved(ledger: Ledger) -> None:
    proof = SqlLedgerProof(ledger.engine)
    assert (await proof.verify_sums(), list(await proof.verify_values())) == ([], [])


async def test_spend_is_grouped_by_tag_user_and_session_and_adds_up(ledger: Ledger) -> None:
    book = Book()
    tagged = {"tags": (("feature", "search"), ("env", "prod"), ("other", "x"))}
    await ledger.writer.load(
        [
            *of(book, 1, 30, user="ann", session="s-1", **tagged),
            *of(book, 2, 20, user="bob", tags=(("feature", "chat"),)),
            *of(book, 3, 10, user="ann", started_ms=NOVEMBER + DAY, tags=(("feature", ""),), team="web"),
        ],
        TAGS,
    )
    assert await spent(ledger, "tag:feature") == [
        ("search", "value", 1, 30),
        ("chat", "value", 1, 20),
        ("", "none", 1, 10),
    ]
    assert await spent(ledger, "user") == [("ann", "value", 2, 40), ("bob", "value", 1, 20)]
    assert await spent(ledger, "session") == [("s-1", "value", 1, 30), ("", "none", 2, 30)] or (
        await spent(ledger, "session") == [("", "none", 2, 30), ("s-1", "value", 1, 30)]
    )
    assert await spent(ledger, "tag:other") == [("", "none", 3, 60)]
    assert await spent(ledger, "day", "user") == [
        ("2026-11-01/ann", "value", 1, 30),
        ("2026-11-01/bob", "value", 1, 20),
        ("2026-11-02/ann", "value", 1, 10),
    ]
    assert await spent(ledger, "team", "tag:env") == [
        ("search/prod", "value", 1, 30),
        ("search/", "none", 1, 20),
        ("web/", "none", 1, 10),
    ]
    assert await spent(ledger, "user", scope=QueryScope("acme", "web")) == [("ann", "value", 1, 10)]
    assert await spent(ledger, "user", scope=QueryScope("acme", None, "key_9")) == []
    await proved(ledger)


@pytest.mark.parametrize("by", [("user", "session"), ("tag:env", "provider"), ("user", "hour"), ("tag:",)])
async def test_what_is_not_summed_together_is_refused(ledger: Ledger, by: Sequence[str]) -> None:
    with pytest.raises(BadRequest, match="unknown dimension"):
        await spent(ledger, *by)


@pytest.mark.parametrize("value", ['"', "\\\\", "a\x00b", "é😀" * 200, "=1+1", "%", "{}", " ", "null", "a\tb\n"])
async def test_whatever_callers_write_is_a_value_and_is_proved(ledger: Ledger, value: str) -> None:
    tags = (('odd "\\name', value),)
    await ledger.writer.load(of(Book(), 1, 7, user=value, session=value, tags=tags), ('odd "\\name',))
    kept = name(value)
    for dimension in ("user", "session", 'tag:odd "\\name'):
        assert await spent(ledger, dimension) == [(kept, "value", 1, 7)]
        rows = await SqlLedgerQueries(ledger.engine).spend(SCOPE, ("org",), 0, at("2027-01-01"), of=(dimension, value))
        assert [row.effective_nusd for row in rows] == [7]
    await proved(ledger)


async def test_spend_of_one_value_is_what_its_group_says(ledger: Ledger) -> None:
    book = Book()
    for number in range(12):
        who = {"user": f"u{number % 3}", "tags": (("env", f"e{number % 2}"),), "team": f"t{number % 2}"}
        await ledger.writer.load(of(book, number, number + 1, NOVEMBER + number % 4 * DAY, **who), TAGS)
    queries, end_ms = SqlLedgerQueries(ledger.engine), at("2027-01-01")
    for dimension, value in (("user", "u1"), ("tag:env", "e0")):
        (whole,) = await queries.spend(SCOPE, ("org",), OCTOBER, end_ms, of=(dimension, value))
        groups = {row.group[0]: row for row in await queries.spend(SCOPE, (dimension,), OCTOBER, end_ms)}
        assert (whole.calls, whole.effective_nusd) == (groups[value].calls, groups[value].effective_nusd)
        days = await queries.spend(SCOPE, ("day", "team"), OCTOBER, end_ms, of=(dimension, value))
        assert sum(row.effective_nusd for row in days) == whole.effective_nusd
    assert await queries.spend(SCOPE, ("org",), OCTOBER, end_ms, of=("user", "nobody")) == []
    assert await queries.spend(QueryScope("rival"), ("org",), OCTOBER, end_ms, of=("user", "u1")) == []
    with pytest.raises(BadRequest, match="unknown dimension 'provider'"):
        await queries.spend(SCOPE, ("provider",), OCTOBER, end_ms, of=("user", "u1"))


async def test_values_beyond_the_most_are_counted_together_and_stay_so(ledger: Ledger) -> None:
    """Of each team and day apart; a value that has a place keeps it, also in later batches and after a restart."""
    ledger.writer = LedgerWriter(ledger.engine, ValuePlaces(most=3))
    book = Book()
    await ledger.writer.load([one for n in range(5) for one in of(book, n, 10, user=f"u{n}")])
    await ledger.writer.load([*of(book, 10, 1, user="u1"), *of(book, 11, 1, user="u4"), *of(book, 12, 5, user="u9")])
    await ledger.writer.load(of(book, 13, 7, user="u9", team="web"))
    ledger.writer = LedgerWriter(ledger.engine, ValuePlaces(most=3))
    await ledger.writer.load([*of(book, 14, 1, user="u4"), *of(book, 15, 2, user="u2")])
    await ledger.writer.load(of(book, 16, 3, NOVEMBER + DAY, user="u4"))
    assert await spent(ledger, "user") == [
        ("", "other", 5, 27),
        ("u2", "value", 2, 12),
        ("u1", "value", 2, 11),
        ("u0", "value", 1, 10),
        ("u9", "value", 1, 7),
        ("u4", "value", 1, 3),
    ]
    await proved(ledger)


async def test_a_batch_that_was_not_written_takes_no_places(ledger: Ledger) -> None:
    """The straight way fails on a record that SQL refuses; what it had placed until then is not in SQL."""
    ledger.writer = LedgerWriter(ledger.engine, ValuePlaces(most=2))
    book = Book()
    bad = book.entries(ident(99), (hold(ident(98), user="lost", started_ms=2**63),))
    await ledger.writer.load([*bad, *of(book, 1, 10, user="a"), *of(book, 2, 10, user="b")])
    assert [reason for _, reason in await ledger.dead()] == ["unstorable"]
    assert {row[0] for row in await spent(ledger, "user")} == {"a", "b"}
    await proved(ledger)


async def test_loads_at_once_share_what_has_places(ledger: Ledger) -> None:
    """One writer, several loads; and little is remembered, so that places are read again all the time."""
    ledger.writer = LedgerWriter(ledger.engine, ValuePlaces(most=5))
    books = [Book(ident(700 + number)) for number in range(4)]
    for round_ in range(3):
        await asyncio.gather(
            *(
                ledger.writer.load(of(book, 100 * at + round_, 1, NOVEMBER + at * DAY, user=f"u{at}{round_}"))
                for at, book in enumerate(books)
            )
        )
    assert sum(row[2] for row in await spent(ledger, "user")) == 12
    await proved(ledger)


async def test_the_same_journal_again_adds_nothing(ledger: Ledger) -> None:
    book = Book()
    entries = [one for n in range(20) for one in of(book, n, n + 1, user=f"u{n % 3}", tags=(("env", f"e{n % 2}"),))]
    await ledger.writer.load(entries, TAGS)
    once = await ledger.rows(ROLLUP_VALUE)
    await ledger.forget_cursors()
    again = await ledger.writer.load(entries, TAGS)
    assert (again.calls, again.postings) == (0, 0)
    assert await ledger.rows(ROLLUP_VALUE) == once
    await proved(ledger)


async def test_however_a_journal_is_cut_the_sums_are_the_same(ledger: Ledger) -> None:
    """HOLD, end and SETTLE of a call in other batches; with the tag declared all the while."""
    chance = random.Random(7)
    entries = [
        one
        for n in range(60)
        for one in of(Book(ident(500 + n)), n, n, user=f"u{n % 7}", session=f"s{n % 11}", tags=(("env", f"e{n % 4}"),))
    ]
    entries.sort(key=lambda one: (one.seq, one.journal_id))
    while entries:
        size = chance.randint(1, 25)
        await ledger.writer.load(entries[:size], TAGS)
        entries = entries[size:]
    assert sum(row[3] for row in await spent(ledger, "tag:env")) == sum(range(60))
    assert all(row[1] == "value" for row in await spent(ledger, "session"))
    await proved(ledger)


async def test_corrections_reach_the_sums_whatever_is_declared_by_then(ledger: Ledger) -> None:
    """October is closed in between: what is corrected of it is of a prior period, in the month of the correction."""
    book, keeper = Book(), Book(ident(2))
    for number, month_ms in enumerate((OCTOBER, OCTOBER, NOVEMBER)):
        who = {"user": f"u{number}", "session": "", "tags": (("env", "prod"),)}
        await ledger.writer.load(call(book, number, month_ms, priced(100, WRONG), **who), TAGS)
    await SqlPeriods(ledger.engine).close("acme", OCTOBER, NOVEMBER + DAY, "f", "")
    ledger.writer = LedgerWriter(ledger.engine)
    records = corrections(await posted(ledger), RIGHT, NOVEMBER + 5 * DAY)
    await ledger.writer.load([keeper.entry(call_id, record) for call_id, record in records])
    rows = await SqlLedgerQueries(ledger.engine).spend(SCOPE, ("tag:env", "month"), OCTOBER, at("2027-01-01"))
    assert [(row.group, row.effective_nusd, row.prior_effective_nusd) for row in rows] == [
        (("prod", "2026-10"), 200_000, 0),
        (("prod", "2026-11"), 100, 2 * (100 - 100_000)),
    ]
    await proved(ledger)


async def test_a_changed_sum_is_found(ledger: Ledger) -> None:
    await ledger.writer.load(of(Book(), 1, 30, user="ann"))
    async with writing(ledger.engine) as connection:
        await connection.execute(update(ROLLUP_VALUE).values(effective_nusd=31))
    (wrong,) = await SqlLedgerProof(ledger.engine).verify_values()
    assert (wrong.dimension, wrong.value, wrong.figures) == ("user", "ann", {"effective_nusd": (31, 30)})
    async with writing(ledger.engine) as connection:
        await connection.execute(update(ROLLUP_VALUE).values(effective_nusd=30, value="eve"))
    assert {one.value for one in await SqlLedgerProof(ledger.engine).verify_values()} == {"ann", "eve"}


async def test_the_way_back_and_up_again_leaves_sums_that_are_right(store: Store) -> None:
    """What was summed before the way back is none of the new sums: its rows say so, too."""
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    own = Ledger(engine, LedgerWriter(engine))
    book = Book()
    await own.writer.load(of(book, 1, 30, user="ann"))
    await migrate.downgrade(store.url, store.data_dir, "ledger", "0003")
    await own.writer.load(of(book, 2, 30, user="ann"))
    with pytest.raises(StoreUnavailable, match="db upgrade"):
        await spent(own, "user")
    assert list(await SqlLedgerProof(engine).verify_values()) == []
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    await own.writer.load(of(book, 3, 5, user="ann"))
    assert await spent(own, "user") == [("", Bucket.NONE, 2, 60), ("ann", Bucket.VALUE, 1, 5)]
    await proved(own)
    await engine.dispose()


async def test_a_query_by_value_reads_its_rows_by_key(ledger: Ledger) -> None:
    """No table of calls, attempts or postings is looked at, and the sums are found by their key."""
    watch = ledger.watch()
    await spent(ledger, "user", "day")
    asked = [
        statement for statement, _ in watch.asked if statement.startswith("SELECT") and "version_num" not in statement
    ]
    assert asked
    assert all("rollup_" in statement for statement in asked)
    if is_sqlite(ledger.engine):
        async with reading(ledger.engine) as connection:
            plan = await connection.execute(
                text("EXPLAIN QUERY PLAN SELECT value FROM rollup_value WHERE org = 'a' AND dimension = 'user' "
                     "AND day_ms >= 1 AND day_ms < 2")
            )  # fmt: skip
            assert "SEARCH rollup_value USING PRIMARY KEY (org=? AND dimension=? AND day_ms>? AND day_ms<?)" in str(
                plan.all()
            )


# ---------------------------------------------------------------- the chain of closed months


async def three_closed(ledger: Ledger) -> SqlLedgerProof:
    periods, book = SqlPeriods(ledger.engine), Book()
    months = [at(f"2026-{number:02d}-01") for number in range(8, 12)]
    for number, month_ms in enumerate(months):
        await ledger.writer.load(call(book, number, month_ms, priced(100, RIGHT)))
    for month_ms in months[:3]:
        await periods.close("acme", month_ms, at("2026-12-02"), "f", "invoiced")
    proof = SqlLedgerProof(ledger.engine)
    assert await proof.changed_months() == []
    return proof


@pytest.mark.parametrize("month", ["2026-08-01", "2026-09-01", "2026-10-01"])
async def test_a_closed_month_that_was_deleted_is_missed(ledger: Ledger, month: str) -> None:
    """The first, one between, the last; and closing it or another one again does not hide it."""
    proof = await three_closed(ledger)
    async with writing(ledger.engine) as connection:
        await connection.execute(PERIOD.delete().where(PERIOD.c.month_ms == at(month)))
    found = await proof.changed_months()
    assert "acme: 3 months were closed, 2 of them are there" in found
    periods = SqlPeriods(ledger.engine)
    await periods.close("acme", await periods.next_ms("acme"), at("2026-12-03"), "g", "again")
    assert await proof.changed_months() != []


async def test_a_closed_month_that_says_something_else_is_noticed(ledger: Ledger) -> None:
    proof = await three_closed(ledger)
    async with writing(ledger.engine) as connection:
        await connection.execute(update(PERIOD).where(PERIOD.c.month_ms == at("2026-09-01")).values(actor="nobody"))
    assert await proof.changed_months() == ["acme: a closed month's row says something else than when it was closed"]


async def test_months_closed_before_there_was_a_chain_are_in_it(store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger", "0003")
    engine = open_engine(store.url, store.data_dir, "ledger")
    own = Ledger(engine, LedgerWriter(engine))
    await own.writer.load(call(Book(), 1, OCTOBER, priced(100, RIGHT)))
    await SqlPeriods(engine).close("acme", OCTOBER, NOVEMBER, "f", "")
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    assert [(row["org"], row["months"]) for row in await own.rows(PERIOD_CHAIN)] == [("acme", 1)]
    proof = SqlLedgerProof(engine)
    assert await proof.changed_months() == []
    async with writing(engine) as connection:
        await connection.execute(PERIOD.delete())
    assert await proof.changed_months() == ["acme: 1 months were closed, 0 of them are there"]
    await engine.dispose()


async def test_what_an_older_version_closes_is_no_fault_and_is_chained_by_the_next(ledger: Ledger) -> None:
    proof = await three_closed(ledger)
    rows = await ledger.rows(PERIOD_CHAIN)
    async with writing(ledger.engine) as connection:  # as if the third had been closed without a chain
        (last,) = rows
        await connection.execute(PERIOD_CHAIN.delete())
        assert last["months"] == 3
    periods = SqlPeriods(ledger.engine)
    assert await proof.changed_months() == []
    await periods.close("acme", NOVEMBER, at("2026-12-03"), "g", "")
    assert (await ledger.rows(PERIOD_CHAIN))[0]["months"] == 4
    assert await proof.changed_months() == []


async def test_attempts_say_by_what_they_are_summed(ledger: Ledger) -> None:
    await ledger.writer.load(of(Book(), 1, 1, user="ann", tags=(("env", "prod"), ("b", "c"))), ("env",))
    assert [row["summed_by"] for row in await ledger.rows(ATTEMPT)] == ['{"tag:env":"prod","user":"ann"}']
