"""What lies in a journal's folder besides records: which journals there are, which are sealed, what a segment holds."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.errors import JournalUnreadable
from gateway.core.ids import JOURNAL, parse_id
from gateway.journal.disk import Disk, sync_directory
from gateway.journal.format import SEGMENT_HEADER_BYTES, SegmentHeader, valid_frames
from gateway.journal.segment import LOCK_NAME, SEALED_NAME, Written, read_active, segment_numbers

CONFIRMED_BYTES = 8
NO_WRITER = 1 << 63
_PIECE_BYTES = 1 << 20


class JournalFolder(msgspec.Struct, frozen=True):
    """A journal on disk. `sealed_seq` is its last seq once it has been closed for good, None before."""

    path: Path
    journal_id: bytes
    sealed_seq: int | None


class Sealed(msgspec.Struct, frozen=True):
    """The content of a `sealed` file, as JSON."""

    last_seq: int
    sealed_ms: int


class Scan(NamedTuple):
    """All of a file's valid records. `end` is after the last; `damaged` if something unreadable lies before it."""

    records: list[Written]
    end: int
    damaged: bool


def list_journals(root: Path) -> list[JournalFolder]:
    """All journals under `root`, oldest first; none when there is no such folder."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        journal_id = parse_id(JOURNAL, name)
        if journal_id is not None:
            found.append(JournalFolder(root / name, journal_id, sealed_seq(root / name)))
    return found


def sealed_seq(directory: Path) -> int | None:
    """The last seq of a sealed journal, None of one that is not. Raises JournalUnreadable for a broken marker."""
    try:
        content = (directory / SEALED_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return msgspec.json.decode(content, type=Sealed).last_seq
    except msgspec.MsgspecError as error:
        raise JournalUnreadable(f"{directory / SEALED_NAME} is not a seal: {error}") from error


def confirmed_seq(directory: Path) -> int:
    """Up to where everything is durable: a gap before it is damage, one behind it its living writer may still close.

    It is in the lock file, written after each sync; a sealed journal is durable to its end. Where there is neither
    (a copy of segments), nobody will close a gap.
    """
    sealed = sealed_seq(directory)
    if sealed is not None:
        return sealed
    try:
        return int.from_bytes((directory / LOCK_NAME).read_bytes()[:CONFIRMED_BYTES], "little")
    except FileNotFoundError:
        return NO_WRITER


def has_writer(directory: Path) -> bool:
    """Whether a living process may still write this journal. Once False, its files have all that it ever appended."""
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def write_seal(disk: Disk, directory: Path, seal: Sealed) -> None:
    """Durable, and there as a whole or not at all. Raises OSError."""
    unfinished = directory / f"{SEALED_NAME}.new"
    fd = disk.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        content = msgspec.json.encode(seal)
        if disk.pwrite(fd, content, 0) != len(content):
            raise OSError("the seal was written in part")
        disk.fsync(fd)
    finally:
        disk.close(fd)
    os.replace(unfinished, directory / SEALED_NAME)
    sync_directory(disk, directory)


def active_segments(disk: Disk, directory: Path) -> list[SegmentHeader]:
    """The headers of all segments of the journal, by number. Raises FileNotFoundError."""
    headers = (read_active(disk, directory, number) for number in segment_numbers(directory))
    return [header for header in headers if header is not None]


def scan_file(disk: Disk, path: Path) -> Scan:
    """Reads a whole segment or reserve file, past damage. A part that cannot be read counts as damaged."""
    data, damaged = _read_file(disk, path)
    records: list[Written] = []
    end = SEGMENT_HEADER_BYTES
    for at, frame in valid_frames(data, end):
        damaged = damaged or at != end
        records.append((frame.seq, data[at : frame.end]))
        end = frame.end
    return Scan(records, end, damaged)


def _read_file(disk: Disk, path: Path) -> tuple[bytes, bool]:
    fd = disk.open(path, os.O_RDONLY)
    try:
        pieces: list[bytes] = []
        offset = 0
        while True:
            try:
                piece = disk.pread(fd, _PIECE_BYTES, offset)
            except OSError:
                return b"".join(pieces), True
            if not piece:
                return b"".join(pieces), False
            pieces.append(piece)
            offset += len(piece)
    finally:
        disk.close(fd)
