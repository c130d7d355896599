"""Failing disks, one fault at a time, on the log without its thread: each test says what the disk did and what readers
and callers see. `FaultyDisk` loses what a failed fdatasync should have saved, as Linux does."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from journal_bench import Bench, die
from journal_world import (
    OPTIONS,
    FakeClock,
    FaultyDisk,
    attempt_end,
    call_id,
    hold,
    read_all,
    settle,
    void,
)

from gateway.core.errors import UsageLogUnavailable
from gateway.core.records import Dispatch
from gateway.journal.adoption import adopt
from gateway.journal.segment import segment_path


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


# ---------------------------------------------------------------- a failing disk


def test_one_failed_fdatasync_is_noticed_by_nobody(bench: Bench) -> None:
    bench.write(5)
    assert bench.log.sync()
    bench.write(5)
    bench.follow()
    bench.disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    assert bench.log.refusal == ""
    bench.write(5)
    assert bench.log.append(hold(bench.next), call_id(5)) == bench.next
    assert bench.log.sync()
    assert bench.log.synced_seq == 16
    bench.log.append(settle(5), call_id(5))
    bench.follow()
    assert [entry.seq for entry in read_all(bench.directory)] == list(range(1, 18))
    assert bench.tail.damage == []
    bench.close()


def test_a_reader_that_had_not_read_the_lost_records_gets_them_from_the_next_segment(bench: Bench) -> None:
    bench.write(5)
    assert bench.log.sync()
    bench.follow()
    bench.write(5)
    bench.disk.fdatasync_errors.append(errno.EIO)
    bench.log.sync()
    bench.write(1)
    bench.check()


def test_the_failed_file_is_never_synced_again(bench: Bench) -> None:
    bench.write(5)
    dead = bench.tape.current.fd
    bench.disk.fdatasync_errors.append(errno.EIO)
    bench.log.sync()
    assert bench.tape.current.fd != dead
    assert dead in [segment.fd for segment in bench.tape.done]
    bench.step()
    assert bench.tape.done == []
    assert bench.log.synced_seq == 5
    bench.check()


def test_two_failures_in_a_row_refuse_new_calls_until_a_sync_succeeds(bench: Bench) -> None:
    bench.write(3)
    bench.log.append(hold(4), call_id(4))
    bench.next += 1
    bench.disk.fdatasync_errors.extend([errno.EIO, errno.EIO])
    assert not bench.log.sync()
    assert bench.log.refusal == ""
    assert not bench.log.sync()
    assert "disk fails" in bench.log.refusal
    with pytest.raises(UsageLogUnavailable, match="disk fails"):
        bench.log.append(hold(9), call_id(9))
    with pytest.raises(UsageLogUnavailable, match="disk fails"):
        bench.log.append(Dispatch(9, call_id(4)), call_id(4))
    bench.log.append(attempt_end(4), call_id(4))
    bench.log.append(settle(4), call_id(4))
    assert bench.log.sync()
    assert bench.log.refusal == ""
    assert bench.log.append(hold(9), call_id(9)) == 7
    assert [entry.seq for entry in read_all(bench.directory)] == list(range(1, 8))
    bench.close()


@pytest.mark.parametrize("before", [0, 1, 39, 60])
def test_a_failed_pwrite_moves_to_another_segment(bench: Bench, before: int) -> None:
    bench.write(5)
    bench.log.sync()
    bench.write(2)
    end = bench.tape.current.offset
    bench.disk.pwrite_errors.append((errno.EIO, before) if before else errno.EIO)
    bench.write(1)
    assert bench.log.refusal == ""
    assert bench.tape.current.number == 2
    assert not any(segment_path(bench.directory, 1).read_bytes()[end:])
    bench.write(3)
    bench.check()


@pytest.mark.parametrize("before", [1, 3, 4, 11, 39, 40, 60])
def test_a_short_write_is_completed(bench: Bench, before: int) -> None:
    bench.write(2)
    bench.disk.pwrite_errors.append((0, before))
    bench.write(2)
    assert bench.tape.current.number == 1
    bench.check()


def test_a_disk_that_takes_nothing_loses_no_record_in_silence(bench: Bench) -> None:
    bench.write(2)
    bench.disk.pwrite_errors.extend([errno.EIO] * 20)
    with pytest.raises(UsageLogUnavailable):
        bench.log.append(hold(3), call_id(3))
    with pytest.raises(UsageLogUnavailable, match="cannot take this record"):
        bench.log.append(settle(3), call_id(3))
    bench.disk.pwrite_errors.clear()
    bench.write(3)
    bench.check()


def test_failing_segments_while_the_reserve_works(bench: Bench) -> None:
    bench.write(3)
    bench.log.sync()
    bench.write(2)
    bench.disk.space_bytes = 0
    bench.disk.pwrite_errors.append(errno.EIO)
    bench.write(1)
    assert bench.tape.in_reserve
    bench.write(1)
    bench.follow()
    bench.disk.space_bytes = None
    bench.step()
    bench.step()
    assert not bench.tape.in_reserve
    bench.write(2)
    bench.check()


def test_a_sync_that_fails_on_a_full_disk_goes_on_in_the_reserve(bench: Bench) -> None:
    bench.write(3)
    bench.log.sync()
    bench.write(3)
    bench.disk.space_bytes = 0
    bench.disk.fdatasync_errors.append(errno.EIO)
    assert not bench.log.sync()
    assert bench.tape.in_reserve
    assert bench.log.sync()
    assert bench.log.synced_seq == 6
    bench.follow()
    bench.write(2)
    bench.check()


# ---------------------------------------------------------------- and a crash on top


class Killed(BaseException):
    """kill -9 at a system call."""


class MortalDisk(FaultyDisk):
    """Dies, or fails, at the nth pwrite from now on; `keeps` files that it is told to delete."""

    __slots__ = ("dies", "keeps", "left")

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.left = getattr(self, "left", 1 << 60) - 1
        if self.left == 0:
            raise Killed if self.dies else OSError(errno.EIO, "test")
        return super().pwrite(fd, data, offset)

    def unlink(self, path: Path) -> None:
        if self.keeps:
            raise OSError(errno.EIO, "test")
        super().unlink(path)


@pytest.mark.parametrize("how", ["dies", "fails", "fails, leaves files behind, and dies later"])
def test_writing_records_again_succeeds_as_a_whole_or_not_at_all(tmp_path, how: str) -> None:
    """At every pwrite of it, over several segments; the old files are still readable, as after kill -9."""
    at = 0
    finished = False
    while not finished:
        at += 1
        root = tmp_path / str(at)
        root.mkdir()
        bench = Bench(root, disk=MortalDisk(forgets=False))
        bench.write(5)
        bench.log.sync()
        bench.write(60, "x" * 250)
        bench.disk.fdatasync_errors.append(errno.EIO)
        bench.disk.left, bench.disk.dies, bench.disk.keeps = at, how == "dies", "leaves" in how
        try:
            bench.log.sync()
            finished = bench.disk.left > 0
        except Killed:
            pass
        bench.disk.left = 1 << 60
        bench.follow()
        assert bench.seen == list(range(1, 66))
        if how != "dies":
            bench.write(3)
        if how == "fails":
            bench.follow()
            bench.step()
            bench.write(3)
            bench.check()
            continue
        die(bench)
        adopted = adopt(bench.directory, clock=FakeClock(), **OPTIONS)
        assert adopted is not None
        assert adopted.last_seq == bench.next - 1
        adopted.writer.append(void(bench.next), call_id(1))
        adopted.seal()
        bench.next += 1
        bench.verify()
        bench.tail.close()
    assert at > 60
