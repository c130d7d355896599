"""Fold, checkpoint and adoption over real journals: equal to one fold of everything, whatever dies in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bookkeeper.world import CLOCK, COUNTER, SIZES, Worker, settings_of, worker
from gateway.bookkeeper.checkpoint import PRUNED_NAME, current_books, previous_file, read_checkpoint
from gateway.bookkeeper.folding import Folder, close_orphans
from gateway.core.errors import JournalUnreadable
from gateway.core.records import AttemptEnd, Settle, Void
from gateway.journal.folder import list_journals
from gateway.journal.reader import read_journal
from gateway.ledger.adopt import closing_records
from gateway.ledger.audit import audit
from gateway.ledger.fold import Books
from gateway.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def folder_of(settings: Settings) -> Folder:
    return Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)


def from_the_beginning(settings: Settings) -> Books:
    books = Books()
    for journal in list_journals(settings.journal_dir):
        for entry in read_journal(journal.path):
            books.apply(entry.record, entry.call_id)
    return books


def worker_books(settings: Settings) -> Books:
    return current_books(settings.journal_dir, settings.checkpoint_file)


def standing(books: Books) -> dict[str, tuple[int, int]]:
    return {name: (counter.spent, counter.reserved) for name, counter in books.counters.items()}


def test_a_checkpoint_anywhere_and_the_rest_of_the_journal_are_everything(settings: Settings) -> None:
    chance = random.Random(7)
    with worker(settings) as one, worker(settings) as other:
        for _ in range(40):
            writer = chance.choice((one, other))
            match chance.randrange(4):
                case 0:
                    writer.begin()
                case 1:
                    folder = folder_of(settings)
                    folder.step()
                    folder.save_now()
                    folder.close()
                case _:
                    writer.calls(chance.randrange(1, 20))
            books, again = worker_books(settings), from_the_beginning(settings)
            assert standing(books) == standing(again)
            assert books.holds.keys() == again.holds.keys()
            assert books.anomaly_count == 0


async def test_the_fold_follows_a_writer_and_saves_within_a_second_or_two(settings: Settings) -> None:
    folder = folder_of(settings)
    task = asyncio.create_task(folder.run())
    with worker(settings) as writer:
        for _ in range(30):
            writer.calls(20)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(3):
            while folder.books.standing(COUNTER)[0] != 600 * 30:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.3)
        checkpoint = read_checkpoint(settings.checkpoint_file)
        assert checkpoint is not None
        assert Books.load(checkpoint.books).standing(COUNTER) == (18_000, 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(settings: Settings) -> None:
    with worker(settings) as writer:
        folder = folder_of(settings)
        for _ in range(3):
            writer.calls(5)
            folder.catch_up()
            folder.save_now()
        folder.close()
        whole = settings.checkpoint_file.read_bytes()
        for damaged in (whole[:-1], b"", whole[:100] + b"x" + whole[101:], b"junk"):
            settings.checkpoint_file.write_bytes(damaged)
            assert standing(worker_books(settings)) == {COUNTER: (450, 0)}
            checkpoint = read_checkpoint(settings.checkpoint_file)
            assert checkpoint is not None
            assert Books.load(checkpoint.books).standing(COUNTER) == (300, 0)


def test_without_any_checkpoint_the_journals_are_folded_unless_their_beginning_is_gone(settings: Settings) -> None:
    with worker(settings) as writer:
        writer.calls(5)
        folder = folder_of(settings)
        folder.catch_up()
        folder.save_now()
        folder.close()
    for path in (settings.checkpoint_file, previous_file(settings.checkpoint_file)):
        path.write_bytes(b"junk")
    assert standing(worker_books(settings)) == {COUNTER: (150, 0)}
    (settings.journal_dir / PRUNED_NAME).touch()
    with pytest.raises(JournalUnreadable, match="Restore checkpoint"):
        worker_books(settings)
    with pytest.raises(JournalUnreadable):
        folder_of(settings)


def test_a_checkpoint_is_private_and_leaves_nothing_beside_it(settings: Settings) -> None:
    folder = folder_of(settings)
    folder.save_now()
    folder.close()
    assert settings.checkpoint_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.data_dir.iterdir()] == ["checkpoint.msgpack"]


def test_a_starting_worker_imports_no_sql() -> None:
    code = (
        "import sys, gateway.bookkeeper.checkpoint, gateway.channel.client\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('sqlalchemy', 'sqlmodel', 'alembic', 'asyncpg',"
        " 'aiosqlite', 'fastapi')]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- adoption


async def test_the_journal_of_the_dead_is_closed_and_everything_in_it_has_ended(settings: Settings) -> None:
    writer = Worker(settings)
    writer.calls(3)
    writer.begin(dispatched=True)
    writer.begin(dispatched=False)
    writer.die()
    folder = folder_of(settings)
    assert await folder.adopt_orphans() == ((writer.name,), "")
    (journal,) = list_journals(settings.journal_dir)
    entries = list(read_journal(journal.path))
    assert journal.sealed_seq == entries[-1].seq == 4 * 3 + 3 + 4
    found = audit(entries)
    assert found.clean
    closing = [entry.record for entry in entries[-4:]]
    assert [type(record) for record in closing] == [AttemptEnd, Settle, Void, Settle]
    assert [record.outcome for record in closing if isinstance(record, Settle)] == ["crashed", "crashed"]
    assert folder.books.holds == {}
    folder.close()
    checkpoint = read_checkpoint(settings.checkpoint_file)
    assert checkpoint is not None
    assert Books.load(checkpoint.books).holds == {}
    assert checkpoint.positions()[journal.journal_id].seq == journal.sealed_seq
    assert standing(worker_books(settings)) == standing(from_the_beginning(settings))


async def test_the_living_are_left_alone(settings: Settings) -> None:
    with worker(settings) as alive:
        alive.begin()
        dead = Worker(settings)
        dead.begin()
        dead.die()
        folder = folder_of(settings)
        assert await folder.adopt_orphans() == ((dead.name,), "")
        assert await folder.adopt_orphans() == ((), "")
        folder.step()
        assert len(folder.books.holds) == 1
        folder.close()


async def test_open_calls_belong_to_their_journal_even_across_a_restart(settings: Settings) -> None:
    """The checkpoint says whose a call is; adopting one journal never ends another's calls."""
    with worker(settings) as alive:
        dead = Worker(settings)
        living = [alive.begin() for _ in range(3)]
        for _ in range(3):
            dead.begin()
        first = folder_of(settings)
        first.catch_up()
        first.save_now()
        first.close()
        dead.die()
        second = folder_of(settings)
        assert (await second.adopt_orphans())[0] == (dead.name,)
        second.catch_up()
        assert {hold.call_id for hold in second.books.holds.values()} == {call_id for call_id, _ in living}
        for call_id, attempt_id in living:
            alive.finish(call_id, attempt_id)
        second.catch_up()
        assert (second.books.holds, second.anomalies) == ({}, 0)
        second.close()


