"""Corrections appended by the bookkeeper: each once, whoever dies when, and in the counters of whoever serves."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bookkeeper.test_bookkeeper import keeping
from bookkeeper.world import CLOCK, COUNTER, ENTROPY, HANG_S, SIZES, Worker, settings_of, until, worker
from gateway.bookkeeper.checkpoint import current_books
from gateway.bookkeeper.correcting import Corrector, first_record
from gateway.bookkeeper.folding import Folder
from gateway.bookkeeper.following import CORRECTIONS_BYTES, FollowedCorrections, Forerunners
from gateway.bookkeeper.loading import Loader
from gateway.bookkeeper.verify import verify
from gateway.channel.correcting import RemoteCorrecting
from gateway.core.charge import Charge, CostState, Line
from gateway.core.corrections import Appended, Span
from gateway.core.errors import Conflict, StoreUnavailable
from gateway.core.ids import make_id
from gateway.core.queries import QueryScope
from gateway.core.records import AnyRecord, Correct, Handover
from gateway.journal.folder import list_journals
from gateway.journal.reader import read_journal
from gateway.journal.writer import JournalWriter
from gateway.ledger.rerate import Run, correction
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries_rerate import SqlRerateQueries
from gateway.store.queries_verify import SqlLedgerProof

WRONG_NUSD, RIGHT_NUSD = 30, 3
CALLS = 6
Batch = list[tuple[bytes, Correct]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, workers=0)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    for part in ("config", "ledger"):
        await migrate.upgrade("", settings.data_dir, part)  # type: ignore[arg-type]
    engine = open_engine("", settings.data_dir, "ledger")
    yield engine
    await engine.dispose()


async def computed(engine: AsyncEngine, nusd: int = RIGHT_NUSD, run: bytes = b"r" * 16) -> Batch:
    """What the desk would send to make every call cost `nusd`."""
    page = await SqlRerateQueries(engine).page(QueryScope("acme"), Span(0, CLOCK.now_ms() + 1), b"", 1_000)
    line = Line("input", 1, nusd * 1_000, 1, nusd, nusd, "right")
    charge = Charge(CostState.PRICED, (line,), nusd, nusd)
    made = []
    for attempt in page.attempts:
        record = correction(attempt, charge, Run(run, "finance", "a test"), CLOCK.now_ms())
        if isinstance(record, Correct):
            made.append((attempt.call_id, record))
    return made


async def written(settings: Settings, engine: AsyncEngine) -> Batch:
    """Calls of a worker that has ended, in SQL, and what corrects them."""
    with worker(settings) as writer:
        writer.calls(CALLS)
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    await folder.adopt_orphans()
    folder.close()
    assert await Loader(settings.journal_dir, LedgerWriter(engine), CLOCK, ENTROPY).drain(HANG_S)
    batch = await computed(engine)
    assert len(batch) == CALLS
    return batch


async def agreed(settings: Settings, engine: AsyncEngine, *, nusd: int) -> None:
    """Nothing is wrong anywhere, every attempt costs that, and so do the counters."""
    report = await verify(settings.journal_dir, settings.checkpoint_file, SqlLedgerProof(engine))
    assert report.problems == []
    assert report.figures["effective_nusd"] == nusd
    assert current_books(settings.journal_dir, settings.checkpoint_file).standing(COUNTER) == (nusd, 0)


async def test_corrections_are_appended_once_however_often_they_are_asked_for(
    settings: Settings, engine: AsyncEngine
) -> None:
    batch = await written(settings, engine)
    async with keeping(settings) as bookkeeper:
        remote = RemoteCorrecting(settings.bookkeeper_socket)
        assert await remote.append(batch[:4]) == Appended(4, 0)
        assert await remote.append(batch[2:]) == Appended(4, 2)
        assert await remote.append(batch) == Appended(6, 6)
        other = await computed(engine, 5)
        assert await remote.append(batch[:1] + other[1:2]) == Appended(2, 1)
        late = [(call_id, record) for call_id, record in batch if record.attempt_id == other[1][1].attempt_id]
        assert await remote.append(late) == Appended(0, 0, (late[0][1].attempt_id,)), "another run was there first"
        assert bookkeeper.corrector.appended == 7
        assert bookkeeper.folder.anomalies == 0
    await agreed(settings, engine, nusd=(CALLS - 1) * RIGHT_NUSD + 5)


KILLED = [(when, number) for when in ("before", "after") for number in (1, 2, 5)]


@pytest.mark.parametrize(("when", "number"), KILLED, ids=[f"{when} append {number}" for when, number in KILLED])
async def test_killed_at_any_append_each_correction_counts_once(
    settings: Settings, engine: AsyncEngine, when: str, number: int
) -> None:
    """The first append is the journal's HANDOVER. The desk asks again, of the bookkeeper that comes after."""
    batch = await written(settings, engine)
    with process(settings, f"journal:{when}:{number}") as first:
        await until(settings.bookkeeper_socket.exists)
        asking = asyncio.create_task(RemoteCorrecting(settings.bookkeeper_socket).append(batch))
        await until(lambda: first.poll() is not None)
    assert first.returncode == -9
    async with keeping(settings):
        done = await asking
    assert (done.appended, done.stale) == (CALLS, ())
    assert done.again == max(0, number - 1 - (when == "before"))
    await agreed(settings, engine, nusd=CALLS * RIGHT_NUSD)


