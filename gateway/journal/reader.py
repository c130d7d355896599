"""Reading a journal, at rest or while it is written: every record once, in the order of its seq.

The writer may have written a record again in a later segment or in the reserve, with the same seq. So a file that
cannot be read on is no loss as long as a later one goes on at or before the next seq. What really is missing becomes
a `Damage`, an alarm: reading goes on behind it, and nothing is ever skipped in silence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from gateway.core.errors import JournalUnreadable
from gateway.core.records import Entry, RecordType, decode_record
from gateway.journal.disk import Disk
from gateway.journal.folder import active_segments, confirmed_seq, sealed_seq
from gateway.journal.format import (
    MAX_PAYLOAD_BYTES,
    RECORD_HEADER_BYTES,
    RECORD_VERSION,
    SEGMENT_HEADER_BYTES,
    Frame,
    SegmentHeader,
    Stop,
    read_frame,
    valid_frames,
)
from gateway.journal.segment import RESERVE_NAME, read_active, read_header, segment_numbers, segment_path

CHUNK_BYTES = 256 * 1024
_LONGEST_BYTES = MAX_PAYLOAD_BYTES + RECORD_HEADER_BYTES
_REAL_DISK = Disk()
_KNOWN = frozenset(int(kind) for kind in RecordType)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a reader is: after `seq`, at `offset` of `segment`. Zeros are the beginning. It survives the deletion of
    segments, and may be stored."""

    segment: int = 0
    offset: int = 0
    seq: int = 0


BEGINNING = Position()


class Damage(msgspec.Struct, frozen=True):
    """Records `first_seq` to `last_seq` cannot be read: an alarm. They lay in [offset, end) of `segment`, if at all."""

    journal_id: bytes
    segment: int
    offset: int
    end: int
    first_seq: int
    last_seq: int


def read_journal(
    directory: Path,
    *,
    after_seq: int = 0,
    segment: int = 0,
    offset: int = 0,
    on_damage: Callable[[Damage], None] | None = None,
) -> Iterator[Entry]:
    """All entries after `after_seq` that are there now; `segment` and `offset` of a Position save the way there.

    Missing records are told to `on_damage`; without it they raise JournalUnreadable. So does a record that a newer
    version wrote, and, at the end, a gap that the journal's writer or adopter must close first.
    """
    tail = JournalTail(directory, Position(segment, offset, after_seq))
    try:
        while True:
            entries = tail.poll()
            for damage in tail.drain_damage():
                if on_damage is None:
                    raise JournalUnreadable(
                        f"{directory}: records {damage.first_seq} to {damage.last_seq} cannot be read "
                        f"(segment {damage.segment}, bytes {damage.offset} to {damage.end})"
                    )
                on_damage(damage)
            if not entries:
                break
            yield from entries
        if tail.stalled:
            raise JournalUnreadable(f"{directory}: record {tail.position.seq + 1} is not there yet, but later ones are")
    finally:
        tail.close()


