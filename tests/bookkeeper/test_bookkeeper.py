"""The whole bookkeeper: start, questions, stop, as part of a process and as one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from store.stores import Proxy, Store, postgres_database, postgres_server, proxy, store

from bookkeeper.test_publishing import Config
from bookkeeper.world import CLOCK, COUNTER, ENTROPY, HANG_S, Worker, settings_of, until, worker
from gateway.bookkeeper.bookkeeper import Bookkeeper
from gateway.bookkeeper.checkpoint import current_books
from gateway.bookkeeper.loading import Cursor, Loaded
from gateway.bookkeeper.standing import STATUS_NAME, behind_bytes, read_status
from gateway.bookkeeper.verify import verify
from gateway.channel.client import RemotePublisher, request
from gateway.channel.messages import Adopt, Adopted, AskStatus, Status
from gateway.core.records import Entry
from gateway.journal.folder import list_journals
from gateway.journal.reader import Position
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries_verify import SqlLedgerProof
from gateway.system import SystemClock

__all__ = ["postgres_database", "postgres_server", "proxy", "store"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, workers=0)


@asynccontextmanager
async def keeping(settings: Settings, url: str = "", clock: SystemClock = CLOCK) -> AsyncIterator[Bookkeeper]:
    await migrate.upgrade(url, settings.data_dir, "ledger")
    engine = open_engine(url, settings.data_dir, "ledger")
    config = Config()
    config.set_policy()
    bookkeeper = Bookkeeper(settings, LedgerWriter(engine), config, clock, ENTROPY)  # type: ignore[arg-type]
    await bookkeeper.start()
    try:
        yield bookkeeper
    finally:
        await bookkeeper.stop()
        await engine.dispose()


async def status_of(settings: Settings) -> Status:
    answer = await request(settings.bookkeeper_socket, AskStatus(), 2.0)
    assert isinstance(answer, Status)
    return answer


async def test_a_day_in_the_life(store: Store, settings: Settings) -> None:
    """Work, a death, an adoption, a clean stop; afterwards everything agrees with everything."""
    async with keeping(settings, store.url):
        first = Worker(settings)
        first.calls(40)
        first.begin()
        first.die()
        adopted = await request(settings.bookkeeper_socket, Adopt(), HANG_S)
        # By polling or by being asked: it is closed now, and a worker starts from this.
        assert adopted in (Adopted((first.name,)), Adopted(()))
        assert current_books(settings.journal_dir, settings.checkpoint_file).holds == {}
        second = Worker(settings)
        second.calls(60)
        second.stop()
    assert [journal.sealed_seq is not None for journal in list_journals(settings.journal_dir)] == [True, True]
    engine = open_engine(store.url, settings.data_dir, "ledger")
    report = await verify(settings.journal_dir, settings.checkpoint_file, SqlLedgerProof(engine))
    assert report.problems == []
    figures = report.figures
    assert (figures["calls"], figures["sql_calls"], figures["records_not_in_sql"]) == (101, 101, 0)
    assert figures["attempts_ended_once"] == figures["sql_postings"] == 101
    await engine.dispose()


async def test_the_figures_over_the_socket_and_in_the_file(settings: Settings) -> None:
    async with keeping(settings) as bookkeeper:
        with worker(settings) as writer:
            writer.calls(5)
            writer.begin()
            await until(lambda: bookkeeper.loader.records == 22 and len(bookkeeper.folder.books.holds) == 1)
            status = await status_of(settings)
            assert (status.loaded_calls, status.open_holds, status.behind_bytes, status.behind_ms) == (5, 1, 0, 0)
            assert (status.dead_letters, status.anomalies, status.store_fault, status.journal_fault) == (0, 0, "", "")
            assert (status.revision, status.workers) == (1, 0)
            file = settings.run_dir / STATUS_NAME
            await until(lambda: (found := read_status(file)) is not None and found.loaded_calls == 5)
            assert file.stat().st_mode & 0o777 == 0o600
            assert await RemotePublisher(settings.bookkeeper_socket).publish(1, (), None)


async def test_the_recording_delay_is_said_while_sql_is_away(
    postgres_database: str, proxy: Proxy, settings: Settings
) -> None:
    async with keeping(settings, proxy.url(postgres_database)) as bookkeeper:
        with worker(settings) as writer:
            writer.calls(2)
            await until(lambda: bookkeeper.loader.calls == 2)
            proxy.cut()
            writer.calls(10)
            await until(lambda: bookkeeper.loader.fault)
            await asyncio.sleep(0.2)
            status = await status_of(settings)
            assert status.behind_bytes > 1_000
            assert 100 < status.behind_ms < 5_000
            assert status.store_errors >= 1
            assert "SQL did not answer" in status.store_fault
            assert bookkeeper.folder.books.standing(COUNTER) == (360, 0), "the fold does not wait for SQL"
            proxy.mend()
            await until(lambda: bookkeeper.loader.calls == 12)
            assert (await status_of(settings)).behind_ms == 0


class Moved(SystemClock):
    """The machine's clock, ahead by `ms`."""

    ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ms


