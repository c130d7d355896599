"""One preallocated file of a journal, as its writer holds it: created, activated, written at a tracked offset.

A segment is created ahead of its use with a header of zeros, and belongs to the journal once its header is written.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gateway.journal.disk import Disk, sync_directory
from gateway.journal.format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    pack_segment_header,
    read_segment_header,
    valid_frames,
)

SUFFIX = ".wal"
RESERVE_NAME = "reserve.wal"
UNFINISHED_RESERVE_NAME = "reserve.new"
LOCK_NAME = "lock"
SEALED_NAME = "sealed"
_BLOCK = bytes(64 * 1024)

Written = tuple[int, bytes]
"""A record as it was written: its seq and its bytes."""


class Segment:
    """An open file. `offset` is where the next record goes; `number` is 0 for the reserve."""

    __slots__ = ("fd", "number", "offset", "path", "size")

    def __init__(self, fd: int, number: int, path: Path, size: int, offset: int = SEGMENT_HEADER_BYTES) -> None:
        self.fd = fd
        self.number = number
        self.path = path
        self.size = size
        self.offset = offset

    @property
    def room(self) -> int:
        return self.size - self.offset


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}{SUFFIX}"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of all segment files, ascending; the reserve is none. Raises FileNotFoundError."""
    names = (name.removesuffix(SUFFIX) for name in os.listdir(directory) if name.endswith(SUFFIX))
    return sorted(int(name) for name in names if name.isdigit())


def read_header(disk: Disk, path: Path) -> SegmentHeader | None:
    """The header of a segment file; None when there is no file, or it is not in use yet, or cannot be read."""
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return read_segment_header(disk.pread(fd, SEGMENT_HEADER_BYTES, 0))
    except OSError:
        return None
    finally:
        disk.close(fd)


def read_active(disk: Disk, directory: Path, number: int) -> SegmentHeader | None:
    """The header of a segment that is part of the journal, else None."""
    header = read_header(disk, segment_path(directory, number))
    if header is None or header.copied_from in (0, number):
        return header
    first = segment_path(directory, header.copied_from)
    # Only segments of the journal are deleted from its beginning, so a first one that is gone was valid.
    return header if read_header(disk, first) is not None or not first.exists() else None


def create_segment(disk: Disk, path: Path, number: int, size: int) -> Segment:
    """A new file of `size` zero bytes, durable with its name. Raises OSError and leaves no file behind."""
    fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        disk.fallocate(fd, size)
        disk.fsync(fd)
        sync_directory(disk, path.parent)
    except OSError:
        disk.close(fd)
        with contextlib.suppress(OSError):  # an unused file with a header of zeros is no part of the journal
            disk.unlink(path)
        raise
    return Segment(fd, number, path, size)


def create_reserve(disk: Disk, directory: Path, size: int, journal_id: bytes, created_ms: int) -> Segment:
    """A new, empty reserve, durable; it takes the place of one that failed. Raises OSError."""
    unfinished = directory / UNFINISHED_RESERVE_NAME
    unfinished.unlink(missing_ok=True)
    reserve = create_segment(disk, unfinished, 0, size)
    try:
        activate(disk, reserve, journal_id, 0, created_ms)
        disk.fsync(reserve.fd)
        reserve.path = directory / RESERVE_NAME
        os.replace(unfinished, reserve.path)
        sync_directory(disk, directory)
    except OSError:
        disk.close(reserve.fd)
        raise
    return reserve


def open_segment(disk: Disk, path: Path, number: int, offset: int) -> Segment:
    """An existing file to go on writing at `offset`."""
    fd = disk.open(path, os.O_RDWR)
    return Segment(fd, number, path, os.fstat(fd).st_size, offset)


def activate(
    disk: Disk, segment: Segment, journal_id: bytes, first_seq: int, created_ms: int, copied_from: int = 0
) -> None:
    """Writes the header: from here on the segment is part of the journal. Raises OSError."""
    header = SegmentHeader(journal_id, segment.number, first_seq, created_ms, copied_from)
    _write_whole(disk, segment.fd, pack_segment_header(header), 0)


def write_record(disk: Disk, segment: Segment, data: bytes, written: int = 0) -> None:
    """Writes a record at the segment's offset, all of it or none; `written` bytes of it are there already.

    Raises OSError after zeroing what was written of it, so that no half record stays where the next one goes.
    """
    try:
        _write_whole(disk, segment.fd, data[written:], segment.offset + written)
    except OSError:
        with contextlib.suppress(OSError):  # a failing disk keeps the torn bytes: a reader knows them by their checksum
            disk.pwrite(segment.fd, bytes(len(data)), segment.offset)
        raise
    segment.offset += len(data)


def read_back(disk: Disk, segment: Segment) -> list[Written]:
    """The whole records a segment holds before its offset, in its order. Raises OSError."""
    data = disk.pread(segment.fd, segment.offset, 0)
    return [(frame.seq, data[at : frame.end]) for at, frame in valid_frames(data, SEGMENT_HEADER_BYTES)]


def zero(disk: Disk, fd: int, start: int, end: int) -> None:
    """Overwrites [start, end) with zeros where it is not zero already."""
    for offset in range(start, end, len(_BLOCK)):
        block = disk.pread(fd, min(len(_BLOCK), end - offset), offset)
        if block != _BLOCK[: len(block)]:
            _write_whole(disk, fd, bytes(len(block)), offset)


def _write_whole(disk: Disk, fd: int, data: bytes, offset: int) -> None:
    while data:
        written = disk.pwrite(fd, data, offset)
        if written <= 0:
            raise OSError("pwrite wrote nothing")
        data = data[written:]
        offset += written