class JournalTail:
    """Follows one journal while another process writes it. `poll` never waits; `position` is where to go on.

    `damage` must be looked at after each poll. `finished` is True when the journal is sealed and has been read.
    `stalled` is True while later records can be read but the next cannot, and it was never durable: its writer, or the
    writer's adopter, must write it again or give it up.
    """

    __slots__ = (
        "_chunk_bytes",
        "_directory",
        "_disk",
        "_fd",
        "_journal_id",
        "_limit",
        "_number",
        "_offset",
        "_seq",
        "damage",
        "finished",
        "stalled",
    )

    def __init__(
        self,
        directory: Path,
        position: Position = BEGINNING,
        *,
        limit: int = 1000,
        chunk_bytes: int = CHUNK_BYTES,
        disk: Disk = _REAL_DISK,
    ) -> None:
        """Whole chunks are decoded: a poll goes beyond `limit` by what is left of one."""
        self._directory = directory
        self._disk = disk
        self._limit = limit
        self._chunk_bytes = chunk_bytes
        self._fd = -1
        self._number = position.segment
        self._offset = position.offset
        self._seq = position.seq
        self._journal_id = b""
        self.damage: list[Damage] = []
        self.finished = False
        self.stalled = False

    @property
    def position(self) -> Position:
        return Position(self._number, self._offset, self._seq)

    def poll(self) -> list[Entry]:
        """The next entries, at most about `limit`; none when there is nothing new.

        Raises JournalUnreadable at a record that a newer version wrote (after returning what lies before it), and
        FileNotFoundError when the journal is gone.
        """
        entries: list[Entry] = []
        self.stalled = False
        try:
            while len(entries) < self._limit:
                if self._fd < 0 and not self._open_first():
                    break
                stop = self._read(entries)
                if stop is not None and not self._pass(stop, entries):
                    break
        except JournalUnreadable:
            if not entries:
                raise
        return entries

    def drain_damage(self) -> list[Damage]:
        drained, self.damage = self.damage, []
        return drained

    def close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    # ------------------------------------------------------------ one file

    def _read(self, entries: list[Entry]) -> Stop | None:
        """Reads on in the open file. Why it cannot go further, or None when the limit is reached."""
        size = self._chunk_bytes
        while len(entries) < self._limit:
            try:
                data = self._disk.pread(self._fd, size, self._offset)
            except OSError:
                return Stop.BAD  # a dead disk's file: what is missing shows by the next one
            start = self._offset
            stop = self._take(data, entries)
            if len(data) < size or (
                stop is not Stop.SHORT and len(data) - (self._offset - start) > RECORD_HEADER_BYTES
            ):
                return Stop.BAD if stop is Stop.SHORT else stop
            # The chunk ends inside a record; only a longer read tells a long one from a damaged length.
            size = _LONGEST_BYTES if self._offset == start else self._chunk_bytes
        return None

    def _take(self, data: bytes, entries: list[Entry]) -> Stop:
        base = self._offset
        offset = 0
        seq = self._seq
        try:
            while True:
                frame = read_frame(data, offset)
                if isinstance(frame, Stop):
                    return frame
                if frame.seq > seq:
                    if frame.seq != seq + 1:
                        return Stop.BAD
                    entries.append(self._entry(frame, base + frame.end))
                    seq = frame.seq
                offset = frame.end
        finally:
            self._offset = base + offset
            self._seq = seq

    def _entry(self, frame: Frame, end: int) -> Entry:
        if frame.kind not in _KNOWN or frame.version > RECORD_VERSION:
            raise JournalUnreadable(
                f"{self._directory}: record {frame.seq} has type {frame.kind}.{frame.version}, written by a newer "
                f"version of Faregate; upgrade this one"
            )
        try:
            record = decode_record(frame.kind, frame.payload)
        except msgspec.MsgspecError as error:
            raise JournalUnreadable(f"{self._directory}: record {frame.seq} cannot be decoded: {error}") from error
        return Entry(self._journal_id, frame.seq, frame.call_id, record, self._number, end)

    # ------------------------------------------------------------ from one file to the next

    def _pass(self, stop: Stop, entries: list[Entry]) -> bool:
        """What to do where the open file cannot be read on; True when there is more to read now.

        The writer starts a file only after its last write to the one before. So once a later one is seen, this one is
        read again before it is judged.
        """
        following = self._following()
        covered = following is not None and following.first_seq <= self._seq + 1
        reserved = [] if covered else self._reserved()
        if following is None and not reserved and stop is Stop.END:
            return self._end(entries)
        again = self._read(entries)
        if again is None:
            return True
        if self._take_reserved(reserved, entries):
            return following is not None  # it may cover what comes next now
        if following is not None and following.first_seq <= self._seq + 1:
            self._open(following)
            return True
        ahead = [frame.seq for frame in reserved if frame.seq > self._seq]
        if following is not None:
            ahead.append(following.first_seq)
        if self._seq >= confirmed_seq(self._directory):
            # What comes next was never durable: its writer may be writing it, or will write it again elsewhere; if it
            # was torn by a crash, the adopter will say so.
            self.stalled = bool(ahead)
            return False
        if ahead:
            if not self._resync(before=min(ahead)):
                self._miss(min(ahead))
            return True
        return (again is Stop.BAD and self._resync()) or self._end(entries)

    def _end(self, entries: list[Entry]) -> bool:
        sealed = sealed_seq(self._directory)
        if sealed is None:
            return False
        if self._read(entries) is None or (self._seq < sealed and self._resync()):
            return True
        self._miss(sealed + 1)
        self.finished = True
        return False

    def _take_reserved(self, reserved: list[Frame], entries: list[Entry]) -> bool:
        """Takes what comes next from the reserve; whether there was any."""
        before = self._seq
        for frame in reserved:
            if frame.seq == self._seq + 1:
                # Its place is the end of the last segment: from there a later reader finds the reserve again.
                entries.append(self._entry(frame, self._offset))
                self._seq = frame.seq
        return self._seq > before

    def _resync(self, *, before: int | None = None) -> bool:
        """Goes to the next valid record of the open file that is not behind, nor at `before` or after; False when
        there is none."""
        try:
            data = self._disk.pread(self._fd, os.fstat(self._fd).st_size, self._offset)
        except OSError:
            return False
        for at, frame in valid_frames(data, 0):
            if frame.seq > self._seq:
                if before is not None and frame.seq >= before:
                    return False
                end = self._offset + at
                self._miss(frame.seq, end=end)
                self._offset = end
                return True
        return False

    def _miss(self, next_seq: int, *, end: int | None = None) -> None:
        if next_seq > self._seq + 1:
            end = self._offset if end is None else end
            missing = Damage(self._journal_id, self._number, self._offset, end, self._seq + 1, next_seq - 1)
            self.damage.append(missing)
            self._seq = next_seq - 1

    # ------------------------------------------------------------ files

    def _open_first(self) -> bool:
        segments = active_segments(self._disk, self._directory)
        there = next((header for header in segments if header.number == self._number), None)
        if there is not None:
            return self._open(there, max(self._offset, SEGMENT_HEADER_BYTES))
        if not segments:
            return False
        # The segment of the position has been deleted, or failed and was left: the seq says where to go on.
        first = _first_with(segments, self._seq + 1)
        if first.first_seq > self._seq + 1 and self._seq >= confirmed_seq(self._directory):
            self.stalled = True
            return False
        if not self._open(first):
            return False
        if self._seq == 0:
            self._seq = first.first_seq - 1
        else:
            self._miss(first.first_seq)
        return True

    def _open(self, header: SegmentHeader, offset: int = SEGMENT_HEADER_BYTES) -> bool:
        try:
            fd = self._disk.open(segment_path(self._directory, header.number), os.O_RDONLY)
        except FileNotFoundError:
            return False
        self.close()
        self._fd = fd
        self._number = header.number
        self._offset = offset
        self._journal_id = header.journal_id
        return True

    def _following(self) -> SegmentHeader | None:
        """The next segment that holds what comes next; if none does, the one after the smallest gap.

        It need not be the next number: records of several segments may have been written again in a later one.
        """
        nearest: SegmentHeader | None = None
        for number in segment_numbers(self._directory):
            if number <= self._number:
                continue
            header = read_active(self._disk, self._directory, number)
            if header is None:
                continue
            if header.first_seq <= self._seq + 1:
                return header
            if nearest is None or header.first_seq < nearest.first_seq:
                nearest = header
        return nearest

    def _reserved(self) -> list[Frame]:
        """Records of the reserve that are not behind. Read whole: it is used only on a full disk."""
        path = self._directory / RESERVE_NAME
        if read_header(self._disk, path) is None:
            return []
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            head = self._disk.pread(fd, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES)
            if not any(head):
                return []
            data = self._disk.pread(fd, os.fstat(fd).st_size, SEGMENT_HEADER_BYTES)
        except OSError:
            return []
        finally:
            self._disk.close(fd)
        return [frame for _, frame in valid_frames(data, 0) if frame.seq > self._seq]


def _first_with(segments: list[SegmentHeader], seq: int) -> SegmentHeader:
    """Where a reader that wants `seq` begins; if no segment starts by then, the one that starts next.

    It is the last that starts by then: a segment that starts before the end of the one before it has all its records.
    """
    begun = [header for header in segments if header.first_seq <= seq]
    return begun[-1] if begun else min(segments, key=lambda header: header.first_seq)
