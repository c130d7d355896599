"""Taking over: only a dead process's journal, once, repaired; then sealed, and in time deleted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from journal_world import (
    JOURNAL_ID,
    OPTIONS,
    FakeClock,
    FaultyDisk,
    attempt_end,
    call_id,
    create,
    drain,
    hold,
    numbers,
    read_all,
    void,
)

from gateway.core.errors import ConfigInvalid, JournalUnreadable, UsageLogUnavailable
from gateway.core.records import Dispatch, Settle
from gateway.journal.adoption import adopt
from gateway.journal.disk import FAILPOINT, Disk, record_pwrite, write_at
from gateway.journal.folder import JournalFolder, confirmed_seq, list_journals
from gateway.journal.reader import JournalTail, read_journal
from gateway.journal.segment import RESERVE_NAME, segment_numbers, segment_path
from gateway.ledger.adopt import closing_records
from gateway.ledger.fold import Books

PROCESS = Path(__file__).with_name("journal_process.py")


def take_over(directory: Path, **options):
    return adopt(directory, clock=FakeClock(), **(OPTIONS | options))


def spawn(root: Path, *arguments: str, failpoint: str = "") -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if failpoint:
        environment[FAILPOINT] = failpoint
    command = [sys.executable, str(PROCESS), str(root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def only_journal(root: Path) -> Path:
    (journal,) = list_journals(root)
    return journal.path


# ---------------------------------------------------------------- a process that is killed


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path) -> None:
    for attempt in range(3):
        root = tmp_path / str(attempt)
        process = spawn(root, "acknowledge")
        acknowledged = 0
        deadline = time.monotonic() + 0.05 + 0.07 * attempt
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if time.monotonic() > deadline and acknowledged > 200:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        directory = only_journal(root)
        assert numbers(directory)[:acknowledged] == list(range(1, acknowledged + 1))
        adopted = take_over(directory)
        assert adopted is not None
        assert adopted.last_seq >= acknowledged
        adopted.seal()
        assert len(read_all(directory)) == adopted.last_seq


@pytest.mark.parametrize(("when", "written"), [("before", 6), ("after", 7)])
def test_a_failpoint_kills_the_process_at_its_nth_append(tmp_path, when: str, written: int) -> None:
    process = spawn(tmp_path, "acknowledge", failpoint=f"journal:{when}:7")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert out.split() == [str(number) for number in range(1, 7)]
    assert numbers(only_journal(tmp_path)) == list(range(1, written + 1))


@pytest.mark.parametrize(
    "failpoint", ["journal", "journal:before", "journal:during:3", "sql:before:3", "journal:after:0"]
)
def test_a_failpoint_that_means_nothing_is_refused(failpoint: str) -> None:
    with pytest.raises(ConfigInvalid, match="FAREGATE_FAILPOINT"):
        record_pwrite(Disk(), failpoint)


def test_no_failpoint_costs_nothing() -> None:
    assert record_pwrite(Disk(), "") is write_at


def test_a_write_that_keeps_the_interpreter_is_a_pwrite(tmp_path) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert write_at(fd, b"one\0two", 3) == 7
    os.close(fd)
    assert path.read_bytes() == b"\0\0\0one\0two"
    with pytest.raises(OSError, match="Bad file descriptor") as failed:
        write_at(fd, b"x", 0)
    assert failed.value.errno == errno.EBADF


def test_the_calls_of_a_killed_process_end_once(tmp_path) -> None:
    process = spawn(tmp_path, "calls", failpoint="journal:after:50")
    process.communicate(timeout=30)
    directory = only_journal(tmp_path)
    books = Books()
    tail = JournalTail(directory)
    for entry in drain(tail):
        books.apply(entry.record, entry.call_id)
    assert books.holds
    adopted = take_over(directory)
    assert adopted is not None
    assert tail.position.seq == adopted.last_seq == 50
    for call, record in closing_records(books, 99):
        adopted.writer.append(record, call)
    adopted.seal()
    for entry in drain(tail):
        books.apply(entry.record, entry.call_id)
    assert tail.finished
    tail.close()
    assert (books.holds, books.calls, books.anomaly_count) == ({}, {}, 0)
    crashed = [entry for entry in read_all(directory) if isinstance(entry.record, Settle)]
    assert any(entry.record.outcome == "crashed" for entry in crashed)


# ---------------------------------------------------------------- locks and seals


def test_a_living_journal_is_not_adopted(tmp_path) -> None:
    writer = create(tmp_path)
    assert take_over(writer.directory) is None
    process = spawn(tmp_path / "other", "acknowledge")
    assert process.stdout is not None
    process.stdout.readline()
    other = only_journal(tmp_path / "other")
    assert take_over(other) is None
    process.kill()
    process.communicate()
    adopted = take_over(other)
    assert adopted is not None
    assert take_over(other) is None
    adopted.release()
    writer.close()


def test_what_is_no_journal_yet_is_not_adopted(tmp_path) -> None:
    assert take_over(tmp_path / "gone") is None
    assert take_over(tmp_path) is None
    segment_path(tmp_path, 1).write_bytes(bytes(4096))
    assert take_over(tmp_path) is None
    assert list_journals(tmp_path / "gone") == []


def test_adopt_append_seal(tmp_path) -> None:
    writer = create(tmp_path)
    for number in range(1, 201):
        writer.append(void(number, "x" * 50), call_id(1))
    writer.close()
    assert list_journals(tmp_path) == [JournalFolder(writer.directory, JOURNAL_ID, None)]
    adopted = take_over(writer.directory)
    assert adopted is not None
    assert adopted.journal_id == JOURNAL_ID
    assert adopted.last_seq == 200
    assert confirmed_seq(writer.directory) == 200
    assert adopted.writer.append(void(201), call_id(2)) == 201
    assert adopted.seal() == 201
    assert numbers(writer.directory) == list(range(1, 202))
    assert list_journals(tmp_path) == [JournalFolder(writer.directory, JOURNAL_ID, 201)]
    assert take_over(writer.directory) is None
    with pytest.raises(UsageLogUnavailable):
        adopted.writer.append(void(202), call_id(2))
    assert not (writer.directory / RESERVE_NAME).exists()
    newest = segment_path(writer.directory, segment_numbers(writer.directory)[-1])
    assert newest.stat().st_size == read_all(writer.directory)[-1].end


def test_an_adopter_that_dies_leaves_it_to_the_next(tmp_path) -> None:
    writer = create(tmp_path)
    writer.append(hold(1), call_id(1))
    writer.append(Dispatch(2, call_id(1)), call_id(1))
    writer.close()
    first = take_over(writer.directory)
    assert first is not None
    first.writer.append(attempt_end(1), call_id(1))
    first.release()
    second = take_over(writer.directory)
    assert second is not None
    assert second.last_seq == 3
    assert second.seal() == 3


def test_a_journal_that_cannot_be_made_durable_is_not_sealed(tmp_path) -> None:
    writer = create(tmp_path)
    writer.append(void(1), call_id(1))
    writer.close()
    disk = FaultyDisk(0)
    adopted = take_over(writer.directory, disk=disk)
    assert adopted is not None
    disk.fdatasync_errors.extend([5] * 40)
    adopted.writer.append(void(2), call_id(1))
    with pytest.raises(UsageLogUnavailable, match="not durable"):
        adopted.seal()
    again = take_over(writer.directory)
    assert again is not None
    again.seal()


def test_a_disk_that_does_not_let_it_be_repaired(tmp_path) -> None:
    writer = create(tmp_path)
    writer.append(void(1), call_id(1))
    writer.append(void(2), call_id(1))
    writer.close()
    path = segment_path(writer.directory, 1)
    path.write_bytes(path.read_bytes()[:-5] + bytes(100))
    disk = FaultyDisk()
    disk.pwrite_errors.append(5)
    with pytest.raises(UsageLogUnavailable, match="cannot be adopted"):
        take_over(writer.directory, disk=disk)
    adopted = take_over(writer.directory)
    assert adopted is not None
    assert adopted.last_seq == 1
    adopted.release()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path) -> None:
    writer = create(tmp_path)
    writer.close()
    path = segment_path(writer.directory, 1)
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(bytes(data))
    with pytest.raises(JournalUnreadable, match="newer version"):
        take_over(writer.directory)
    data[8] = 1
    path.write_bytes(bytes(data))
    adopted = take_over(writer.directory)
    assert adopted is not None
    adopted.release()


# ---------------------------------------------------------------- repair


def crashed(root: Path, count: int = 5) -> tuple[Path, bytes]:
    """A journal whose process is gone without closing: (segment 1, its bytes)."""
    writer = create(root)
    for number in range(1, count + 1):
        writer.append(void(number, "x" * 20), call_id(1))
    while not writer._log.durable:
        time.sleep(0.001)
    path = segment_path(writer.directory, 1)
    data = path.read_bytes()
    writer.close()
    path.write_bytes(data)
    return path, data


def test_a_torn_tail_is_zeroed_and_overwritten_at_every_length(tmp_path) -> None:
    path, data = crashed(tmp_path)
    ends = [entry.end for entry in read_all(path.parent)]
    (path.parent / "lock").write_bytes(bytes(8))
    for cut in range(ends[-2], ends[-1]):
        path.write_bytes(data[:cut] + bytes(len(data) - cut))
        adopted = take_over(path.parent)
        assert adopted is not None
        assert adopted.last_seq == 4
        assert not any(path.read_bytes()[ends[-2] :])
        adopted.writer.append(void(99), call_id(1))
        adopted.release()
        assert numbers(path.parent) == [1, 2, 3, 4, 99]
        (path.parent / "lock").write_bytes(bytes(8))


def test_stale_bytes_behind_the_end_never_come_back(tmp_path) -> None:
    path, data = crashed(tmp_path)
    ends = [entry.end for entry in read_all(path.parent)]
    (path.parent / "lock").write_bytes(bytes(8))
    torn = bytearray(data)
    torn[ends[2] + 30] ^= 1  # record 4 is torn, and of record 5 only rubbish is left
    torn[ends[3] :] = b"r" * 700 + bytes(len(data) - ends[3] - 700)
    path.write_bytes(bytes(torn))
    adopted = take_over(path.parent)
    assert adopted is not None
    assert adopted.last_seq == 3
    adopted.writer.append(void(4), call_id(1))
    adopted.seal()
    assert numbers(path.parent) == [1, 2, 3, 4]


@pytest.mark.parametrize("hole", [bytes, lambda count: b"?" * count])
def test_records_behind_damage_are_kept_and_the_damage_is_told(tmp_path, hole) -> None:
    path, data = crashed(tmp_path)
    ends = [entry.end for entry in read_all(path.parent)]
    path.write_bytes(data[: ends[1]] + hole(ends[2] - ends[1]) + data[ends[2] :])
    tail = JournalTail(path.parent)
    before = [entry.seq for entry in tail.poll()]
    adopted = take_over(path.parent)
    assert adopted is not None
    assert adopted.last_seq == 5
    adopted.writer.append(void(6), call_id(1))
    adopted.seal()
    assert before + [entry.seq for entry in drain(tail)] == [1, 2, 4, 5, 6]
    assert [(damage.first_seq, damage.last_seq) for damage in tail.damage] == [(3, 3)]
    assert tail.finished
    tail.close()
    with pytest.raises(JournalUnreadable, match="records 3 to 3"):
        list(read_journal(path.parent))


def test_a_power_cut_that_took_the_end_of_an_older_segment(tmp_path) -> None:
    """Later pages reached the disk, earlier ones did not: what is missing is told, once somebody has taken over."""
    writer = create(tmp_path, sync_ms=10_000)
    for number in range(1, 101):
        writer.append(void(number, "x" * 60), call_id(1))
    data = {number: segment_path(writer.directory, number).read_bytes() for number in (1, 2)}
    lock = bytes(8)
    writer.close()
    entries = read_all(writer.directory)
    in_first = [entry for entry in entries if entry.segment == 1]
    cut = in_first[-4].end
    segment_path(writer.directory, 1).write_bytes(data[1][:cut] + bytes(len(data[1]) - cut))
    segment_path(writer.directory, 2).write_bytes(data[2])
    (writer.directory / "lock").write_bytes(lock)
    tail = JournalTail(writer.directory)
    assert [entry.seq for entry in drain(tail)] == list(range(1, len(in_first) - 2))
    assert tail.stalled
    assert tail.damage == []
    with pytest.raises(JournalUnreadable, match="is not there yet"):
        list(read_journal(writer.directory))
    adopted = take_over(writer.directory)
    assert adopted is not None
    assert adopted.last_seq == 100
    assert next(entry.seq for entry in drain(tail)) == len(in_first) + 1
    assert [(damage.first_seq, damage.last_seq) for damage in tail.drain_damage()] == [
        (len(in_first) - 2, len(in_first))
    ]
    adopted.seal()
    tail.close()


def test_a_segment_whose_header_is_damaged_is_not_deleted(tmp_path) -> None:
    path, data = crashed(tmp_path)
    stray = segment_path(path.parent, 7)
    stray.write_bytes(b"damaged!" + data[8:])
    blank = segment_path(path.parent, 9)
    blank.write_bytes(bytes(64) + data[64:])
    adopted = take_over(path.parent)
    assert adopted is not None
    assert stray.exists()
    adopted.writer.append(void(6), call_id(1))
    adopted.seal()
    assert not blank.exists()
    assert numbers(path.parent) == [1, 2, 3, 4, 5, 6]


def test_a_journal_without_a_reserve_gets_one(tmp_path) -> None:
    path, _ = crashed(tmp_path)
    (path.parent / RESERVE_NAME).unlink()
    adopted = take_over(path.parent)
    assert adopted is not None
    deadline = time.monotonic() + 5
    while not (path.parent / RESERVE_NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert (path.parent / RESERVE_NAME).stat().st_size == OPTIONS["reserve_bytes"]
    adopted.release()