@contextmanager
def process(settings: Settings, failpoint: str) -> Iterator[subprocess.Popen[bytes]]:
    """A bookkeeper of its own that kills itself there."""
    environment = {
        **{word: value for word, value in os.environ.items() if not word.startswith("FAREGATE_")},
        "FAREGATE_DATA_DIR": str(settings.data_dir),
        "FAREGATE_FAILPOINT": failpoint,
        "PYTHONWARNINGS": "ignore",
    }
    started = subprocess.Popen([sys.executable, "-m", "gateway.roles", "bookkeeper"], env=environment)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


class Register:
    """What SQL knows, as far as it is told."""

    def __init__(self) -> None:
        self.seqs: dict[bytes, int] = {}
        self.known: dict[tuple[bytes, str], tuple[int, bytes]] = {}
        self.asked = 0

    async def reached(self, journal_ids: Sequence[bytes]) -> dict[bytes, int]:
        self.asked += 1
        return {one: self.seqs[one] for one in journal_ids if one in self.seqs}

    async def corrected(self, attempt_ids: Sequence[bytes]) -> dict[tuple[bytes, str], tuple[int, bytes]]:
        return {key: found for key, found in self.known.items() if key[0] in attempt_ids}


async def test_nothing_is_appended_while_earlier_corrections_are_not_in_sql(settings: Settings) -> None:
    """SQL is the register: what it does not have yet might be what is asked for."""
    register = Register()
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    corrector = Corrector(settings.journal_dir, register, lambda: folder, SIZES, CLOCK, ENTROPY)
    one, other = (
        (bytes(16), Correct(1, attempt_id * 16, 1, (), "test", state="priced", correction_id=b"r" * 16))
        for attempt_id in (b"a", b"b")
    )
    assert await corrector.append([one]) == Appended(1, 0)
    (journal,) = list_journals(settings.journal_dir)
    again = asyncio.create_task(corrector.append([one, other]))
    await until(lambda: register.asked > 3)
    assert not again.done(), "whether the first was appended, SQL cannot say yet"
    register.known[one[1].attempt_id, "rerate"] = (1, b"r" * 16)
    register.seqs[journal.journal_id] = 2
    assert await again == Appended(2, 1)
    corrector.close()
    assert [type(entry.record) for entry in read_journal(journal.path)] == [Handover, Correct, Correct]
    with pytest.raises(Conflict, match="taken over"):
        await corrector.append([other])
    await folder.adopt_orphans()
    register.seqs[journal.journal_id] = 3
    register.known[other[1].attempt_id, "rerate"] = (1, b"r" * 16)
    assert await corrector.append([other]) == Appended(1, 1)
    folder.close()


async def test_whether_all_is_loaded(settings: Settings, engine: AsyncEngine) -> None:
    await written(settings, engine)
    async with keeping(settings) as bookkeeper:
        remote = RemoteCorrecting(settings.bookkeeper_socket)
        assert await remote.all_loaded(CLOCK.now_ms() + 1) == ""
        with worker(settings) as writer:
            before_ms = CLOCK.now_ms()
            await asyncio.sleep(0.002)
            call_id, attempt_id = writer.begin()
            assert await remote.all_loaded(before_ms) == "", "it began later"
            assert "1 call of that time" in await remote.all_loaded(CLOCK.now_ms() + 1)
            writer.finish(call_id, attempt_id)
            assert await remote.all_loaded(CLOCK.now_ms() + 1) == ""
            assert bookkeeper.loader.fault == ""


