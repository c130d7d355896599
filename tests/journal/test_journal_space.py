"""A disk that fills, one case at a time, on the log without its thread: who is refused, who settles, how it ends."""

from __future__ import annotations

import errno

import pytest
from journal_bench import Bench
from journal_world import (
    OPTIONS,
    SEGMENT_BYTES,
    FakeClock,
    FaultyDisk,
    attempt_end,
    call_id,
    drain,
    hold,
    read_all,
    settle,
    void,
)

from gateway.core.errors import UsageLogUnavailable
from gateway.core.records import Dispatch, Progress
from gateway.journal.adoption import adopt
from gateway.journal.format import SEGMENT_HEADER_BYTES
from gateway.journal.segment import RESERVE_NAME


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def test_a_full_disk_refuses_new_calls_at_once_and_lets_running_ones_settle(tmp_path) -> None:
    bench = Bench(tmp_path, space_bytes=0)
    bench.log.append(hold(1), call_id(1))
    bench.next += 1
    bench.step()
    assert "No space left" in bench.log.refusal
    with pytest.raises(UsageLogUnavailable, match="No space left"):
        bench.log.append(hold(2), call_id(2))
    with pytest.raises(UsageLogUnavailable, match="No space left"):
        bench.log.append(Dispatch(2, call_id(1)), call_id(1))
    bench.fill(leave=300)
    assert not bench.tape.in_reserve
    bench.write(8, "y" * 300)
    assert bench.tape.in_reserve
    assert bench.log.sync()
    assert bench.log.synced_seq == bench.log.last_seq
    bench.log.append(attempt_end(1), call_id(1))
    bench.log.append(settle(1), call_id(1))
    entries = read_all(bench.directory)
    assert len(entries) == bench.log.last_seq
    assert [entry.seq for entry in drain(bench.tail)] == [entry.seq for entry in entries]
    bench.close()


def full(tmp_path) -> Bench:
    """In the reserve, with records from 1 on."""
    bench = Bench(tmp_path, space_bytes=0)
    bench.fill(leave=150)
    bench.write(5, "y" * 150)
    assert bench.tape.in_reserve
    return bench


def test_it_recovers_alone_when_space_returns(tmp_path) -> None:
    bench = full(tmp_path)
    bench.follow()
    bench.step()
    assert bench.tape.in_reserve
    bench.disk.space_bytes = 2 * SEGMENT_BYTES
    bench.step()
    assert not bench.tape.in_reserve
    bench.write(3)
    bench.step()
    assert bench.log.refusal == ""
    assert bench.tape.reserve is not None
    assert bench.tape.reserve.offset == SEGMENT_HEADER_BYTES
    assert not any((bench.directory / RESERVE_NAME).read_bytes()[SEGMENT_HEADER_BYTES:])
    bench.write(3)
    bench.check()


def test_space_for_one_segment_takes_it_and_refuses_again(tmp_path) -> None:
    bench = full(tmp_path)
    bench.disk.space_bytes = SEGMENT_BYTES
    bench.step()
    assert not bench.tape.in_reserve
    bench.step()
    assert "No space left" in bench.log.refusal
    bench.write(5)
    bench.check()


