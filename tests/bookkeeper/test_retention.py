"""Segments go when SQL and both checkpoints are past them and they are old; never before, never more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bookkeeper.world import CLOCK, COUNTER, SIZES, Worker, settings_of, worker
from gateway.bookkeeper.checkpoint import PRUNED_NAME, current_books, previous_file
from gateway.bookkeeper.folding import Folder
from gateway.bookkeeper.retention import prune
from gateway.bookkeeper.verify import verify
from gateway.journal.folder import list_journals
from gateway.journal.reader import Position
from gateway.journal.segment import segment_numbers
from gateway.settings import Settings


class Later:
    """A clock some days ahead, so that what was just written is old."""

    def __init__(self, days: float) -> None:
        self._ms = int(days * 86_400_000)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._ms

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def folded(settings: Settings, *, saves: int = 2) -> Folder:
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    folder.catch_up()
    for _ in range(saves):
        folder._unsaved = True
        folder.save_now()
    return folder


def test_only_what_every_reader_has_passed_goes(settings: Settings) -> None:
    with worker(settings) as writer:
        writer.calls(1_500)
        numbers = segment_numbers(writer.journal.directory)
        assert len(numbers) >= 4
        folder = folded(settings)
        everything = folder.positions()
        later = Later(8)
        nothing: dict[bytes, Position] = {}
        assert prune(settings.journal_dir, 7, (nothing, everything, everything), later) == 0
        assert prune(settings.journal_dir, 7, (everything, everything, nothing), later) == 0
        assert prune(settings.journal_dir, 7, (everything, *folder.saved), CLOCK) == 0, "not old yet"
        assert not (settings.journal_dir / PRUNED_NAME).exists()
        before = current_books(settings.journal_dir, settings.checkpoint_file).standing(COUNTER)
        assert prune(settings.journal_dir, 7, (everything, *folder.saved), later) >= 2
        assert (settings.journal_dir / PRUNED_NAME).exists()
        assert segment_numbers(writer.journal.directory)[0] > 1
        writer.calls(5)
        after = current_books(settings.journal_dir, settings.checkpoint_file).standing(COUNTER)
        assert (after[0] - before[0], before[0]) == (150, 45_000)
        settings.checkpoint_file.write_bytes(b"junk")
        assert current_books(settings.journal_dir, settings.checkpoint_file).standing(COUNTER) == after
        folder.close()


async def test_a_sealed_journal_goes_whole_and_is_forgotten(settings: Settings) -> None:
    dead = Worker(settings)
    dead.calls(50)
    dead.die()
    folder = folded(settings)
    await folder.adopt_orphans()
    folder.catch_up()
    for _ in range(2):
        folder._unsaved = True
        folder.save_now()
    assert prune(settings.journal_dir, 7, (folder.positions(), *folder.saved), Later(8)) == 1
    assert list_journals(settings.journal_dir) == []
    folder._listed_ns = 0
    folder.catch_up()
    assert folder.positions() == {}
    assert folder.books.standing(COUNTER) == (1_500, 0)
    folder.save_now()
    folder.close()
    assert current_books(settings.journal_dir, settings.checkpoint_file).standing(COUNTER) == (1_500, 0)


async def test_verification_leaves_out_what_began_before_the_kept_records(settings: Settings) -> None:
    with worker(settings) as writer:
        opened = [writer.begin() for _ in range(5)]
        writer.calls(800)
        folder = folded(settings)
        assert prune(settings.journal_dir, 7, (folder.positions(), *folder.saved), Later(8)) > 0
        for call_id, attempt_id in opened:
            writer.finish(call_id, attempt_id)
        folder.close()
    report = await verify(settings.journal_dir, settings.checkpoint_file, None)
    assert report.problems == []
    assert 0 < report.figures["calls"] < 800


def test_an_old_file_time_alone_deletes_nothing(settings: Settings) -> None:
    with worker(settings) as writer:
        writer.calls(10)
        for path in writer.journal.directory.glob("0*.wal"):
            os.utime(path, (1, 1))
        folder = folded(settings)
        assert prune(settings.journal_dir, 7, (folder.positions(), *folder.saved), CLOCK) == 0
        folder.close()
    assert not previous_file(settings.checkpoint_file).is_symlink()