async def test_a_night_without_calls_is_no_recording_delay(
    postgres_database: str, proxy: Proxy, settings: Settings
) -> None:
    clock = Moved()
    async with keeping(settings, proxy.url(postgres_database), clock) as bookkeeper:
        with worker(settings) as writer:
            writer.calls(2)
            await until(lambda: bookkeeper.loader.calls == 2)
            clock.ms = 36_000_000
            assert bookkeeper.status().behind_ms == 0
            proxy.cut()
            writer.calls(1)
            await until(lambda: bookkeeper.status().behind_bytes)
            assert bookkeeper.status().behind_ms < 5_000
            clock.ms = 72_000_000
            assert bookkeeper.status().behind_ms >= 36_000_000, "and SQL away for a night is one"
            proxy.mend()


async def test_a_stop_is_over_in_time_without_sql_and_nothing_is_lost(
    postgres_database: str, proxy: Proxy, settings: Settings
) -> None:
    url = proxy.url(postgres_database)
    async with keeping(settings, url) as bookkeeper:
        writer = Worker(settings)
        proxy.cut()
        writer.calls(10)
        await until(lambda: bookkeeper.loader.fault)
        writer.stop()
        await bookkeeper.stop()
        await bookkeeper.stop()
        assert bookkeeper.loader.calls == 0
    proxy.mend()
    async with keeping(settings, url) as bookkeeper:
        await until(lambda: bookkeeper.loader.calls == 10)


async def test_a_stop_loads_the_last_records(settings: Settings) -> None:
    async with keeping(settings) as bookkeeper:
        with worker(settings) as writer:
            writer.calls(300)
    assert bookkeeper.loader.calls == 300
    assert not settings.bookkeeper_socket.exists()


async def test_a_failing_fold_goes_on_from_the_checkpoint(settings: Settings) -> None:
    """Whatever was half applied is not saved: a new folder folds it again."""
    async with keeping(settings) as bookkeeper:
        with worker(settings) as writer:
            writer.calls(3)
            await until(lambda: bookkeeper.folder.books.standing(COUNTER)[0] == 90)
            broken = bookkeeper.folder
            broken.books = None  # type: ignore[assignment]
            writer.calls(3)
            await until(lambda: bookkeeper.folder is not broken)
            await until(lambda: bookkeeper.folder.books.standing(COUNTER) == (180, 0))


def test_bytes_behind() -> None:
    journal, other = b"a", b"b"
    there = {journal: Position(3, 500, 90), other: Position(1, 200, 4)}
    assert behind_bytes(there, there, 1_000) == 0
    assert behind_bytes(there, {journal: Position(3, 400, 80), other: there[other]}, 1_000) == 100
    assert behind_bytes(there, {journal: Position(1, 900, 10), other: there[other]}, 1_000) == 1_600
    assert behind_bytes(there, {journal: there[journal]}, 1_000) == 200


