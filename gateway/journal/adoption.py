"""Taking over the journal of a process that is gone, closing it for good, and deleting what is no longer needed.

A free lock means that its process has ended; then everything it appended is in the files. The adopter repairs the
end, appends what the dead process owed (`ledger.adopt`), and seals. A sealed journal is never written again.
"""

from __future__ import annotations

import os
from pathlib import Path

from gateway.core.errors import JournalUnreadable, UsageLogUnavailable
from gateway.core.ports import Clock
from gateway.journal.disk import Disk
from gateway.journal.folder import Scan, Sealed, active_segments, confirmed_seq, scan_file, sealed_seq, write_seal
from gateway.journal.format import SEGMENT_HEADER_BYTES, SegmentHeader
from gateway.journal.segment import (
    LOCK_NAME,
    RESERVE_NAME,
    SEALED_NAME,
    UNFINISHED_RESERVE_NAME,
    Segment,
    Written,
    open_segment,
    read_header,
    segment_numbers,
    segment_path,
    zero,
)
from gateway.journal.tape import Tape
from gateway.journal.writer import REAL_DISK, JournalWriter, lock_directory

MAX_UNCONFIRMED_SEGMENTS = 8
"""A power cut may leave an old confirmed seq; older segments than these were synced long before it."""
_OF_SEALED = (RESERVE_NAME, LOCK_NAME, SEALED_NAME)
"""What is left of a sealed journal without segments, in the order to delete it: the marker last."""


class AdoptedJournal:
    """A dead process's journal, locked and repaired. `last_seq` is where that process ended.

    Read it (`read_journal`), append the closing records to `writer`, then `seal`; `release` leaves it for another try.
    """

    __slots__ = ("_clock", "_disk", "directory", "last_seq", "writer")

    def __init__(self, directory: Path, writer: JournalWriter, *, clock: Clock, disk: Disk) -> None:
        self.directory = directory
        self.writer = writer
        self.last_seq = writer.last_seq
        self._clock = clock
        self._disk = disk

    @property
    def journal_id(self) -> bytes:
        return self.writer.journal_id

    def seal(self) -> int:
        """Makes everything durable, gives unused space back and writes the marker; returns the journal's last seq.

        Raises UsageLogUnavailable, and lets go of the lock, when the disk does not confirm: adopt it again later.
        """
        writer, disk = self.writer, self._disk
        try:
            writer.stop()
            if writer.synced_seq != writer.last_seq:
                raise UsageLogUnavailable(f"{self.directory} cannot be sealed: its last records are not durable")
            _trim(disk, self.directory, keep_reserve=writer.ended_in_reserve)
            write_seal(disk, self.directory, Sealed(writer.last_seq, self._clock.now_ms()))
        except OSError as error:
            raise UsageLogUnavailable(f"{self.directory} cannot be sealed: {error}") from error
        finally:
            writer.close()
        return writer.last_seq

    def release(self) -> None:
        """Closes it unsealed."""
        self.writer.close()


def adopt(
    directory: Path,
    *,
    clock: Clock,
    segment_bytes: int,
    reserve_bytes: int,
    sync_ms: int,
    disk: Disk = REAL_DISK,
) -> AdoptedJournal | None:
    """The journal in `directory`, or None while a living process holds it, when it is sealed, or is not one yet.

    Raises UsageLogUnavailable when the disk does not let it be repaired, JournalUnreadable when a newer version wrote
    it.
    """
    if sealed_seq(directory) is not None:
        return None
    try:
        lock_fd = lock_directory(directory, wait=False, create=True)
    except (BlockingIOError, FileNotFoundError):
        return None
    tape: Tape | None = None
    try:
        segments = active_segments(disk, directory)
        if not segments or sealed_seq(directory) is not None:
            os.close(lock_fd)
            return None
        top = max(segment_numbers(directory))  # also of what is removed now: a reader may have been there
        _remove_unused(disk, directory, segments)
        newest = segments[-1]
        path = segment_path(directory, newest.number)
        tape = Tape(
            directory,
            newest.journal_id,
            open_segment(disk, path, newest.number, SEGMENT_HEADER_BYTES),
            None,
            top=top,
            segment_bytes=segment_bytes,
            reserve_bytes=reserve_bytes,
            clock=clock,
            disk=disk,
        )
        last_seq, unsynced = _repair(tape, segments)
    except (OSError, JournalUnreadable) as error:
        if tape is not None:
            tape.close()
            for segment in tape.done:
                disk.close(segment.fd)
        os.close(lock_fd)
        if isinstance(error, JournalUnreadable):
            raise
        if isinstance(error, FileNotFoundError):
            return None  # its creation failed, or it was deleted, meanwhile
        raise UsageLogUnavailable(f"{directory} cannot be adopted: {error}") from error
    writer = JournalWriter(tape, lock_fd=lock_fd, last_seq=last_seq, sync_ms=sync_ms, unsynced=unsynced)
    return AdoptedJournal(directory, writer, clock=clock, disk=disk)


