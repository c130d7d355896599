"""Two engines over one journal: what the second one imports and follows equals what one engine would have.

The truth is one fold of every journal from its beginning. Whatever the order of holds, ends, checkpoints, a hand-over
and the old worker's death: no limit is ever overrun, the new worker's view is never below the truth, and once it has
read what there is, it is the truth.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from bookkeeper.world import CLOCK, SIZES
from gateway.bookkeeper.folding import Folder
from gateway.bookkeeper.following import Forerunners
from gateway.core.handover import HandedOver
from gateway.core.limits import Take, Want
from gateway.core.records import AnyRecord, Dispatch, Handover
from gateway.counters.memory import MemoryEngine
from gateway.journal.disk import Disk
from gateway.journal.folder import list_journals
from gateway.journal.reader import read_journal
from gateway.journal.writer import JournalWriter
from gateway.ledger.fold import Books
from tests.counters.examples import NOW_MS, end, hold, make_id, settle, shrink, spent, void, want

COUNTERS = ("org|acme|day", "team|growth|day", "key|k|day")
SEGMENT_BYTES = 128 * 1024
"""Room for the ends of as many calls as a run may open."""


class Memory(Disk):
    """Nothing needs to survive a power cut here."""

    def fsync(self, fd: int) -> None:
        return

    def fdatasync(self, fd: int) -> None:
        return


class Worker:
    """An engine and its journal: append, then believe."""

    def __init__(self, root: Path, number: int, engine: MemoryEngine) -> None:
        self.engine = engine
        self.journal = JournalWriter.create(
            root,
            bytes([number]) * 16,
            clock=CLOCK,
            segment_bytes=SEGMENT_BYTES,
            reserve_bytes=SEGMENT_BYTES,
            sync_ms=1,
            disk=Memory(),
        )
        self.alive = True

    def write(self, record: AnyRecord, number: int) -> None:
        self.journal.append(record, make_id(number))
        self.engine.apply(record, make_id(number))

    def die(self) -> None:
        self.journal.close()
        self.alive = False


class HandingOver(RuleBasedStateMachine):
    open = Bundle("open")

    @initialize(amounts=st.tuples(*[st.integers(20, 90)] * 3))
    def start(self, amounts: tuple[int, int, int]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="handover"))
        self.root = self.folder / "journal"
        self.checkpoint = self.folder / "checkpoint.msgpack"
        self.limits = dict(zip(COUNTERS, amounts, strict=True))
        self.number = 0
        self.owner: dict[int, Worker] = {}
        self.old = Worker(self.root, 1, MemoryEngine())
        self.new: Worker | None = None
        self.others: Forerunners | None = None
        self.handed_over = False

    def teardown(self) -> None:
        for worker in (self.old, self.new) if hasattr(self, "old") else ():
            if worker is not None and worker.alive:
                worker.die()
        if hasattr(self, "others") and self.others is not None:
            self.others.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # ------------------------------------------------------------ what a worker does

    @property
    def admitting(self) -> Worker | None:
        if self.handed_over:
            return self.new
        return self.old if self.old.alive else None

    def wants(self, amounts: dict[str, int]) -> list[Want]:
        return [want(amount, self.limits[counter], counter=counter) for counter, amount in amounts.items()]

    @rule(target=open, amounts=st.dictionaries(st.sampled_from(COUNTERS), st.integers(1, 30), min_size=1))
    def reserve(self, amounts: dict[str, int]) -> object:
        worker = self.admitting
        if worker is None or worker.engine.check(self.wants(amounts)) is not None:
            return multiple()
        self.number += 1
        worker.write(hold(self.number, self.wants(amounts)), self.number)
        worker.write(Dispatch(NOW_MS, make_id(self.number)), self.number)
        self.owner[self.number] = worker
        return self.number

    @rule(number=consumes(open), data=st.data())
    def post(self, number: int, data: st.DataObject) -> None:
        worker = self.owner[number]
        if worker.alive:
            posted = [spent(take, data.draw(st.integers(0, take.amount))) for take in self.held(number)]
            worker.write(end(number, posted), number)
            worker.write(settle(number), number)

    @rule(number=consumes(open))
    def give_back(self, number: int) -> None:
        worker = self.owner[number]
        if worker.alive:
            worker.write(void(number), number)
            worker.write(settle(number), number)

    @rule(number=open, data=st.data())
    def free_a_part(self, number: int, data: st.DataObject) -> None:
        worker = self.owner[number]
        if worker.alive:
            freed = [spent(take, data.draw(st.integers(0, take.amount))) for take in self.held(number)]
            worker.write(shrink(number, freed), number)

    def held(self, number: int) -> list[Take]:
        """What a call that is open still holds."""
        remaining = self.owner[number].engine.books.holds[make_id(number)].remaining
        return [made.take for made in self.wants(remaining)]

    @rule(counter=st.sampled_from(COUNTERS))
    def count(self, counter: str) -> None:
        """One request of a rate, with the SETTLE of a call that was refused."""
        worker = self.admitting
        if worker is None:
            return
        wants = self.wants({counter: 1})
        if worker.engine.check(wants) is None:
            self.number += 1
            worker.engine.count(wants)
            worker.write(settle(self.number, [wants[0].take]), self.number)

    # ------------------------------------------------------------ what happens around it

    @rule()
    def checkpoint_now(self) -> None:
        folder = self.bookkeeper()
        folder.save_now()
        folder.close()

    @precondition(lambda self: self.new is None)
    @rule()
    def prepare(self) -> None:
        """The new worker reads what there is; the old one goes on admitting."""
        self.others = Forerunners(self.root, self.checkpoint)
        self.new = Worker(self.root, 2, MemoryEngine(self.others.books))

    @precondition(lambda self: self.new is not None and self.old.alive and not self.handed_over)
    @rule()
    def hand_over(self) -> None:
        assert self.others is not None
        assert self.new is not None
        assert self.others.admitting, "not before the old one has said so"
        self.old.journal.append(Handover(NOW_MS, b""), b"")
        self.old.engine.hand_over()
        with pytest.raises(HandedOver):
            self.old.engine.check([])
        with pytest.raises(HandedOver):
            self.old.journal.append(hold(0, []), make_id(0))
        while self.others.admitting:
            self.others.poll(self.new.engine.follow)
        self.handed_over = True

    @precondition(lambda self: self.others is not None)
    @rule()
    def follow(self) -> None:
        assert self.others is not None
        assert self.new is not None
        self.others.poll(self.new.engine.follow)
        if self.handed_over:
            truth = self.truth()
            for counter in COUNTERS:
                assert self.new.engine.standing(counter) == truth.standing(counter)
            assert set(self.new.engine.books.holds) == set(truth.holds)

    @precondition(lambda self: self.handed_over and self.old.alive)
    @rule()
    def the_old_one_dies_and_is_adopted(self) -> None:
        self.old.die()
        folder = self.bookkeeper()
        adopted, failed = folder.adopt_now()
        folder.close()
        assert (len(adopted), failed) == (1, "")

    def bookkeeper(self) -> Folder:
        folder = Folder(self.root, self.checkpoint, CLOCK, replace(SIZES, segment_bytes=SEGMENT_BYTES))
        folder.catch_up()
        return folder

    def truth(self) -> Books:
        books = Books()
        for journal in list_journals(self.root):
            for entry in read_journal(journal.path):
                books.apply(entry.record, entry.call_id)
        assert books.anomaly_count == 0
        return books

    @invariant()
    def nothing_is_overspent(self) -> None:
        truth = self.truth()
        for counter, limit in self.limits.items():
            posted, reserved = truth.standing(counter)
            assert posted + reserved <= limit
            if self.handed_over and self.new is not None:
                assert sum(self.new.engine.standing(counter)) >= posted + reserved, (
                    "the new one believes in too much room"
                )


TestHandingOver = HandingOver.TestCase
TestHandingOver.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
