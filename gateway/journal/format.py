"""The bytes of a journal: segment header, record header, checksum. `docs/journal.md` describes them for others.

All integers are little-endian. A segment is preallocated, so it ends in zeros: a zero magic is the end of what was
written. Nothing here reads or writes a file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from gateway.core.errors import JournalUnreadable

FORMAT_VERSION = 1
RECORD_VERSION = 1
SEGMENT_MAGIC = b"FAREGATE"
RECORD_MAGIC = b"FGRc"
MAX_PAYLOAD_BYTES = 1 << 20
"""A longer length is a damaged one. The largest real record, a SETTLE with 8 KiB of raw usage, is far below."""

_SEGMENT = struct.Struct("<8sHHI16sQQI8x")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
_PREFIX = struct.Struct("<4sII")
_REST = struct.Struct("<BBHQ16s")
_WHOLE = struct.Struct("<4sIIBBHQ16s")
RECORD_HEADER_BYTES = _WHOLE.size
_CRC_FROM = _PREFIX.size
_NOTHING = bytes(4)

_pack_prefix = _PREFIX.pack
_pack_rest = _REST.pack
_unpack_whole = _WHOLE.unpack_from
_crc32 = zlib.crc32


class SegmentHeader(NamedTuple):
    """`first_seq` is the seq of the first record after the header; 0 in the reserve file.

    `copied_from` is not 0 in segments that were written to hold records of earlier files again: the number of the first
    of them, whose header is written last. As long as that has none, all of them are no part of the journal.
    """

    journal_id: bytes
    number: int
    first_seq: int
    created_ms: int
    copied_from: int = 0


class Frame(NamedTuple):
    """One record's bytes taken apart, checksum verified. `end` is the offset after it in what was read."""

    kind: int
    version: int
    seq: int
    call_id: bytes
    payload: memoryview
    end: int


class Stop(Enum):
    """Why no record can be read at an offset: nothing was written, it goes beyond the data, or it is damaged."""

    END = "end"
    SHORT = "short"
    BAD = "bad"


def pack_segment_header(header: SegmentHeader) -> bytes:
    body = _SEGMENT.pack(
        SEGMENT_MAGIC,
        FORMAT_VERSION,
        SEGMENT_HEADER_BYTES,
        header.number,
        header.journal_id,
        header.first_seq,
        header.created_ms,
        header.copied_from,
    )
    return body + _CRC.pack(_crc32(body))


def read_segment_header(data: bytes) -> SegmentHeader | None:
    """None for a segment that is not in use yet (zeros, short, torn). Raises JournalUnreadable for a newer format."""
    if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(SEGMENT_MAGIC):
        return None
    _, version, _, number, journal_id, first_seq, created_ms, copied_from = _SEGMENT.unpack_from(data)
    if version > FORMAT_VERSION:  # before the checksum: a newer header may have another size
        raise JournalUnreadable(
            f"segment {number} was written by a newer version of Faregate (format {version}, this one reads "
            f"{FORMAT_VERSION})"
        )
    if _CRC.unpack_from(data, _SEGMENT.size)[0] != _crc32(data[: _SEGMENT.size]):
        return None
    return SegmentHeader(journal_id, number, first_seq, created_ms, copied_from)


def pack_record(kind: int, seq: int, call_id: bytes, payload: bytes) -> bytes:
    """A record's bytes. The checksum covers everything after itself: type, version, seq, call id, payload."""
    rest = _pack_rest(kind, RECORD_VERSION, 0, seq, call_id) + payload
    return _pack_prefix(RECORD_MAGIC, len(payload), _crc32(rest)) + rest


def read_frame(data: bytes, offset: int) -> Frame | Stop:
    """The record at `offset`, or why there is none."""
    left = len(data) - offset
    if left < RECORD_HEADER_BYTES:
        return Stop.SHORT if any(data[offset : offset + len(_NOTHING)]) else Stop.END
    magic, length, crc, kind, version, _, seq, call_id = _unpack_whole(data, offset)
    if magic != RECORD_MAGIC:
        return Stop.END if magic == _NOTHING else Stop.BAD
    if length > MAX_PAYLOAD_BYTES:
        return Stop.BAD
    end = offset + RECORD_HEADER_BYTES + length
    if end > len(data):
        return Stop.SHORT
    view = memoryview(data)
    if _crc32(view[offset + _CRC_FROM : end]) != crc:
        return Stop.BAD
    return Frame(kind, version, seq, call_id, view[offset + RECORD_HEADER_BYTES : end], end)


def find_frame(data: bytes, offset: int) -> int:
    """The offset of the next whole, valid record at or after `offset`, or -1: how a reader gets past damage."""
    while True:
        offset = data.find(RECORD_MAGIC, offset)
        if offset < 0 or isinstance(read_frame(data, offset), Frame):
            return offset
        offset += 1


def valid_frames(data: bytes, offset: int) -> Iterator[tuple[int, Frame]]:
    """Every whole, valid record from `offset` on, past damage, each with its own offset."""
    while (offset := find_frame(data, offset)) >= 0:
        frame = read_frame(data, offset)
        while isinstance(frame, Frame):
            yield offset, frame
            offset = frame.end
            frame = read_frame(data, offset)
