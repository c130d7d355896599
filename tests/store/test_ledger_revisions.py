"""Every revision of the ledger up, down and up again with rows in it; and this version on the schema before its own."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.core.queries import QueryScope
from gateway.store import migrate, months
from gateway.store.engine import is_sqlite, open_engine, reading, writing
from gateway.store.ledger_careful import CarefulBatch
from gateway.store.ledger_statements import Statements
from gateway.store.ledger_straight import store_straight
from gateway.store.ledger_tables import LedgerTable
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.month_keeper import detach, partitions
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import T0, Book, calls, end, hold, ident, line, settle
from store.ledgers import Ledger
from store.months_made import at, by_month
from store.stores import Store, postgres_database, postgres_server, store

__all__ = ["by_month", "postgres_database", "postgres_server", "store"]

SCOPE = QueryScope("acme")
ADDED = {
    *("reported_nusd", "detached"),
    *("billed_nusd", "region", "unknown_usage", "takes", "counted_ms", "priced_calls", "correction_id"),
    *("uplift_ppm", "part", "currency", "native_nano"),
    *("margin_nusd", "prior_list_nusd", "prior_effective_nusd", "prior_margin_nusd", "correction", "period"),
    *("summed_by", "rollup_value", "period_chain"),
}


async def rows_of(engine: AsyncEngine) -> dict[str, list[dict[str, Any]]]:
    """Every table that is there, without what later revisions have added to it."""
    schema = "" if is_sqlite(engine) else "faregate_ledger."
    found: dict[str, list[dict[str, Any]]] = {}
    async with reading(engine) as connection:
        for name in sorted(set(LedgerTable.metadata.tables) - ADDED):
            rows = await connection.execute(text(f'SELECT * FROM {schema}"{name}"'))
            kept = [{word: row[word] for word in row if word not in ADDED} for row in rows.mappings()]
            found[name] = sorted(kept, key=lambda row: [str(value) for value in row.values()])
    return found


def reporting(book: Book, number: int, nusd: int) -> list[Any]:
    """A call whose provider says itself what it cost, and where it computed it."""
    call_id, attempt_id = ident(number), ident(number + 1)
    records = (
        hold(attempt_id),
        end(attempt_id, (line("input", 10),), reported_nusd=nusd, region=f"r{nusd}"),
        settle(attempt_id, effective_nusd=10, list_nusd=10),
    )
    return book.entries(call_id, records)


async def test_rows_survive_every_revision_up_and_down(store: Store) -> None:
    """Written at the first revision, carried up to the newest, written on, carried back, and up again."""

    async def upgrade(revision: str) -> None:
        await migrate.upgrade(store.url, store.data_dir, "ledger", revision)

    await upgrade("0001")
    engine = open_engine(store.url, store.data_dir, "ledger")
    book = Book()
    await LedgerWriter(engine).load([*calls(60, book), *reporting(book, 9_000, 5)])
    await LedgerWriter(engine).load(book.entries(ident(8_000), [hold(ident(8_001))]))
    first = await rows_of(engine)
    for number in range(2, int(migrate.head("ledger")) + 1):
        await upgrade(f"{number:04d}")
        assert await rows_of(engine) == first, f"revision {number} changes rows"
        assert await SqlLedgerProof(engine).verify_sums() == []
    writer = LedgerWriter(engine)
    assert (await writer.load(list(calls(60, Book())))).stored == 0
    await writer.load(book.entries(ident(8_000), [end(ident(8_001)), settle(ident(8_001))]))
    await writer.load(reporting(book, 9_100, 7))
    newest = await rows_of(engine)
    for number in range(int(migrate.head("ledger")) - 1, 0, -1):
        await migrate.downgrade(store.url, store.data_dir, "ledger", f"{number:04d}")
        assert await rows_of(engine) == newest, f"the way back to {number} changes rows"
    assert (await LedgerWriter(engine).load(reporting(book, 9_200, 8))).calls == 1
    await upgrade("head")
    ledger = Ledger(engine, LedgerWriter(engine))
    assert (await ledger.totals())["calls"] == 64
    assert await SqlLedgerProof(engine).verify_sums() == []
    await ledger.forget_cursors()
    again = await ledger.writer.load(list(calls(60, Book())))
    assert (again.calls, again.postings, again.dead_letters) == (0, 0, 0), "keys are keys after every way"
    await engine.dispose()


async def test_rows_of_a_wrong_clock_are_carried_too(postgres_database: str) -> None:
    """Ids of the year 2100 were in the table when it was divided: they go to the default partition."""
    await migrate.upgrade(postgres_database, None, "ledger", "0001")  # type: ignore[arg-type]
    engine = open_engine(postgres_database, None, "ledger")  # type: ignore[arg-type]
    book = Book()
    await LedgerWriter(engine).load([*book.call(1), *book.call(2, started_ms=4_102_444_800_000)])
    before = await rows_of(engine)
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    assert await rows_of(engine) == before
    found = await partitions(engine)
    assert {one.table: one.rows for one in found if one.is_default} == dict(zip(months.KEYS, (1, 1, 2, 1), strict=True))
    old = [one for one in found if one.from_ms is None and not one.is_default]
    assert {one.table for one in old} == set(months.KEYS)
    assert len({one.to_ms for one in old}) == 1
    await migrate.downgrade(postgres_database, None, "ledger", "0001")  # type: ignore[arg-type]
    assert await rows_of(engine) == before
    await engine.dispose()


async def test_what_was_detached_is_remembered_on_every_way(by_month: Ledger, postgres_database: str) -> None:
    """Sums without rows are right for a detached month, and only for that: after a way back and up again, too."""
    await by_month.writer.load(Book().call(1, started_ms=at(2021, 1, 15)))
    await detach(by_month.engine, at(2021, 2), keep_days=7)
    proof = SqlLedgerProof(by_month.engine)
    for run, revision in ((migrate.downgrade, "0001"), (migrate.upgrade, "head")):
        await run(postgres_database, None, "ledger", revision)  # type: ignore[arg-type]
        assert await proof.verify_sums() == []
        assert await proof.kept_from_ms() == at(2021, 2)
    await migrate.downgrade(postgres_database, None, "ledger", "base")  # type: ignore[arg-type]
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    assert await proof.kept_from_ms() == 0


async def test_this_version_works_on_the_schema_before_its_own(store: Store) -> None:
    """N - 1: what a schema taken back under a running server means. Only what it has no column for is not stored."""
    previous = f"{int(migrate.head('ledger')) - 1:04d}"
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    writer, queries, book = LedgerWriter(engine), SqlLedgerQueries(engine), Book()
    await writer.load(reporting(book, 10, 5))
    assert await reported(queries, 10) == 5
    await migrate.downgrade(store.url, store.data_dir, "ledger", previous)
    await migrate.check_schema(engine, "ledger")
    batch = reporting(book, 20, 6)
    assert (await writer.load(batch)).calls == 1, "it looks at the schema with each batch"
    assert await reported(queries, 20) == 6
    with pytest.raises(StoreUnavailable, match="db upgrade"):
        await users(queries)
    assert len(await queries.calls(SCOPE)) == 2
    attempt = batch[0].record.attempt_id
    alarm = await writer.load(book.entries(batch[0].call_id, [end(attempt, (line("input", 99),))]))
    assert alarm.dead_letters == 1, "the careful way, too"
    assert await SqlLedgerProof(engine).verify_sums() == []
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    await writer.load(reporting(book, 30, 7))
    assert await reported(queries, 30) == 7
    assert await users(queries) == [("", 2), ("u1", 1)], "sums begin anew; what was there is none of them"
    await engine.dispose()


async def users(queries: SqlLedgerQueries) -> list[tuple[str, int]]:
    """What the newest revision added: (user, calls), those of no sum without a name."""
    rows = await queries.spend(SCOPE, ("user",), 0, T0 + 86_400_000)
    return sorted((row.group[0], row.calls) for row in rows)


async def reported(queries: SqlLedgerQueries, number: int) -> int | None:
    """What the revision before it added to a posting."""
    found = await queries.call(SCOPE, ident(number))
    assert found is not None
    assert found[1][0].effective_nusd == 10
    assert found[1][0].reported_nusd == {10: 5, 20: 6, 30: 7}[number]
    region = found[1][0].region
    return int(region[1:]) if region else None


async def test_the_version_before_this_one_writes_to_this_schema(store: Store) -> None:
    """N + 1: its statements know neither months nor newer columns."""
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    older = Statements(int(migrate.head("ledger")) - 1)
    book = Book()
    async with writing(engine) as connection:
        assert await store_straight(connection, older, [*book.call(1), *reporting(book, 10, 5)]) == (2, 2)
        careful = CarefulBatch(connection, older)
        await careful.store([*book.call(2), *book.entries(ident(10), [end(ident(11), (line("input", 1),))])])
        assert (careful.calls, len(careful.dead)) == (1, 1)
    queries = SqlLedgerQueries(engine)
    assert await reported(queries, 10) == 5
    assert await users(queries) == [("", 3)]
    assert await SqlLedgerProof(engine).verify_sums() == []
    await engine.dispose()


@pytest.mark.parametrize(("revision", "says"), [("0002", "which is before 0002"), ("0077", "no revision '0077'")])
async def test_a_way_back_that_is_none_is_refused(store: Store, revision: str, says: str) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger", "0001")
    with pytest.raises(BadRequest, match=says):
        await migrate.downgrade(store.url, store.data_dir, "ledger", revision)
    assert (await migrate.status(store.url, store.data_dir, "ledger")).current == "0001"


async def test_upgrade_makes_the_months_that_have_come_near(postgres_database: str) -> None:
    """For those whose bookkeeper may not: a cron job of `faregate db upgrade` is enough."""
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    engine = open_engine(postgres_database, None, "ledger")  # type: ignore[arg-type]
    before = await partitions(engine)
    async with writing(engine) as connection:
        for one in before:
            if one.to_ms is not None:
                await connection.execute(text(f"DROP TABLE faregate_ledger.{one.name}"))
    await migrate.upgrade(postgres_database, None, "ledger")  # type: ignore[arg-type]
    starts = {one.from_ms for one in await partitions(engine) if one.table == "posting" and not one.is_default}
    assert len(starts) == months.MONTHS_AHEAD + 1
    await engine.dispose()
