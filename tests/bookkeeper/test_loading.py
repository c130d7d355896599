"""Journals into SQL through outages, races and restarts: every record once, and soon."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from store.stores import Proxy, Store, postgres_database, postgres_server, proxy, store

from bookkeeper.world import CLOCK, ENTROPY, HANG_S, Worker, settings_of, until, worker
from gateway.bookkeeper import loading
from gateway.bookkeeper.loading import Loader
from gateway.core.errors import StoreUnavailable
from gateway.core.queries import QueryScope
from gateway.core.records import Entry, Stat
from gateway.journal.format import RECORD_HEADER_BYTES, pack_record
from gateway.journal.reader import CHUNK_BYTES, JournalTail
from gateway.journal.segment import segment_path
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import open_engine, reading, writing
from gateway.store.ledger_tables import CALL, DEAD_LETTER, ROLLUP_HOUR, LedgerTable
from gateway.store.ledger_writer import Cursor, LedgerWriter, Loaded
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_verify import SqlLedgerProof

__all__ = ["postgres_database", "postgres_server", "proxy", "store"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture
async def engine(store: Store) -> AsyncIterator[AsyncEngine]:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    yield engine
    await engine.dispose()


@contextlib.asynccontextmanager
async def running(loader: Loader) -> AsyncIterator[Loader]:
    task = asyncio.create_task(loader.run())
    try:
        yield loader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def loader_of(settings: Settings, engine: AsyncEngine) -> Loader:
    return Loader(settings.journal_dir, LedgerWriter(engine), CLOCK, ENTROPY)


async def sums(engine: AsyncEngine) -> tuple[int, int]:
    """(calls, nano-USD) of the rollups, proved against the rows they come from."""
    assert await SqlLedgerProof(engine).verify_sums() == []
    query = select(*(func.coalesce(func.sum(ROLLUP_HOUR.c[word]), 0) for word in ("calls", "effective_nusd")))
    async with reading(engine) as connection:
        calls, nusd = (await connection.execute(query)).one()
    return int(calls), int(nusd)


async def test_a_call_is_seen_within_five_seconds_of_its_end(settings: Settings, engine: AsyncEngine) -> None:
    queries = SqlLedgerQueries(engine)
    with worker(settings) as writer:
        async with running(loader_of(settings, engine)):
            call_id, attempt_id = writer.begin()
            writer.finish(call_id, attempt_id)
            started = time.monotonic()
            while True:
                found = await queries.call(QueryScope("acme"), call_id)
                if found is not None and found[0].outcome == "ok":
                    break
                assert time.monotonic() - started < HANG_S
                await asyncio.sleep(0.02)
            assert found[1][0].effective_nusd == 30


async def test_a_backlog_of_several_journals_is_loaded_to_the_end(settings: Settings, engine: AsyncEngine) -> None:
    for _ in range(3):
        with worker(settings) as writer:
            writer.calls(200)
    with worker(settings) as writer:
        writer.calls(50)
        loader = loader_of(settings, engine)
        assert await loader.drain(20.0)
        assert (loader.calls, loader.records, loader.dead_letters) == (650, 2_600, 0)
        assert await sums(engine) == (650, 19_500)
        writer.calls(7)
        assert await loader.drain(5.0)
        assert await sums(engine) == (657, 19_710)


async def test_a_loader_goes_on_from_sqls_cursor(settings: Settings, engine: AsyncEngine) -> None:
    with worker(settings) as writer:
        writer.calls(40)
        assert await loader_of(settings, engine).drain(5.0)
        writer.calls(2)
        second = loader_of(settings, engine)
        assert await second.drain(5.0)
        assert second.records == 8
        assert await sums(engine) == (42, 1_260)


async def test_loaders_racing_for_the_same_journals_do_nothing_twice(settings: Settings, store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engines = [open_engine(store.url, store.data_dir, "ledger") for _ in range(3)]
    with worker(settings) as writer:
        loaders = [loader_of(settings, engine) for engine in engines]
        async with contextlib.AsyncExitStack() as stack:
            for loader in loaders:
                await stack.enter_async_context(running(loader))
            for _ in range(20):
                writer.calls(15)
                await asyncio.sleep(0.02)
            await until(lambda: sum(loader.records for loader in loaders) >= 1_200)
            await asyncio.sleep(0.3)
        assert sum(loader.records for loader in loaders) == 1_200
        assert sum(loader.dead_letters for loader in loaders) == 0
        assert await sums(engines[0]) == (300, 9_000)
    for engine in engines:
        await engine.dispose()


async def test_cancelled_at_any_moment_it_loses_and_doubles_nothing(settings: Settings, engine: AsyncEngine) -> None:
    with worker(settings) as writer:
        for number in range(25):
            writer.calls(20)
            async with running(loader_of(settings, engine)):
                await asyncio.sleep(0.004 * number)
        assert await loader_of(settings, engine).drain(10.0)
        assert await sums(engine) == (500, 15_000)


async def test_sql_away_and_back(settings: Settings, postgres_database: str, proxy: Proxy) -> None:
    """F26: usage stays in the journals while SQL is away; after its return everything is there, once."""
    url = proxy.url(postgres_database)
    await migrate.upgrade(url, settings.data_dir, "ledger")
    engine = open_engine(url, settings.data_dir, "ledger")
    with worker(settings) as writer:
        async with running(loader_of(settings, engine)) as loader:
            writer.calls(30)
            await until(lambda: loader.calls == 30)
            for cut in (b"COMMIT", b"COPY", b"INSERT", b"SELECT", b"BEGIN"):
                proxy.cut_at(cut)
                before = loader.errors
                writer.calls(100)
                await until(lambda before=before: loader.errors > before)
                assert loader.fault.startswith("SQL did not answer")
                writer.calls(100)
                proxy.mend()
                await until(lambda: not loader.fault, 35)
            writer.calls(1)
            await asyncio.sleep(0.5)
            await until(lambda: loader.positions[writer.journal.journal_id].seq == writer.journal.last_seq)
        assert await sums(engine) == (1_031, 30_930)
        async with reading(engine) as connection:
            assert (await connection.execute(select(func.count()).select_from(DEAD_LETTER))).scalar_one() == 0
    await engine.dispose()


async def test_a_database_that_goes_back_in_time_is_loaded_again(settings: Settings, engine: AsyncEngine) -> None:
    """A backup restored, or a replica that lacked the last transactions, under a running loader: no gap, no double."""
    tables = LedgerTable.metadata.sorted_tables
    with worker(settings) as writer, worker(settings) as other:
        async with running(loader_of(settings, engine)) as loader:
            writer.calls(100)
            await until(lambda: loader.calls == 100)
            async with reading(engine) as connection:
                backup = {
                    table: [dict(r) for r in (await connection.execute(select(table))).mappings()] for table in tables
                }
            other.calls(150)
            await until(lambda: loader.calls == 250)
            async with writing(engine) as connection:
                for table in tables:
                    await connection.execute(table.delete())
                    if backup[table]:
                        await connection.execute(table.insert(), backup[table])
            assert await sums(engine) == (100, 3_000)
            writer.calls(10)
            await until(lambda: loader.calls == 250 + 10 + 150)
        assert await sums(engine) == (260, 7_800)
        async with reading(engine) as connection:
            assert (await connection.execute(select(func.count()).select_from(DEAD_LETTER))).scalar_one() == 0


async def test_no_schema_yet_is_waited_for(settings: Settings, store: Store) -> None:
    engine = open_engine(store.url, store.data_dir, "ledger")
    with worker(settings) as writer:
        writer.calls(3)
        async with running(loader_of(settings, engine)) as loader:
            await until(lambda: loader.errors)
            assert "faregate db upgrade" in loader.fault
            await migrate.upgrade(store.url, store.data_dir, "ledger")
            await until(lambda: loader.calls == 3)
    await engine.dispose()


async def test_a_record_of_a_newer_version_stops_its_journal_and_no_other(
    settings: Settings, engine: AsyncEngine
) -> None:
    with worker(settings) as old, worker(settings) as new:
        old.calls(2)
        new.calls(5)
        offset = _end_of(new)
        path = segment_path(new.journal.directory, 1)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(pack_record(77, new.journal.last_seq + 1, b"c" * 16, b"\x90"))
        async with running(loader_of(settings, engine)) as loader:
            await until(lambda: loader.calls == 7)
            await until(lambda: loader.journal_faults)
            assert "newer version" in next(iter(loader.journal_faults.values()))
            old.calls(1)
            await until(lambda: loader.calls == 8)


def _end_of(writer: Worker) -> int:
    """Where the next record would be written."""
    tail = JournalTail(writer.journal.directory)
    while tail.poll():
        continue
    tail.close()
    return tail.position.offset


async def test_refusal_counts_are_loaded_once(settings: Settings, engine: AsyncEngine) -> None:
    with worker(settings) as writer:
        writer.journal.append(Stat(CLOCK.now_ms(), {"invalid_api_key": 4}), b"")
        for _ in range(2):
            assert await loader_of(settings, engine).drain(5.0)
    async with reading(engine) as connection:
        assert (await connection.execute(select(func.count()).select_from(CALL))).scalar_one() == 0


class Refusing:
    """A ledger that is away for a while, then keeps what it gets."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked_s: list[float] = []
        self.batches: list[list[Entry]] = []

    async def cursors(self) -> dict[bytes, Cursor]:
        return {}

    async def load(self, batch: Sequence[Entry], tags: Collection[str] = ()) -> Loaded:
        self.asked_s.append(time.monotonic())
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        self.batches.append(list(batch))
        return Loaded(stored=len(batch))


