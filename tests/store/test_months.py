"""The ledger by month: every record once whatever partitions there are, old months out without a wrong sum."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text
from sqlalchemy.engine import make_url

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.core.queries import QueryScope
from gateway.core.records import Entry
from gateway.store import months
from gateway.store.engine import open_engine, reading, writing
from gateway.store.ledger_tables import CALL, DEAD_LETTER, JOURNAL_CURSOR, LedgerTable
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.month_keeper import MonthKeeper, detach, make_months, partitions
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book, end, hold, ident, line, settle
from store.ledgers import Ledger, ledger
from store.months_made import DAY, at, by_month, rows_in
from store.stores import postgres_database, postgres_server, store

__all__ = ["by_month", "ledger", "postgres_database", "postgres_server", "store"]

SCOPE = QueryScope("acme")


def call_of(book: Book, number: int, started_ms: int) -> list[Entry]:
    """A call of 30 nano-USD whose ids are of the time at which it starts."""
    return book.call(number, started_ms=started_ms, key_id=f"key_{number % 5}")


# ---------------------------------------------------------------- exactly once


@given(
    times=st.lists(st.integers(at(2020, 11), at(2021, 9)), min_size=1, max_size=20),
    cuts=st.lists(st.integers(1, 79), max_size=6),
    replays=st.lists(st.tuples(st.integers(0, 79), st.integers(1, 80), st.booleans()), max_size=4),
    months_later=st.lists(st.sampled_from([at(2020, 12), at(2021, 7), at(2021, 8)]), max_size=3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_record_counts_once_across_months_and_replays(
    by_month: Ledger,
    times: list[int],
    cuts: list[int],
    replays: list[tuple[int, int, bool]],
    months_later: list[int],
) -> None:
    """The law: whatever is delivered again, with the cursor or without it, and whenever a month is made, each call is
    there once and the rollups are the sums of the rows."""
    ledger = by_month
    async with writing(ledger.engine) as connection:
        for table in reversed(LedgerTable.metadata.sorted_tables):
            await connection.execute(delete(table))
    await ledger.forget_cursors()
    book = Book()
    journal = [entry for number, time in enumerate(times) for entry in call_of(book, number, time)]
    edges = [0, *sorted({cut for cut in cuts if cut < len(journal)}), len(journal)]
    for start, stop in pairwise(edges):
        await ledger.writer.load(journal[start:stop])
    for first, length, forgets in replays:
        if months_later:
            await make_months(ledger.engine, 0, [months_later.pop()])
        if forgets:
            await ledger.forget_cursors()
        again = await ledger.writer.load(journal[first : first + length])
        assert (again.calls, again.postings, again.dead_letters) == (0, 0, 0)
    totals = await ledger.totals()
    assert (totals["calls"], totals["attempts"], totals["effective_nusd"]) == (
        len(times),
        len(times),
        30 * len(times),
    )
    assert await SqlLedgerProof(ledger.engine).verify_sums() == []
    assert await ledger.count(CALL) == len(times)
    assert await ledger.count(DEAD_LETTER) == 0


async def test_a_record_lies_in_the_month_of_its_own_id(by_month: Ledger) -> None:
    """Held in the last second of a month, ended and settled in the next: each row has its place by the id it has had
    from the beginning."""
    last = at(2021, 3) - 1
    call_id, attempt_id = ident(1, last), ident(2, last + 2)
    records = (
        hold(attempt_id, started_ms=last, ts_ms=last + 2),
        end(attempt_id, (line("input", 10),), ts_ms=at(2021, 4)),
        settle(attempt_id, started_ms=last, ts_ms=at(2021, 4)),
    )
    await by_month.writer.load(Book().entries(call_id, records))
    assert [await rows_in(by_month, name) for name in ("call_2021_02", "attempt_2021_03", "posting_2021_03")] == [1] * 3
    assert await rows_in(by_month, "ledger_line_2021_03") == 1
    found = await SqlLedgerQueries(by_month.engine).call(SCOPE, call_id)
    assert found is not None
    assert found[1][0].effective_nusd == 10


async def test_another_record_under_a_stored_number_is_an_alarm(ledger: Ledger) -> None:
    """A journal's number stands for one record. On both stores the second one is refused and counts nothing."""
    await ledger.writer.load(Book().call(1))
    before = await ledger.totals()
    await ledger.forget_cursors()
    again = await ledger.writer.load(Book().call(2))
    assert (again.calls, again.postings) == (0, 0)
    assert {reason for _, reason in await ledger.dead()} == {"delivery_clash", "hold_unknown", "unstorable"}
    assert await ledger.totals() == before


