"""The writer on a healthy disk: order, rollover, durability, admission, closing."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from journal_world import (
    JOURNAL_ID,
    FaultyDisk,
    call_id,
    create,
    drain,
    hold,
    numbers,
    one_of_each,
    read_all,
    settle,
    void,
)

from gateway.core.errors import UsageLogUnavailable
from gateway.core.ports import Journal
from gateway.core.records import Progress, Stat
from gateway.journal import log
from gateway.journal.folder import list_journals
from gateway.journal.reader import JournalTail
from gateway.journal.segment import segment_numbers


def test_every_type_is_read_back_as_written(tmp_path) -> None:
    writer = create(tmp_path)
    port: Journal = writer
    assert port.ready
    assert port.journal_id == JOURNAL_ID
    written = [(port.append(record, call_id(7)), record) for record in one_of_each()]
    port.close()
    entries = read_all(writer.directory)
    assert [(entry.seq, entry.record) for entry in entries] == written
    assert {entry.call_id for entry in entries} == {call_id(7)}
    assert {entry.journal_id for entry in entries} == {JOURNAL_ID}


def test_a_record_can_be_read_as_soon_as_append_returns(tmp_path) -> None:
    writer = create(tmp_path, sync_ms=1000)
    tail = JournalTail(writer.directory)
    for number in range(1, 400):
        assert writer.append(void(number), call_id(1)) == number
        assert [entry.record.ts_ms for entry in tail.poll()] == [number]
    assert len(segment_numbers(writer.directory)) > 3
    assert tail.poll() == []
    tail.close()
    writer.close()
    assert numbers(writer.directory) == list(range(1, 400))


def test_records_of_no_call_have_an_id_of_zeros(tmp_path) -> None:
    writer = create(tmp_path)
    writer.append(Stat(1, {"x": 1}), b"")
    writer.close()
    assert read_all(writer.directory)[0].call_id == bytes(16)


def test_a_record_that_is_too_long_is_refused_and_takes_no_seq(tmp_path) -> None:
    writer = create(tmp_path)
    with pytest.raises(ValueError, match="longer"):
        writer.append(void(1, "x" * 9000), call_id(1))
    assert writer.append(void(1, "x" * 7000), call_id(1)) == 1
    writer.close()
    assert numbers(writer.directory) == [1]


async def test_synced_returns_when_the_disk_has_confirmed(tmp_path) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path, disk=disk, sync_ms=20)
    seq = writer.append(void(1), call_id(1))
    await asyncio.gather(*(writer.synced(seq) for _ in range(3)))
    assert writer.synced_seq == seq
    assert disk.syncs == 1
    await writer.synced(seq)
    # A waiter that gives up does not disturb the others.
    seq = writer.append(void(2), call_id(1))
    impatient = asyncio.ensure_future(writer.synced(seq))
    await asyncio.sleep(0)
    impatient.cancel()
    await writer.synced(seq)
    writer.close()


async def test_closing_syncs_and_later_waiters_are_told(tmp_path) -> None:
    writer = create(tmp_path, sync_ms=1000)
    seq = writer.append(void(1), call_id(1))
    waiting = asyncio.ensure_future(writer.synced(seq))
    await asyncio.sleep(0)
    await asyncio.to_thread(writer.close)
    await waiting
    assert writer.synced_seq == seq
    with pytest.raises(UsageLogUnavailable):
        await writer.synced(seq + 1)
    writer.close()


def test_nothing_is_synced_while_nothing_is_written(tmp_path) -> None:
    disk = FaultyDisk()
    writer = create(tmp_path, disk=disk)
    writer.append(void(1), call_id(1))
    deadline = time.monotonic() + 5
    while writer.synced_seq < 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    syncs = disk.syncs
    time.sleep(0.05)
    assert disk.syncs == syncs == 1
    writer.close()
    assert disk.syncs == 1


def test_a_closed_journal_takes_nothing_and_writes_into_nobody_elses_file(tmp_path) -> None:
    writer = create(tmp_path)
    writer.append(void(1), call_id(1))
    writer.close()
    others = [os.open(tmp_path / f"other{n}", os.O_RDWR | os.O_CREAT) for n in range(8)]
    with pytest.raises(UsageLogUnavailable):
        writer.append(void(2), call_id(1))
    with pytest.raises(UsageLogUnavailable):
        writer.append(hold(), call_id(1))
    assert not writer.ready
    for fd in others:
        assert os.fstat(fd).st_size == 0
        os.close(fd)


def test_closing_gives_back_what_was_allocated_ahead(tmp_path) -> None:
    writer = create(tmp_path, segment_bytes=1 << 20)
    for number in range(1, 10):
        writer.append(void(number), call_id(1))
    writer.close()
    assert segment_numbers(writer.directory) == [1]
    assert (writer.directory / "00000001.wal").stat().st_size < 2000


def test_two_journals_cannot_have_one_folder(tmp_path) -> None:
    writer = create(tmp_path)
    with pytest.raises(UsageLogUnavailable, match="cannot create"):
        create(tmp_path)
    writer.append(void(1), call_id(1))
    writer.close()
    assert numbers(writer.directory) == [1]


def test_a_disk_without_room_for_a_journal_leaves_nothing_behind(tmp_path) -> None:
    for space_bytes in (0, 8192, 3 * 8192 - 1):
        disk = FaultyDisk(space_bytes)
        if space_bytes < 2 * 8192:
            with pytest.raises(UsageLogUnavailable, match="No space left"):
                create(tmp_path, disk=disk)
            assert list_journals(tmp_path) == []
        else:
            create(tmp_path, disk=disk).close()


def test_a_hold_must_leave_the_room_that_open_calls_need_to_settle(tmp_path) -> None:
    disk = FaultyDisk(4 * 8192)
    writer = create(tmp_path, disk=disk)
    admitted = 0
    refused = ""
    while not refused:
        try:
            writer.append(hold(admitted + 1), call_id(admitted + 1))
            admitted += 1
        except UsageLogUnavailable as error:
            refused = str(error)
    assert "running ones need" in refused
    assert 1 <= admitted <= 4 * 8192 // log.CLOSING_BYTES
    # A further attempt of a call that is open already needs no more room; a settled call gives its room back.
    writer.append(hold(1), call_id(1))
    writer.append(settle(1), call_id(1))
    writer.append(hold(99), call_id(99))
    writer.close()


def test_threads_may_append_at_the_same_time(tmp_path) -> None:
    writer = create(tmp_path, segment_bytes=65536)
    seqs: list[int] = []

    def work() -> None:
        seqs.extend([writer.append(Progress(1, bytes(16), 1, 1), call_id(1)) for _ in range(500)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    tail = JournalTail(writer.directory)
    seen: list[int] = []
    while any(thread.is_alive() for thread in threads):
        seen += [entry.seq for entry in tail.poll()]
    writer.close()
    seen += [entry.seq for entry in drain(tail)]
    tail.close()
    assert sorted(seqs) == seen == list(range(1, 2001))
    assert tail.damage == []