async def test_pauses_grow_and_the_batch_that_failed_comes_again_first(settings: Settings) -> None:
    ledger = Refusing(failures=4)
    with worker(settings) as writer:
        writer.calls(3_000)
        loader = Loader(settings.journal_dir, ledger, CLOCK, ENTROPY)
        assert await loader.drain(60.0)
    pauses = [after - before for before, after in zip(ledger.asked_s, ledger.asked_s[1:], strict=False)][:4]
    longest = [loading.FIRST_RETRY_S * 2**number for number in range(4)]
    assert all(0.09 <= pause <= most + 0.2 for pause, most in zip(pauses, longest, strict=True))
    assert [entry.seq for batch in ledger.batches for entry in batch] == list(range(1, 12_001))
    # One read goes on to the end of a chunk of the journal.
    most = loading.BATCH_RECORDS + loading.READ_RECORDS + CHUNK_BYTES // RECORD_HEADER_BYTES
    assert max(len(batch) for batch in ledger.batches) <= most
    assert len(ledger.batches) <= 12_000 // loading.BATCH_RECORDS + 1, "a backlog comes in whole batches"
    assert (loader.errors, loader.fault) == (4, "")


async def test_a_batch_read_but_not_written_is_read_again_by_the_last_load(settings: Settings) -> None:
    """A stop cancels the loader in the middle of a batch and then lets the same loader finish."""
    ledger = Refusing(failures=10**9)
    with worker(settings) as writer:
        writer.calls(10)
        loader = Loader(settings.journal_dir, ledger, CLOCK, ENTROPY)
        async with running(loader):
            await until(lambda: ledger.asked_s)
        ledger.failures = 0
        assert await loader.drain(5.0)
    assert [entry.seq for batch in ledger.batches for entry in batch] == list(range(1, 41))