async def test_each_partition_refuses_a_second_delivery_by_itself(by_month: Ledger) -> None:
    async with reading(by_month.engine) as connection:
        found = await connection.execute(
            text("SELECT tablename FROM pg_indexes WHERE schemaname = 'faregate_ledger' AND indexname LIKE :name"),
            {"name": "%\\_delivery"},
        )
        indexed = set(found.scalars())
    there = {one.name for one in await partitions(by_month.engine) if one.table in months.DELIVERED}
    assert there <= indexed
    assert len(there) >= 3 * 7


# ---------------------------------------------------------------- months are made


async def test_rows_without_a_month_wait_in_the_default_partition_and_move(by_month: Ledger) -> None:
    book = Book()
    for number, time in enumerate((at(2021, 8, 5), at(2021, 8, 31, 23), at(2021, 9), at(2021, 6))):
        await by_month.writer.load(call_of(book, number, time))
    assert [await rows_in(by_month, f"{table}_default") for table in months.KEYS] == [3, 3, 6, 3]
    before = await by_month.everything()
    made = await make_months(by_month.engine, 0, [at(2021, 8)])
    assert made == [f"{table}_2021_08" for table in months.KEYS]
    assert [await rows_in(by_month, f"{table}_2021_08") for table in months.KEYS] == [2, 2, 4, 2]
    assert [await rows_in(by_month, f"{table}_default") for table in months.KEYS] == [1, 1, 2, 1]
    assert await by_month.everything() == before
    await by_month.forget_cursors()
    again = await by_month.writer.load(list(call_of(Book(), 0, at(2021, 8, 5))))
    assert (again.calls, again.postings, again.dead_letters) == (0, 0, 0), "moved rows are still known"


async def test_the_one_who_loads_makes_the_months_to_come(postgres_database: str, by_month: Ledger) -> None:
    now_ms = await _now(by_month)
    wanted = [months.month_start(now_ms, later) for later in range(months.MONTHS_AHEAD + 1)]
    async with writing(by_month.engine) as connection:
        for name in [one.name for one in await partitions(by_month.engine) if one.from_ms in wanted]:
            await connection.execute(text(f"DROP TABLE faregate_ledger.{name}"))
    await by_month.writer.load(call_of(Book(), 1, now_ms))
    names = {(one.table, one.from_ms) for one in await partitions(by_month.engine)}
    assert {(table, start_ms) for table in months.KEYS for start_ms in wanted} <= names
    assert await rows_in(by_month, "call_default") == 0, "what came first has moved"


async def test_months_are_looked_for_seldom_not_with_every_batch(by_month: Ledger) -> None:
    keeper = MonthKeeper(by_month.engine)
    await keeper.keep()
    seen = by_month.watch()
    for _ in range(5):
        await keeper.keep()
    assert seen.asked == []


async def test_makers_at_once_do_not_disturb_each_other(postgres_database: str, by_month: Ledger) -> None:
    engines = [open_engine(postgres_database, None, "ledger") for _ in range(3)]  # type: ignore[arg-type]
    wanted = [at(2022, month) for month in range(1, 5)]
    book = Book()

    async def load() -> None:
        for number in range(40):
            batch = call_of(book, number, wanted[number % 4] + number)
            while True:
                with contextlib.suppress(StoreUnavailable):  # the month was made while the row was on its way
                    await by_month.writer.load(batch)
                    break

    _, *made = await asyncio.gather(load(), *(make_months(engine, 0, wanted) for engine in engines))
    assert sorted(name for names in made for name in names) == sorted(
        f"{table}_2022_{month:02d}" for table in months.KEYS for month in range(1, 5)
    )
    assert (await by_month.totals())["calls"] == 40
    assert await by_month.count(DEAD_LETTER) == 0
    assert await rows_in(by_month, "call_default") == 0
    for engine in engines:
        await engine.dispose()