def test_the_reserve_is_used_again_and_again(tmp_path) -> None:
    bench = full(tmp_path)
    for _ in range(4):
        bench.follow()
        bench.disk.space_bytes = SEGMENT_BYTES
        bench.step()
        assert not bench.tape.in_reserve
        bench.disk.space_bytes = 0
        if bench.tape.current.number % 2:  # sometimes full again before the reserve has been emptied
            bench.step()
        bench.fill(leave=150)
        bench.write(3, "z" * 150)
        assert bench.tape.in_reserve
    bench.check()


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_the_reserve_is_kept_until_the_segments_have_it_durably(tmp_path, failures: int) -> None:
    bench = full(tmp_path)
    assert bench.log.sync()  # durable in the reserve
    bench.disk.space_bytes = None
    bench.log.prepare()
    assert not bench.tape.in_reserve
    bench.disk.fdatasync_errors.extend([errno.EIO] * failures)
    for _ in range(failures):
        assert not bench.log.sync()
        bench.follow()
    bench.write(1)
    bench.step()
    assert bench.log.synced_seq == bench.log.last_seq
    bench.check()


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_reserve_that_fails_is_replaced(tmp_path, failures: int) -> None:
    bench = full(tmp_path)
    bench.log.sync()
    bench.write(2)
    reserve = bench.tape.reserve
    bench.disk.fdatasync_errors.extend([errno.EIO] * failures)
    assert not bench.log.sync()
    assert bench.tape.reserve is reserve
    bench.disk.space_bytes = None
    for _ in range(4):
        bench.step()
        bench.follow()
    assert bench.tape.reserve is not reserve
    assert bench.tape.reserve is not None
    assert bench.log.refusal == ""
    bench.disk.space_bytes = 0
    bench.fill(leave=150)
    bench.write(3, "z" * 150)
    bench.fill(leave=150)
    bench.write(3, "z" * 150)
    assert bench.tape.in_reserve
    bench.check()


def test_a_reader_that_comes_after_the_recovery_finds_everything_in_segments(tmp_path) -> None:
    bench = full(tmp_path)
    bench.disk.space_bytes = None
    bench.step()
    bench.step()
    (bench.directory / RESERVE_NAME).unlink()
    bench.write(1)
    bench.check()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("before", [0, 17, 40])
def test_a_segment_that_does_not_take_its_own_space(bench: Bench, code: int, before: int) -> None:
    """A copy-on-write file system, a quota, RLIMIT_FSIZE: pwrite fails inside what was allocated."""
    bench.write(3)
    bench.disk.pwrite_errors.append((code, before) if before else code)
    bench.write(1)
    assert bench.tape.current.number == 2
    bench.write(2)
    bench.check()


def test_a_hold_that_finds_the_disk_full_is_refused_and_takes_no_seq(tmp_path) -> None:
    bench = Bench(tmp_path, space_bytes=0)
    bench.fill(leave=150)
    before = bench.log.last_seq
    with pytest.raises(UsageLogUnavailable, match="No space left"):
        bench.log.append(hold(1), call_id(1))
    assert bench.log.last_seq == before
    assert not bench.tape.in_reserve
    bench.write(1, "x" * 150)
    assert bench.tape.in_reserve
    bench.check()


def test_progress_is_given_up_before_the_room_to_settle(tmp_path) -> None:
    bench = Bench(tmp_path, space_bytes=0)
    bench.log.append(hold(1), call_id(1))
    bench.next += 1
    while bench.tape.current.room >= 200 or not bench.tape.in_reserve:
        bench.write(1, "x" * 150)
        if bench.tape.in_reserve and bench.tape.current.room < 3000:
            break
    last = bench.log.last_seq
    assert bench.log.append(Progress(1, call_id(1), 1, 1), call_id(1)) == last
    assert bench.log.append(settle(1), call_id(1)) == last + 1
    # Nobody is left to settle: there is room for it again.
    assert bench.log.append(Progress(1, call_id(1), 1, 1), call_id(1)) == last + 2
    bench.close()


def test_a_full_reserve_is_loud(tmp_path) -> None:
    bench = full(tmp_path)
    bench.fill(leave=150)
    with pytest.raises(UsageLogUnavailable, match="cannot take this record"):
        bench.log.append(void(0, "y" * 150), call_id(1))
    bench.disk.space_bytes = None
    bench.step()
    bench.write(2)
    bench.check()


def test_a_crash_on_a_full_disk_is_adopted_on_a_full_disk(tmp_path) -> None:
    bench = full(tmp_path)
    bench.follow()
    bench.log.close()
    disk = FaultyDisk(0)
    adopted = adopt(bench.directory, clock=FakeClock(), disk=disk, **OPTIONS)
    assert adopted is not None
    assert adopted.last_seq == bench.next - 1
    adopted.writer.append(void(bench.next), call_id(1))
    bench.next += 1
    assert adopted.seal() == bench.next - 1
    bench.check()
    assert (bench.directory / RESERVE_NAME).exists()
