"""What happens between two steps of somebody else: each test puts an event exactly there, through the disk."""

from __future__ import annotations

import errno
from collections.abc import Callable

from journal_bench import Bench, die
from journal_world import OPTIONS, FakeClock, FaultyDisk, call_id, drain, numbers, read_all, void

from gateway.journal.adoption import adopt
from gateway.journal.disk import Disk
from gateway.journal.folder import scan_file
from gateway.journal.reader import JournalTail
from gateway.journal.segment import RESERVE_NAME, segment_path


class Once:
    """Runs an event the first time it is asked to, after it has been armed."""

    def __init__(self) -> None:
        self.event: Callable[[], None] | None = None

    def __call__(self) -> None:
        event, self.event = self.event, None
        if event is not None:
            event()


class ReadersDisk(Disk):
    """Something happens right after a read."""

    __slots__ = ("after_read",)

    def __init__(self) -> None:
        self.after_read = Once()

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        data = super().pread(fd, count, offset)
        self.after_read()
        return data


class SyncersDisk(FaultyDisk):
    """Something happens while fdatasync runs."""

    __slots__ = ("during_sync",)

    def __init__(self) -> None:
        super().__init__()
        self.during_sync = Once()

    def fdatasync(self, fd: int) -> None:
        self.during_sync()
        super().fdatasync(fd)


def test_a_segment_that_fills_up_right_after_its_end_was_read(tmp_path) -> None:
    bench = Bench(tmp_path)
    bench.write(3)
    disk = ReadersDisk()
    tail = JournalTail(bench.directory, disk=disk)
    assert [entry.seq for entry in tail.poll()] == [1, 2, 3]
    disk.after_read.event = lambda: bench.write(120, "x" * 60)
    seen = [entry.seq for entry in drain(tail)]
    assert bench.tape.current.number > 1
    assert seen == list(range(4, 124))
    assert tail.damage == []
    tail.close()
    bench.check()


def test_records_that_move_while_their_old_file_is_synced_are_not_durable(tmp_path) -> None:
    disk = SyncersDisk()
    bench = Bench(tmp_path, disk=disk)
    bench.write(5)

    def fail_an_append() -> None:
        disk.pwrite_errors.append(errno.EIO)
        bench.write(1)

    disk.during_sync.event = fail_an_append
    assert bench.log.sync()
    assert bench.tape.current.number == 2
    assert not bench.log.durable
    disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    bench.step()
    assert bench.log.durable
    bench.check()


def test_an_append_that_leaves_a_file_whose_sync_is_failing(tmp_path) -> None:
    disk = SyncersDisk()
    bench = Bench(tmp_path, disk=disk)
    bench.write(5)

    def fail_an_append() -> None:
        disk.pwrite_errors.append(errno.EIO)
        bench.write(1)

    disk.during_sync.event = fail_an_append
    disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    assert bench.tape.current.number == 2
    bench.step()
    assert bench.log.durable
    bench.check()


def test_appends_while_the_syncer_waits_for_the_disk(tmp_path) -> None:
    disk = SyncersDisk()
    bench = Bench(tmp_path, disk=disk)
    bench.write(5)
    disk.during_sync.event = lambda: bench.write(100, "x" * 100)
    assert bench.log.sync()
    assert bench.log.synced_seq == 5
    assert bench.tape.retired
    bench.step()
    assert bench.log.synced_seq == 105
    assert bench.tape.retired == []
    bench.check()


def test_a_crash_right_after_the_reserve_took_over_from_failed_segments(tmp_path) -> None:
    """The reserve alone has record 1, and the newest segment ends with the same seq."""
    bench = Bench(tmp_path)
    bench.write(1)
    bench.disk.pwrite_errors.append(errno.ENOSPC)
    bench.write(1)
    bench.disk.space_bytes = 0
    bench.disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    assert bench.tape.in_reserve
    bench.tail.close()
    die(bench)
    adopted = adopt(bench.directory, clock=FakeClock(), **OPTIONS)
    assert adopted is not None
    adopted.seal()
    assert numbers(bench.directory) == [1, 2]


def test_a_sync_that_fails_at_once_in_an_adopters_hands(tmp_path) -> None:
    """What the dead process had not synced is read again first, so the failed file may lose it."""
    bench = Bench(tmp_path)
    bench.write(5)
    bench.tail.close()
    die(bench)
    disk = FaultyDisk()
    disk.fdatasync_errors.append(errno.EIO)
    adopted = adopt(bench.directory, clock=FakeClock(), disk=disk, **OPTIONS)
    assert adopted is not None
    adopted.writer.append(void(6), call_id(1))
    adopted.seal()
    first = segment_path(bench.directory, 1)
    first.write_bytes(first.read_bytes()[:64])
    assert [entry.seq for entry in read_all(bench.directory)] == [1, 2, 3, 4, 5, 6]


def test_a_failed_reserve_is_kept_until_its_durable_records_are_in_segments(tmp_path) -> None:
    bench = Bench(tmp_path, space_bytes=0)
    bench.fill(leave=150)
    bench.write(5, "y" * 150)
    assert bench.log.sync()
    durable = [seq for seq, _ in scan_file(bench.disk, bench.directory / RESERVE_NAME).records]
    bench.write(2)
    bench.disk.space_bytes = None
    bench.disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    bench.log.prepare()
    assert [seq for seq, _ in scan_file(bench.disk, bench.directory / RESERVE_NAME).records] == durable
    bench.follow()
    bench.step()
    bench.step()
    assert scan_file(bench.disk, bench.directory / RESERVE_NAME).records == []
    bench.check()