async def test_a_role_without_the_right_to_make_months_still_loads(
    postgres_database: str, by_month: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may only read and write, as careful operators have it: rows go to the default partition, and the log
    says once what to run."""
    role = f"writer_{make_url(postgres_database).database}"
    async with writing(by_month.engine) as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE ON SCHEMA faregate_ledger TO {role}",
            f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA faregate_ledger TO {role}",
        ):
            await connection.execute(text(statement))
    url = make_url(postgres_database).set(username=role).render_as_string(hide_password=False)
    engine = open_engine(url, None, "ledger")  # type: ignore[arg-type]
    try:
        now_ms = await _now(by_month)
        async with writing(by_month.engine) as connection:
            name = f"call_{months.month_name(months.month_start(now_ms, months.MONTHS_AHEAD))}"
            await connection.execute(text(f"DROP TABLE faregate_ledger.{name}"))
        loaded = await LedgerWriter(engine).load([*call_of(book := Book(), 1, at(2021, 10)), *call_of(book, 2, now_ms)])
        assert (loaded.calls, loaded.dead_letters) == (2, 0)
        assert await rows_in(by_month, "call_default") == 1
        assert "faregate db upgrade" in caplog.text
        keeper = MonthKeeper(engine)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            await keeper.keep()
            await keeper.keep()
        assert len(caplog.records) == 1, "once, not with every batch"
    finally:
        await engine.dispose()
        async with writing(by_month.engine) as connection:
            await connection.execute(text(f"DROP OWNED BY {role}"))
            await connection.execute(text(f"DROP ROLE {role}"))


async def test_a_month_does_not_wait_for_a_long_report(postgres_database: str, by_month: Ledger) -> None:
    """Whoever waits for an exclusive lock has everybody else wait behind it: so not for long."""
    other = open_engine(postgres_database, None, "ledger")  # type: ignore[arg-type]
    async with reading(other) as report:
        await report.execute(text("SELECT count(*) FROM faregate_ledger.call"))
        with pytest.raises(StoreUnavailable, match=r"LockNotAvailable|lock timeout"):
            await make_months(by_month.engine, 0, [at(2021, 7)])
        loaded = await by_month.writer.load(call_of(Book(), 1, at(2021, 3)))
    assert loaded.calls == 1
    assert await make_months(by_month.engine, 0, [at(2021, 7)])
    await other.dispose()


async def _now(ledger: Ledger) -> int:
    async with reading(ledger.engine) as connection:
        return await connection.run_sync(months.now_of)


# ---------------------------------------------------------------- months are taken out


async def test_a_detached_month_keeps_its_sums_and_its_rows(by_month: Ledger) -> None:
    book = Book()
    times = [at(2021, month, 15) for month in range(1, 7)]
    for number, time in enumerate(times):
        await by_month.writer.load(call_of(book, number, time))
    before = await by_month.totals()
    taken = await detach(by_month.engine, at(2021, 3), keep_days=7)
    assert [one.name for one in taken] == [f"{table}_2021_{month:02d}" for table in months.KEYS for month in (1, 2)]
    assert await by_month.totals() == before
    assert await by_month.count(CALL) == 4
    assert await rows_in(by_month, "call_2021_01") == 1
    proof = SqlLedgerProof(by_month.engine)
    assert await proof.verify_sums() == []
    assert await proof.kept_from_ms() == at(2021, 3)
    counts = await proof.counts()
    assert (counts.calls, counts.postings, counts.open_attempts, counts.orphan_lines) == (4, 4, 0, 0)
    assert next(one.from_ms for one in await partitions(by_month.engine) if one.table == "call") == at(2021, 3)
    queries = SqlLedgerQueries(by_month.engine)
    assert await queries.call(SCOPE, ident(0, times[0])) is None
    assert await queries.call(SCOPE, ident(4, times[2])) is not None
    async with writing(by_month.engine) as connection:
        await connection.execute(text("UPDATE faregate_ledger.ledger_line SET effective_nusd = effective_nusd + 1"))
    assert len(await proof.verify_sums()) == 4, "what is still there is still proved"


async def test_what_comes_late_for_a_detached_month_is_kept_and_counted(by_month: Ledger) -> None:
    await by_month.writer.load(call_of(book := Book(), 1, at(2021, 1, 15)))
    await detach(by_month.engine, at(2021, 2), keep_days=7)
    loaded = await by_month.writer.load(call_of(book, 2, at(2021, 1, 16)))
    assert (loaded.calls, loaded.dead_letters) == (1, 0)
    assert (await by_month.totals())["calls"] == 2
    assert await rows_in(by_month, "call_default") == 1
    proof = SqlLedgerProof(by_month.engine)
    assert await proof.verify_sums() == []
    await by_month.writer.load(call_of(book, 3, at(2021, 2, 16)))
    assert await proof.calls_of(book.journal_id, 0, book.seq) == 1, "of months that are still whole"
    with pytest.raises(BadRequest, match="2021-01 was detached"):
        await make_months(by_month.engine, 0, [at(2021, 1)])


async def test_young_months_are_not_detached(by_month: Ledger) -> None:
    now_ms = await _now(by_month)
    for before_ms in (months.month_start(now_ms), months.month_start(now_ms, 1)):
        with pytest.raises(BadRequest, match="kept for 31 days"):
            await detach(by_month.engine, before_ms, keep_days=7)
    with pytest.raises(BadRequest, match="kept for 4001 days"):
        await detach(by_month.engine, months.month_start(now_ms, -100), keep_days=4_000)
    assert await detach(by_month.engine, at(2020, 12), keep_days=7) == []


# ---------------------------------------------------------------- queries open the months they need


async def test_queries_open_only_the_months_they_need(by_month: Ledger) -> None:
    book = Book()
    for number in range(240):
        await by_month.writer.load(call_of(book, number, at(2021, 1 + number % 6, 2 + number % 20)))
    await by_month.forget_cursors()
    async with writing(by_month.engine) as connection:  # freshness is that of June
        row = {"journal_id": ident(7), "seq": 1, "segment": 0, "offset": 0, "newest_ms": at(2021, 6, 25)}
        await connection.execute(JOURNAL_CURSOR.insert(), [row])
    queries = SqlLedgerQueries(by_month.engine)
    seen = by_month.watch()
    page = await queries.calls(SCOPE, limit=10)
    assert len(page) == 10
    assert {name for name in await seen.opened() if "2021" in name} == {"call_2021_06", "posting_2021_06"}
    await queries.calls(SCOPE, before_ms=at(2021, 3, 20), limit=10)
    assert await seen.opened() == {"call_2021_03", "posting_2021_03"}
    assert len(await queries.calls(QueryScope("acme", key_id="key_1"), before_ms=at(2021, 6, 20), limit=10)) == 10
    walked = await seen.opened()
    assert {name for name in walked if name.startswith("call")} == {f"call_2021_{month:02d}" for month in range(2, 7)}
    assert {name for name in walked if name.startswith("posting")} == {f"posting_2021_{month:02d}" for month in (5, 6)}
    assert await queries.call(SCOPE, ident(2 * 2, at(2021, 3, 4))) is not None
    assert await seen.opened() == {f"{table}_2021_03" for table in months.KEYS}


async def test_a_page_is_found_however_far_back_it_is(by_month: Ledger) -> None:
    """Pages read to the end give every call once: in months, before them and after them."""
    book = Book()
    times = [at(2019, 5, 3), at(2021, 1, 5), at(2021, 1, 5) + 1, at(2021, 4, 9), at(2021, 6, 1), at(2024, 2, 2)]
    for number, time in enumerate(times):
        await by_month.writer.load(call_of(book, number, time))
    queries = SqlLedgerQueries(by_month.engine)
    seen: list[int] = []
    before_ms, before_id = None, ""
    while rows := await queries.calls(SCOPE, before_ms=before_ms, before_id=before_id, limit=2):
        seen += [row.started_ms for row in rows]
        before_ms, before_id = rows[-1].started_ms, rows[-1].call_id
    assert seen == sorted(times, reverse=True)


async def test_an_attempt_far_from_its_calls_time_is_still_shown(by_month: Ledger) -> None:
    """A clock that was set right in the middle of a call."""
    call_id, attempt_id = ident(1, at(2021, 5, 9)), ident(2, at(2021, 1, 9))
    records = (hold(attempt_id, started_ms=at(2021, 5, 9)), settle(attempt_id, started_ms=at(2021, 5, 9)))
    await by_month.writer.load(Book().entries(call_id, records))
    found = await SqlLedgerQueries(by_month.engine).call(SCOPE, call_id)
    assert found is not None
    assert len(found[1]) == 1


# ---------------------------------------------------------------- arithmetic


@given(now_ms=st.integers(0, 2**47), later=st.integers(-200, 200))
def test_months_follow_each_other_without_a_gap(now_ms: int, later: int) -> None:
    if now_ms + later * 31 * DAY < 0 or now_ms // DAY > 1_000_000:
        return
    start, following = (months.month_start(now_ms, number) for number in (later, later + 1))
    assert 28 * DAY <= following - start <= 31 * DAY
    assert months.month_start(start) == start
    assert months.month_start(following - 1) == start
    assert months.first_id(start) < months.first_id(following)
    assert months.first_id(start) <= ident(1, start) < months.first_id(following)


def test_times_that_no_id_has_are_the_first_or_the_last() -> None:
    assert months.first_id(-5) == bytes(6)
    assert months.first_id(1 << 60) == b"\xff" * 6