async def test_without_a_bookkeeper_it_is_said(settings: Settings) -> None:
    with pytest.raises(StoreUnavailable, match="Start the gateway"):
        await RemoteCorrecting(settings.bookkeeper_socket, try_s=0.0).append([])


# ---------------------------------------------------------------- those who serve


def keeper(settings: Settings) -> JournalWriter:
    """A journal of corrections being written."""
    journal = JournalWriter.create(
        settings.journal_dir,
        make_id(CLOCK.now_ms(), ENTROPY.bytes(10)),
        clock=CLOCK,
        segment_bytes=SIZES.segment_bytes,
        reserve_bytes=SIZES.reserve_bytes,
        sync_ms=SIZES.sync_ms,
    )
    journal.append(Handover(CLOCK.now_ms(), b""), bytes(16))
    return journal


async def test_a_serving_worker_has_each_correction_once(settings: Settings, engine: AsyncEngine) -> None:
    """Those from before its start, from a journal that still grows, and from journals that come later."""
    batch = await written(settings, engine)
    before = keeper(settings)
    before.append(batch[0][1], batch[0][0])
    others = Forerunners(settings.journal_dir, settings.checkpoint_file)
    books = others.books
    own = Worker(settings)
    follower = FollowedCorrections(settings.journal_dir, {*others.known, own.journal.journal_id})

    def fold(record: AnyRecord, call_id: bytes) -> None:
        books.apply(record, call_id)

    assert others.admitting == [], "nobody is waited for"
    before.append(batch[1][1], batch[1][0])
    assert (others.poll(fold), follower.poll(fold)) == (1, 0)
    later = keeper(settings)
    own.calls(3)
    later.append(batch[2][1], batch[2][0])
    assert follower.poll(fold) == 2
    assert follower.poll(fold) == 0
    later.close()
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    await folder.adopt_orphans()
    folder.close()
    last = keeper(settings)
    last.append(batch[3][1], batch[3][0])
    assert follower.poll(fold) == 2
    assert follower._tails.keys() == {last.journal_id}, "what is sealed and read is left"
    assert books.standing(COUNTER) == (4 * RIGHT_NUSD + 2 * WRONG_NUSD, 0)
    assert books.anomaly_count == 0
    for journal in (before, last, own.journal):
        journal.close()
    others.close()
    fresh = Forerunners(settings.journal_dir, settings.checkpoint_file)
    assert fresh.books.standing(COUNTER) == (4 * RIGHT_NUSD + 5 * WRONG_NUSD, 0), "a worker that starts now has them"
    fresh.close()


async def test_calls_get_their_turn_while_a_thousand_corrections_are_followed(settings: Settings) -> None:
    """A re-rating appends a thousand at once; a worker that folded them in one go would answer nobody for 20 ms."""
    journal = keeper(settings)
    for number in range(1_000):
        record = Correct(CLOCK.now_ms(), number.to_bytes(16, "big"), 1, (), "why" * 100, state="priced")
        journal.append(record, bytes(16))
    folded = 0

    def fold(record: AnyRecord, call_id: bytes) -> None:
        nonlocal folded
        folded += 1

    following = asyncio.create_task(FollowedCorrections(settings.journal_dir, ()).run(fold))
    turns = [0]
    async with asyncio.timeout(HANG_S):
        while folded < 1_001:
            await asyncio.sleep(0)
            turns.append(folded)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    journal.close()
    steps = [after - before for before, after in itertools.pairwise(turns)]
    assert sum(steps) == 1_001
    assert max(steps) <= CORRECTIONS_BYTES // 300


async def test_journals_of_corrections_are_told_from_workers(settings: Settings, engine: AsyncEngine) -> None:
    batch = await written(settings, engine)
    (of_worker,) = list_journals(settings.journal_dir)
    assert first_record(of_worker.path) is False
    async with keeping(settings) as bookkeeper:
        await bookkeeper.corrector.append(batch)
        bookkeeper.corrector.close()
        await bookkeeper.folder.adopt_orphans()
        kept = [one for one in list_journals(settings.journal_dir) if one != of_worker]
        assert [(first_record(one.path), one.sealed_seq) for one in kept] == [(True, CALLS + 1)]
        records = [entry.record for entry in read_journal(kept[0].path)]
        assert [type(record) for record in records] == [Handover, *[Correct] * CALLS]
