"""Where the next record goes: one segment after another, the reserve when no other segment can be had.

Not safe for threads: the writer calls it under its lock. Whatever is written again keeps its seq, and readers drop
what they have, so a file that is not trusted any more is left behind and never repaired in place.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from pathlib import Path

from gateway.core.ports import Clock
from gateway.journal.disk import Disk, Pwrite
from gateway.journal.format import SEGMENT_HEADER_BYTES
from gateway.journal.segment import (
    Segment,
    Written,
    activate,
    create_reserve,
    create_segment,
    read_back,
    segment_path,
    write_record,
    zero,
)


class Tape:
    """`current` is written; `retired` are full and wait for their sync; `spare` is prepared; `done` wait to be closed.

    `moves` counts the times records were written again elsewhere: a sync that began before one proves nothing.
    """

    __slots__ = (
        "clock",
        "current",
        "directory",
        "disk",
        "done",
        "journal_id",
        "moves",
        "reserve",
        "reserve_bytes",
        "reserved_from",
        "retired",
        "segment_bytes",
        "spare",
        "top",
    )

    def __init__(
        self,
        directory: Path,
        journal_id: bytes,
        current: Segment,
        reserve: Segment | None,
        *,
        top: int,
        segment_bytes: int,
        reserve_bytes: int,
        clock: Clock,
        disk: Disk,
    ) -> None:
        self.directory = directory
        self.journal_id = journal_id
        self.current = current
        self.reserve = reserve
        self.top = top
        self.segment_bytes = segment_bytes
        self.reserve_bytes = reserve_bytes
        self.clock = clock
        self.disk = disk
        self.spare: Segment | None = None
        self.retired: list[Segment] = []
        self.done: list[Segment] = []
        self.moves = 0
        self.reserved_from = 0

    @property
    def in_reserve(self) -> bool:
        return self.current is self.reserve

    @property
    def room(self) -> int:
        """Bytes that are allocated already: what running calls can still settle into on a full disk."""
        room = self.current.room
        if self.spare is not None:
            room += self.spare.room
        if self.reserve is not None and not self.in_reserve:
            room += self.reserve.room
        return room

    def put(self, pwrite: Pwrite, data: bytes) -> int:
        """Writes at the end of the present file, which grows only if all went in: the bytes written, 0 when it has no
        room for all. Raises OSError."""
        segment = self.current
        end = segment.offset + len(data)
        if end > segment.size:
            return 0
        written = pwrite(segment.fd, data, segment.offset)
        if written == len(data):
            segment.offset = end
        return written

    def put_all(self, pwrite: Pwrite, records: Sequence[bytes]) -> bool:
        """One `put` for all of them. False when that failed: each must be written by itself, over what there is."""
        data = b"".join(records)
        try:
            return self.put(pwrite, data) == len(data)
        except OSError:
            return False

    def next_number(self) -> int:
        self.top += 1
        return self.top

    def advance(self, first_seq: int) -> None:
        """Goes on in a new segment. Raises OSError, with nothing changed, when there is none."""
        fresh = self._blank()
        try:
            self._activate(fresh, first_seq)
        except OSError:
            self._discard(fresh)
            raise
        self.retired.append(self.current)
        self.current = fresh

    def carry(self, records: Sequence[Written], *, distrust: bool) -> None:
        """Writes `records` (not empty, ascending) into new segments and goes on there; the present files are done.

        They must be everything not known to be safe. `distrust`: a present file failed; if that was the reserve, it is
        not used again. Raises OSError, with the present files still in use.
        """
        fresh: list[Segment] = []
        first_seqs: list[int] = []
        try:
            for seq, data in records:
                if not fresh or fresh[-1].room < len(data):
                    fresh.append(self._blank())
                    first_seqs.append(seq)
                write_record(self.disk, fresh[-1], data)
            # The first one's header, written last, makes all of them part of the journal in one step: neither readers
            # nor an adopter ever see an attempt that failed or was cut short.
            for segment, first_seq in zip(reversed(fresh), reversed(first_seqs), strict=True):
                self._activate(segment, first_seq, copied_from=fresh[0].number)
        except OSError:
            for segment in reversed(fresh):
                self._discard(segment)
            raise
        if distrust and self.in_reserve:
            self.reserve = None
        self.done.extend(segment for segment in [*self.retired, self.current] if segment is not self.reserve)
        self.retired = fresh[:-1]
        self.current = fresh[-1]
        self.moves += 1

    def enter_reserve(self, records: Sequence[Written], *, distrust: bool) -> None:
        """Writes `records` into the reserve and goes on there. Raises OSError when it is full or failing too.

        `distrust`: the present files failed and `records` are everything not known to be safe.
        """
        reserve = self.reserve
        if reserve is None or reserve.room < sum(len(data) for _, data in records):
            raise OSError(errno.ENOSPC, "the reserved file is full")
        for _, data in records:
            write_record(self.disk, reserve, data)
        self.reserved_from = min(self.reserved_from, records[0][0]) if self.in_reserve else records[0][0]
        left = [segment for segment in [*self.retired, self.current] if segment is not reserve]
        if distrust:
            self.done.extend(left)
        self.retired = [] if distrust else left
        self.current = reserve
        self.moves += 1

    def reserved_records(self) -> list[Written]:
        """What the reserve has taken since it was entered last. Raises OSError."""
        if self.reserve is None:
            return []
        return [written for written in read_back(self.disk, self.reserve) if written[0] >= self.reserved_from]

    def create_reserve(self) -> Segment:
        """A new reserve for a tape that has none. Raises OSError. Changes nothing: it may run beside appends."""
        return create_reserve(self.disk, self.directory, self.reserve_bytes, self.journal_id, self.clock.now_ms())

    def clear_reserve(self) -> None:
        """Empties the reserve, once everything in it is synced in a segment. Raises OSError; harmless to repeat."""
        if self.reserve is not None and not self.in_reserve and self.reserve.offset > SEGMENT_HEADER_BYTES:
            zero(self.disk, self.reserve.fd, SEGMENT_HEADER_BYTES, self.reserve.offset)
            self.reserve.offset = SEGMENT_HEADER_BYTES

    def take_spare(self, spare: Segment) -> bool:
        """Keeps a segment that was prepared meanwhile; False if a later one was made: readers follow the numbers."""
        if self.spare is None and spare.number == self.top:
            self.spare = spare
            return True
        self._discard(spare)
        return False

    def close(self) -> None:
        """All files are done; nothing can be written. The reserve keeps its size, for whoever must still settle."""
        self.done.extend([*self.retired, self.current])
        if self.reserve is not None and not self.in_reserve:
            self.done.append(self.reserve)
        if self.reserve is not None:
            self.reserve.offset = self.reserve.size
        if self.spare is not None:
            self._discard(self.spare)
        # A closed descriptor's number may be another file's tomorrow: nothing fits into this one.
        self.current = Segment(-1, 0, self.directory, size=0, offset=0)
        self.retired, self.spare, self.reserve = [], None, None

    def _blank(self) -> Segment:
        blank, self.spare = self.spare, None
        if blank is None:
            number = self.next_number()
            blank = create_segment(self.disk, segment_path(self.directory, number), number, self.segment_bytes)
        return blank

    def _activate(self, segment: Segment, first_seq: int, copied_from: int = 0) -> None:
        activate(self.disk, segment, self.journal_id, first_seq, self.clock.now_ms(), copied_from)

    def _discard(self, segment: Segment) -> None:
        with contextlib.suppress(OSError):  # a file without a header is no part of the journal
            self.disk.unlink(segment.path)
        self.done.append(segment)