async def test_an_adopter_that_dies_half_way_is_followed_by_another(settings: Settings) -> None:
    """Closing records appended, then killed before the seal: the next appends only what is missing."""
    from gateway.journal.adoption import adopt

    writer = Worker(settings)
    for _ in range(4):
        writer.begin()
    writer.die()
    (journal,) = list_journals(settings.journal_dir)
    first = adopt(journal.path, clock=CLOCK, segment_bytes=256 * 1024, reserve_bytes=65_536, sync_ms=1)
    assert first is not None
    for call_id, record in closing_records(from_the_beginning(settings), CLOCK.now_ms())[:3]:
        first.writer.append(record, call_id)
    first.release()
    folder = folder_of(settings)
    await folder.adopt_orphans()
    folder.close()
    found = audit(read_journal(journal.path))
    assert (found.clean, found.ended_once, found.settled_once) == (True, 4, 4)


def test_orphans_are_closed_without_a_loop_too(settings: Settings) -> None:
    writer = Worker(settings)
    writer.begin()
    writer.die()
    sizes = (settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    assert close_orphans(*sizes) == (writer.name,)
    assert close_orphans(*sizes) == ()
    assert worker_books(settings).holds == {}


KILLED = """
import os, signal, sys
from pathlib import Path
from bookkeeper.world import Worker, settings_of
writer = Worker(settings_of(Path(sys.argv[1])))
opened = []
print("ready", flush=True)
while True:
    opened.append(writer.begin())
    if len(opened) > 20:
        writer.finish(*opened.pop(0))
"""


@pytest.mark.parametrize("seed", range(3))
async def test_kill_9_at_any_moment_loses_nothing_and_is_put_right_within_two_seconds(
    settings: Settings, tmp_path: Path, seed: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    folder = folder_of(settings)
    stop = time.monotonic() + random.Random(seed).uniform(0.2, 0.8)
    while time.monotonic() < stop:
        folder.step()
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    adopted, failed = await folder.adopt_orphans()
    folder.close()
    assert (len(adopted), failed) == (1, "")
    (journal,) = list_journals(settings.journal_dir)
    found = audit(read_journal(journal.path))
    assert found.clean
    assert found.attempts > 20
    assert standing(worker_books(settings)) == {COUNTER: (found.spent[COUNTER], 0)}


async def test_name_servers_that_do_not_answer_hold_up_no_checkpoint(settings: Settings) -> None:
    """Names are looked up in the loop's own few threads: here all of them wait, and more do for their turn."""
    answered = threading.Event()
    loop = asyncio.get_running_loop()
    asked = [loop.run_in_executor(None, answered.wait, 60) for _ in range(100)]
    folder = folder_of(settings)
    try:
        with worker(settings) as one:
            one.calls(3)
            folder.step()
            async with asyncio.timeout(30):
                await folder.save()
        assert folder.saved_ms > 0
    finally:
        folder.close()
        answered.set()
        await asyncio.gather(*asked)
    assert standing(worker_books(settings)) == standing(from_the_beginning(settings))
