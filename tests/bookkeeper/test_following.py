"""A new worker beside the old one: it admits only when nobody else does, and learns of everything that still ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bookkeeper.world import CLOCK, COUNTER, SIZES, Worker, settings_of, until, worker
from gateway.bookkeeper.folding import Folder
from gateway.bookkeeper.following import Forerunners
from gateway.core.errors import JournalUnreadable
from gateway.core.records import Handover
from gateway.counters.memory import MemoryEngine
from gateway.journal.format import pack_record
from gateway.journal.segment import segment_path
from gateway.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


class Successor:
    """What a starting worker does, without a worker around it."""

    def __init__(self, settings: Settings) -> None:
        self.others = Forerunners(settings.journal_dir, settings.checkpoint_file)
        self.engine = MemoryEngine(self.others.books)

    async def admits(self) -> None:
        await self.others.handed_over(self.engine.follow)

    async def follows(self) -> None:
        await self.others.follow(self.engine.follow)

    @property
    def standing(self) -> tuple[int, int]:
        return self.engine.standing(COUNTER)


def hand_over(old: Worker) -> None:
    old.journal.append(Handover(CLOCK.now_ms(), b""), b"")


def folder_of(settings: Settings) -> Folder:
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    folder.catch_up()
    return folder


async def test_it_admits_after_the_handover_with_everything_that_was_admitted_before(settings: Settings) -> None:
    with worker(settings) as old:
        old.call(tokens=10)
        new = Successor(settings)
        assert new.standing == (30, 0)
        admits = asyncio.ensure_future(new.admits())
        opened = old.begin(held=500)
        await until(lambda: new.standing == (30, 500))
        assert not admits.done(), "the old one may still admit"
        hand_over(old)
        await admits
        old.finish(*opened, tokens=1)
        follows = asyncio.ensure_future(new.follows())
        await until(lambda: new.standing == (33, 0))
        assert not follows.done(), "its journal is not closed for good"
    folder = folder_of(settings)
    assert folder.adopt_now() == ((old.name,), "")
    folder.close()
    await follows
    assert len(new.others) == 0


async def test_a_handover_before_the_checkpoint_is_known(settings: Settings) -> None:
    with worker(settings) as old:
        opened = old.begin(held=500)
        hand_over(old)
        folder = folder_of(settings)
        folder.save_now()
        folder.close()
        new = Successor(settings)
        assert (new.standing, new.others.admitting, len(new.others)) == ((0, 500), [], 1)
        await new.admits()
        old.finish(*opened, tokens=1)
        new.others.poll(new.engine.follow)
        assert new.standing == (3, 0)
        new.others.close()
        again = folder_of(settings)  # the flag survives a checkpoint that did not read the record itself
        again.save_now()
        again.close()
        assert Successor(settings).others.admitting == []


async def test_a_worker_that_died_without_a_handover_admits_nothing_more(settings: Settings) -> None:
    old = Worker(settings)
    new = Successor(settings)
    admits = asyncio.ensure_future(new.admits())
    await asyncio.sleep(0.01)
    assert not admits.done()
    old.begin(held=500)
    old.die()
    await admits
    assert new.standing == (0, 500), "what it admitted last is held, until somebody ends it"
    folder = folder_of(settings)
    folder.adopt_now()
    folder.close()
    await new.follows()
    assert new.standing[1] == 0


async def test_a_worker_that_dies_while_it_drains_is_ended_by_its_adopter(settings: Settings) -> None:
    old = Worker(settings)
    opened, _ = old.begin(held=500), old.begin(held=100, dispatched=False)
    hand_over(old)
    new = Successor(settings)
    await new.admits()
    old.finish(*opened, tokens=1)
    old.die()
    follows = asyncio.ensure_future(new.follows())
    await until(lambda: new.standing == (3, 100))
    folder = folder_of(settings)
    folder.adopt_now()
    folder.close()
    await follows
    assert new.standing == (3, 0), "not dispatched: it has cost nothing"
    assert new.engine.open_holds() == 0


async def test_closed_journals_are_not_waited_for(settings: Settings) -> None:
    old = Worker(settings)
    old.call(tokens=10)
    old.stop()
    folder = folder_of(settings)
    folder.adopt_now()
    folder.close()
    new = Successor(settings)
    assert (new.standing, len(new.others)) == ((30, 0), 0)
    await new.admits()
    await new.follows()


async def test_a_journal_of_a_newer_version_stops_who_may_not_admit_beside_it(settings: Settings) -> None:
    with worker(settings) as old:
        old.call(tokens=10)
        new = Successor(settings)
        write_newer(old)
        with pytest.raises(JournalUnreadable):
            await new.admits()
        new.others.close()
        with pytest.raises(JournalUnreadable):
            Successor(settings)


async def test_after_the_handover_it_only_stands_still(settings: Settings) -> None:
    """What is held by a journal that cannot be read on stays held: too little room is safe, too much is not."""
    with worker(settings) as old:
        old.begin(held=500)
        hand_over(old)
        new = Successor(settings)
        write_newer(old)
        await new.follows()
        assert (new.standing, len(new.others)) == ((0, 500), 0)


def write_newer(old: Worker) -> None:
    """A record of a type that this version does not know, where the next one goes."""
    tape = old.journal._tape
    data = pack_record(99, old.journal.last_seq + 1, b"", b"\x90")
    with segment_path(old.journal.directory, 1).open("r+b") as file:
        file.seek(tape.current.offset)
        file.write(data)