def delete_segments(
    directory: Path, through_seq: int, *, created_before_ms: int | None = None, disk: Disk = REAL_DISK
) -> int:
    """Deletes the oldest segments, as long as all their records are at or before `through_seq`; how many it deleted.

    The newest segment stays, unless the journal is sealed; when nothing is left of a sealed journal, its folder goes
    too. `created_before_ms` keeps segments whose newest record may be younger.
    """
    segments = active_segments(disk, directory)
    sealed = sealed_seq(directory)
    deleted = 0
    for index, header in enumerate(segments):
        newest = index == len(segments) - 1
        if newest and (sealed is None or sealed > through_seq):
            break
        until_ms = header.created_ms if newest else segments[index + 1].created_ms
        if created_before_ms is not None and until_ms >= created_before_ms:
            break
        path = segment_path(directory, header.number)
        # Looked at, not concluded from the next one's first seq: that may repeat records of this one.
        if any(seq > through_seq for seq, _ in scan_file(disk, path).records):
            break
        disk.unlink(path)
        deleted += 1
    if deleted == len(segments) and sealed is not None and set(os.listdir(directory)) <= set(_OF_SEALED):
        for name in _OF_SEALED:
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()
    return deleted


# ------------------------------------------------------------ adoption, step by step


def _repair(tape: Tape, segments: list[SegmentHeader]) -> tuple[int, list[bytes]]:
    """Puts `tape` where the dead process was; (last seq, the records that were not durable then).

    What lay behind the last confirmed seq is read again, so that a failing sync finds it in memory.
    """
    current = tape.current
    confirmed = confirmed_seq(tape.directory)
    records: dict[int, bytes] = {}
    begun = [index for index, header in enumerate(segments) if header.first_seq <= confirmed + 1]
    for header in segments[max(begun[-1] if begun else 0, len(segments) - MAX_UNCONFIRMED_SEGMENTS) : -1]:
        path = segment_path(tape.directory, header.number)
        records.update(scan_file(tape.disk, path).records)
        tape.retired.append(open_segment(tape.disk, path, header.number, path.stat().st_size))
    scan = scan_file(tape.disk, current.path)
    _end_at(tape.disk, current, scan)
    records.update(scan.records)
    last_seq = max((seq for seq, _ in scan.records), default=segments[-1].first_seq - 1)
    reserved = _open_reserve(tape)
    if reserved and reserved[-1][0] >= last_seq and tape.reserve is not None:
        # It went on there last, or has just left it; what is in the reserve may stand in no other file.
        tape.reserved_from = reserved[0][0]
        tape.retired.append(current)
        tape.current = tape.reserve
        records.update(reserved)
        last_seq = reserved[-1][0]
    at_risk = _last_run(sorted(records.items()))
    return last_seq, [data for seq, data in at_risk if seq > confirmed]


def _end_at(disk: Disk, segment: Segment, scan: Scan) -> None:
    """The next record goes after the last valid one, and what is behind it is overwritten with zeros.

    Behind damage the segment is left as it is and counts as full: a reader that waits at the damage is told by the
    next file that it must look beyond.
    """
    segment.offset = scan.end
    if scan.damaged:
        segment.offset = segment.size
    else:
        zero(disk, segment.fd, scan.end, segment.size)


def _open_reserve(tape: Tape) -> list[Written]:
    """The reserve as it is, with the records it took last. The syncing thread makes a new one where there is none."""
    path = tape.directory / RESERVE_NAME
    if read_header(tape.disk, path) is None:
        return []
    scan = scan_file(tape.disk, path)
    tape.reserve = open_segment(tape.disk, path, 0, scan.end)
    return _last_run(sorted(dict(scan.records).items()))


def _last_run(records: list[Written]) -> list[Written]:
    """The records at the end whose seqs follow each other; what lies before them was written again elsewhere."""
    start = len(records) - 1
    while start > 0 and records[start - 1][0] == records[start][0] - 1:
        start -= 1
    return records[max(start, 0) :]


def _remove_unused(disk: Disk, directory: Path, segments: list[SegmentHeader]) -> None:
    """What was prepared and never became part of the journal. A file with a damaged header stays, for whoever looks."""
    (directory / UNFINISHED_RESERVE_NAME).unlink(missing_ok=True)
    used = {header.number for header in segments}
    # From the end: what was written to hold records again is told by the header that the first of it lacks.
    for number in reversed(segment_numbers(directory)):
        path = segment_path(directory, number)
        if number not in used and (read_header(disk, path) is not None or _is_blank(disk, path)):
            disk.unlink(path)


def _is_blank(disk: Disk, path: Path) -> bool:
    fd = disk.open(path, os.O_RDONLY)
    try:
        return not any(disk.pread(fd, SEGMENT_HEADER_BYTES, 0))
    finally:
        disk.close(fd)


def _trim(disk: Disk, directory: Path, *, keep_reserve: bool) -> None:
    """A sealed journal takes the room of its records only; the reserve stays only if it alone may hold some."""
    for header in active_segments(disk, directory)[-1:]:
        path = segment_path(directory, header.number)
        os.truncate(path, scan_file(disk, path).end)
    reserve = directory / RESERVE_NAME
    if keep_reserve:
        os.truncate(reserve, scan_file(disk, reserve).end)
    else:
        reserve.unlink(missing_ok=True)
