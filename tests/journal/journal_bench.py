"""A log on a faulty disk with the syncing thread's steps taken by hand, so that a test decides what happens when."""

from __future__ import annotations

from pathlib import Path

from journal_world import (
    JOURNAL_ID,
    RESERVE_BYTES,
    SEGMENT_BYTES,
    FakeClock,
    FaultyDisk,
    call_id,
    drain,
    numbers,
    void,
)

from gateway.core.ids import JOURNAL, print_id
from gateway.journal.folder import CONFIRMED_BYTES
from gateway.journal.log import Log
from gateway.journal.reader import JournalTail
from gateway.journal.segment import LOCK_NAME, activate, create_reserve, create_segment, segment_path
from gateway.journal.tape import Tape


class Bench:
    """A log on a faulty disk, its thread's steps taken by hand."""

    def __init__(self, root: Path, space_bytes: int | None = None, *, disk: FaultyDisk | None = None) -> None:
        self.disk = FaultyDisk() if disk is None else disk
        self.directory = root / print_id(JOURNAL, JOURNAL_ID)
        self.directory.mkdir()
        first = create_segment(self.disk, segment_path(self.directory, 1), 1, SEGMENT_BYTES)
        reserve = create_reserve(self.disk, self.directory, RESERVE_BYTES, JOURNAL_ID, 1)
        activate(self.disk, first, JOURNAL_ID, 1, 1)
        self.disk.fsync(first.fd)
        self.disk.space_bytes = space_bytes
        self.tape = Tape(
            self.directory,
            JOURNAL_ID,
            first,
            reserve,
            top=1,
            segment_bytes=SEGMENT_BYTES,
            reserve_bytes=RESERVE_BYTES,
            clock=FakeClock(),
            disk=self.disk,
        )
        self.confirm(0)
        self.log = Log(
            self.tape,
            last_seq=0,
            unsynced=(),
            pwrite=self.disk.pwrite,
            wake=lambda: None,
            confirm=self.confirm,
        )
        self.tail = JournalTail(self.directory)
        self.seen: list[int] = []
        self.next = 1

    def confirm(self, seq: int) -> None:
        (self.directory / LOCK_NAME).write_bytes(seq.to_bytes(CONFIRMED_BYTES, "little"))

    def write(self, count: int, detail: str = "") -> None:
        for _ in range(count):
            assert self.log.append(void(self.next, detail), call_id(1)) == self.next
            self.next += 1

    def fill(self, *, leave: int) -> None:
        """Writes until less than `leave` bytes are left in the present file."""
        while self.tape.current.room >= leave:
            self.write(1, "x" * 100)

    def step(self) -> None:
        """One round of the thread."""
        self.log.sync()
        self.log.prepare()
        self.log.close_done()

    def follow(self) -> None:
        self.seen += [entry.record.ts_ms for entry in drain(self.tail)]

    def close(self) -> None:
        self.log.close()
        self.tail.close()

    def check(self) -> None:
        self.verify()
        self.close()

    def verify(self) -> None:
        """Everything written is read: by who followed, by who comes now, once and in order, with no alarm."""
        self.follow()
        assert self.seen == list(range(1, self.next))
        assert self.tail.damage == []
        assert numbers(self.directory) == list(range(1, self.next))


def die(bench: Bench) -> None:
    """kill -9: the files stay as they are, page cache included; only descriptors and locks go."""
    tape = bench.tape
    files = {*tape.retired, *tape.done, tape.current, tape.reserve, tape.spare} - {None}
    for segment in files:
        bench.disk.close(segment.fd)
