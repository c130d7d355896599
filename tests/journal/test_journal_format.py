"""The bytes: what is packed is read back, what is damaged is never taken for a record."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import JournalUnreadable
from gateway.journal.format import (
    MAX_PAYLOAD_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Frame,
    SegmentHeader,
    Stop,
    find_frame,
    pack_record,
    pack_segment_header,
    read_frame,
    read_segment_header,
)

HEADER = SegmentHeader(bytes(range(16)), 3, 41, 1_763_942_400_000)


def test_sizes_are_part_of_the_format() -> None:
    assert (SEGMENT_HEADER_BYTES, RECORD_HEADER_BYTES) == (64, 40)
    data = pack_record(7, 513, b"c" * 16, b"payload")
    assert data[:4] == b"FGRc"
    assert data[4:8] == (7).to_bytes(4, "little")
    assert data[8:12] == zlib.crc32(data[12:]).to_bytes(4, "little")
    assert data[12:16] == b"\x07\x01\x00\x00"
    assert data[16:24] == (513).to_bytes(8, "little")
    assert data[24:40] == b"c" * 16
    assert data[40:] == b"payload"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16), st.binary(max_size=90)
        ),
        max_size=5,
    ),
    st.integers(0, 100),
)
def test_records_follow_each_other_and_zeros_end_them(records: list[tuple], zeros: int) -> None:
    data = b"".join(pack_record(*record) for record in records) + bytes(zeros)
    offset = 0
    for kind, seq, call_id, payload in records:
        frame = read_frame(data, offset)
        assert isinstance(frame, Frame)
        assert (frame.kind, frame.seq, frame.call_id, bytes(frame.payload)) == (kind, seq, call_id, payload)
        offset = frame.end
    assert read_frame(data, offset) is Stop.END


@given(st.binary(max_size=60), st.data())
def test_no_damaged_byte_passes(payload: bytes, data: st.DataObject) -> None:
    whole = pack_record(5, 9, b"c" * 16, payload)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    assert isinstance(read_frame(damaged + bytes(RECORD_HEADER_BYTES), 0), Stop)


def test_every_cut_is_short_or_nothing() -> None:
    whole = pack_record(5, 9, b"c" * 16, b"payload")
    assert read_frame(b"", 0) is Stop.END
    for length in range(1, len(whole)):
        assert read_frame(whole[:length], 0) is Stop.SHORT


def test_an_absurd_length_is_damage_not_a_long_record() -> None:
    whole = pack_record(5, 9, b"c" * 16, b"")
    absurd = whole[:4] + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "little") + whole[8:]
    assert read_frame(absurd, 0) is Stop.BAD


def test_the_next_whole_record_is_found_behind_damage() -> None:
    whole = pack_record(5, 9, b"c" * 16, b"payload")
    data = b"FGRc rubbish FGRc" + whole[:20] + whole
    assert find_frame(data, 0) == len(data) - len(whole)
    assert find_frame(data[:-1], 0) == -1


def test_a_segment_header_is_read_back_or_not_there() -> None:
    packed = pack_segment_header(HEADER)
    assert read_segment_header(packed + b"more") == HEADER
    assert read_segment_header(bytes(SEGMENT_HEADER_BYTES)) is None
    assert read_segment_header(b"") is None
    for at in range(len(packed)):
        assert read_segment_header(packed[:at]) is None
        if at not in (8, 9):  # the version, below
            assert read_segment_header(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]) is None


def test_a_newer_format_is_not_guessed_at() -> None:
    packed = bytearray(pack_segment_header(HEADER))
    packed[8] = 2
    with pytest.raises(JournalUnreadable, match="newer version"):
        read_segment_header(bytes(packed))