PROCESS = """
import asyncio, sys
from pathlib import Path
from bookkeeper.world import CLOCK, ENTROPY, settings_of
from gateway.bookkeeper.bookkeeper import run_bookkeeper
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter

async def main():
    settings = settings_of(Path(sys.argv[1]))
    await migrate.upgrade("", settings.data_dir, "ledger")
    engine = open_engine("", settings.data_dir, "ledger")
    await run_bookkeeper(settings, LedgerWriter(engine), None, CLOCK, ENTROPY, lambda: print("ready", flush=True))
    await engine.dispose()

asyncio.run(main())
"""


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, str(folder), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert started.stdout is not None
    assert await started.stdout.readline() == b"ready\n"
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def stopped(settings: Settings, folder: Path, calls: int) -> None:
    """Starts and stops the bookkeeper until `calls` are in SQL: one stop has 4 s for it, and a busy disk may want more.

    What one stop did not load stays in the journals for the next.
    """
    for _ in range(10):
        async with process(folder) as running:
            running.send_signal(signal.SIGTERM)
            assert await running.wait() == 0
        if await calls_in_sql(settings) == calls:
            return
    raise AssertionError(f"{await calls_in_sql(settings)} of {calls} calls are in SQL after ten stops")


async def calls_in_sql(settings: Settings) -> int:
    engine = open_engine("", settings.data_dir, "ledger")
    try:
        return (await SqlLedgerProof(engine).counts()).calls
    finally:
        await engine.dispose()


async def test_sigterm_loads_the_rest_and_ends(settings: Settings, tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        writer = Worker(settings)
        writer.calls(500)
        writer.stop()
        running.send_signal(signal.SIGTERM)
        assert await running.wait() == 0
    if await calls_in_sql(settings) != 500:
        await stopped(settings, tmp_path, 500)


class Stuck:
    """A ledger that never has written a batch, as under a load that never ends."""

    def __init__(self) -> None:
        self.asked = 0

    async def cursors(self) -> Mapping[bytes, Cursor]:
        return {}

    async def load(self, batch: Sequence[Entry], tags: Collection[str] = ()) -> Loaded:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError("an event nobody sets was set")


async def test_a_successor_is_left_what_is_not_loaded(settings: Settings) -> None:
    """While this one went on loading, nobody would publish a changed key."""
    config, stuck = Config(), Stuck()
    config.set_policy()
    first = Bookkeeper(settings, stuck, config, CLOCK, ENTROPY)  # type: ignore[arg-type]
    await first.start()
    with worker(settings) as writer:
        writer.calls(5)
        await until(lambda: stuck.asked == 1)
        await first.stop(load=False)
        assert stuck.asked == 1
        writer.calls(5)
        async with keeping(settings) as second:
            await until(lambda: second.loader.calls == 10)


async def test_sigusr1_ends_it_for_a_successor_that_waits(settings: Settings, tmp_path: Path) -> None:
    """Three in a row while calls end all the time: each goes on where the one before it was."""
    with worker(settings) as writer:
        for _ in range(3):
            async with process(tmp_path) as running:
                for _ in range(10):
                    writer.calls(10)
                    await asyncio.sleep(0.01)
                running.send_signal(signal.SIGUSR1)
                assert await running.wait() == 0
    await stopped(settings, tmp_path, 300)


async def test_killed_again_and_again_it_counts_everything_once(settings: Settings, tmp_path: Path) -> None:
    """kill -9 of the bookkeeper at ten moments while a worker writes."""
    with worker(settings) as writer:
        for number in range(10):
            async with process(tmp_path) as running:
                for _ in range(number + 2):
                    writer.calls(15)
                    await asyncio.sleep(0.02)
                running.kill()
                await running.wait()
        total = writer.journal.last_seq // 4
    await stopped(settings, tmp_path, total)
    engine = open_engine("", settings.data_dir, "ledger")
    report = await verify(settings.journal_dir, settings.checkpoint_file, SqlLedgerProof(engine))
    assert report.problems == []
    assert (report.figures["calls"], report.figures["sql_calls"]) == (total, total)
    assert report.figures["effective_nusd"] == total * 30
    await engine.dispose()
