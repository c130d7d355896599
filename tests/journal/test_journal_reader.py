"""The reader: torn tails, damage, duplicates, unknown types, deleted segments, and going on from anywhere."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_bench import Bench
from journal_world import JOURNAL_ID, call_id, create, drain, numbers, pack, read_all, void, write_segment

from gateway.core.errors import JournalUnreadable
from gateway.core.records import Entry
from gateway.journal.format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    pack_record,
    pack_segment_header,
)
from gateway.journal.reader import Damage, JournalTail, Position, read_journal
from gateway.journal.segment import segment_path


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


def read_with_damage(folder: Path, **where: int) -> tuple[list[int], list[tuple[int, int]]]:
    damage: list[Damage] = []
    entries = list(read_journal(folder, on_damage=damage.append, **where))
    return seqs(entries), [(found.first_seq, found.last_seq) for found in damage]


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("padding", [0, 500])
def test_a_torn_tail_at_every_byte_is_waited_for_and_then_read(tmp_path, padding: int) -> None:
    whole = pack(1) + pack(2)
    third = pack(3, "the last one")
    for cut in range(len(third)):
        write_segment(tmp_path, 1, whole + third[:cut] + bytes(padding))
        tail = JournalTail(tmp_path)
        assert seqs(tail.poll()) == [1, 2]
        assert tail.poll() == []
        write_segment(tmp_path, 1, whole + third + bytes(padding))
        assert seqs(tail.poll()) == [3]
        assert tail.damage == []
        tail.close()
        assert seqs(read_all(tmp_path)) == [1, 2, 3]


def test_a_torn_byte_in_the_last_record_discards_only_that(tmp_path) -> None:
    third = pack(3, "the last one")
    for at in range(len(third)):
        torn = third[:at] + bytes([third[at] ^ 0x41]) + third[at + 1 :]
        write_segment(tmp_path, 1, pack(1) + pack(2) + torn, size=500)
        assert seqs(read_all(tmp_path)) == [1, 2]


def test_nothing_is_there_yet(tmp_path) -> None:
    tail = JournalTail(tmp_path)
    assert tail.poll() == []
    segment_path(tmp_path, 1).write_bytes(bytes(4096))
    assert tail.poll() == []
    write_segment(tmp_path, 1, pack(1), size=4096)
    assert seqs(tail.poll()) == [1]
    tail.close()
    with pytest.raises(FileNotFoundError):
        JournalTail(tmp_path / "gone").poll()


# ---------------------------------------------------------------- damage


def test_damage_inside_the_newest_segment_is_told_and_passed(tmp_path) -> None:
    data = write_segment(tmp_path, 1, pack(1) + pack(2) + pack(3) + pack(4), size=1000)
    at = SEGMENT_HEADER_BYTES + len(pack(1))
    damaged = bytearray(data)
    damaged[at + 20] ^= 1
    segment_path(tmp_path, 1).write_bytes(bytes(damaged))
    assert read_with_damage(tmp_path) == ([1, 3, 4], [(2, 2)])
    tail = JournalTail(tmp_path)
    assert seqs(tail.poll()) == [1, 3, 4]
    assert tail.drain_damage() == [Damage(JOURNAL_ID, 1, at, at + len(pack(2)), 2, 2)]
    assert tail.damage == []
    tail.close()
    with pytest.raises(JournalUnreadable, match="records 2 to 2 cannot be read"):
        list(read_journal(tmp_path))


def test_damage_in_an_older_segment_is_told_and_passed(tmp_path) -> None:
    for number, hole in ((1, bytes(len(pack(2)))), (2, b"?" * len(pack(2))), (3, b"FGRc" * 15)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_segment(folder, 1, pack(1) + hole + pack(3))
        write_segment(folder, 2, pack(4), first_seq=4, size=500)
        assert read_with_damage(folder) == ([1, 3, 4], [(2, 2)])
        assert read_with_damage(folder, after_seq=1) == ([3, 4], [(2, 2)])


def test_records_missing_between_segments_are_told(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1))
    write_segment(tmp_path, 2, pack(5), first_seq=5, size=500)
    assert read_with_damage(tmp_path) == ([1, 5], [(2, 4)])


def test_a_missing_seq_inside_a_segment_is_told(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + pack(3) + pack(3) + pack(4), size=500)
    assert read_with_damage(tmp_path) == ([1, 3, 4], [(2, 2)])


def test_damage_that_a_later_segment_makes_good_is_no_alarm(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + b"?" * 80 + pack(3))
    write_segment(tmp_path, 2, pack(4), first_seq=4)
    write_segment(tmp_path, 3, pack(2) + pack(3) + pack(4) + pack(5), first_seq=2, size=500)
    assert read_with_damage(tmp_path) == ([1, 2, 3, 4, 5], [])


def test_what_a_later_segment_has_is_not_skipped_for_what_lies_behind_damage(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + b"?" * 80 + pack(9))
    write_segment(tmp_path, 2, pack(5) + pack(6) + pack(7) + pack(8) + pack(9), first_seq=5, size=900)
    assert read_with_damage(tmp_path) == ([1, 5, 6, 7, 8, 9], [(2, 4)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_byte_costs_at_most_its_own_record(tmp_path_factory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flip")
    records = [pack(seq, "x" * data.draw(st.integers(0, 40))) for seq in range(1, 9)]
    content = write_segment(folder, 1, b"".join(records), size=2000)
    used = SEGMENT_HEADER_BYTES + sum(map(len, records))
    at = data.draw(st.integers(SEGMENT_HEADER_BYTES, used - 1))
    flipped = bytearray(content)
    flipped[at] ^= data.draw(st.integers(1, 255))
    segment_path(folder, 1).write_bytes(bytes(flipped))
    hit = next(seq for seq in range(1, 9) if at < SEGMENT_HEADER_BYTES + sum(map(len, records[:seq])))
    got, missing = read_with_damage(folder)
    assert got == [seq for seq in range(1, 9) if seq != hit]
    assert missing == ([] if hit == 8 else [(hit, hit)])


# ---------------------------------------------------------------- duplicates, order, the reserve


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=6), st.integers(1, 12))
def test_records_written_again_are_delivered_once(tmp_path_factory, again: list[tuple[int, int]], last: int) -> None:
    """Segments that start at or before where the ones before them end, whatever they repeat."""
    folder = tmp_path_factory.mktemp("again")
    write_segment(folder, 1, b"".join(pack(seq) for seq in range(1, last + 1)))
    for number, (back, further) in enumerate(again, 2):
        first = max(1, last + 1 - back)
        last += further
        write_segment(folder, number, b"".join(pack(seq) for seq in range(first, last + 1)), first_seq=first)
    assert read_with_damage(folder) == (list(range(1, last + 1)), [])
    for after_seq in range(last + 1):
        assert read_with_damage(folder, after_seq=after_seq) == (list(range(after_seq + 1, last + 1)), [])


def test_the_reserve_is_read_after_the_segments(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + pack(2), size=500)
    write_segment(tmp_path, 0, pack(2) + pack(3) + pack(4), first_seq=0, size=500)
    tail = JournalTail(tmp_path)
    entries = tail.poll()
    assert seqs(entries) == [1, 2, 3, 4]
    assert {(entry.segment, entry.end) for entry in entries[2:]} == {(1, entries[1].end)}
    # Another record in the reserve; then space returns: the segments have everything and the reserve is empty.
    write_segment(tmp_path, 0, pack(2) + pack(3) + pack(4) + pack(5), first_seq=0, size=500)
    assert seqs(tail.poll()) == [5]
    write_segment(tmp_path, 2, b"".join(pack(seq) for seq in range(3, 9)), first_seq=3, size=900)
    write_segment(tmp_path, 0, b"", first_seq=0, size=500)
    assert seqs(tail.poll()) == [6, 7, 8]
    tail.close()
    assert read_with_damage(tmp_path) == (list(range(1, 9)), [])


def test_a_gap_before_the_reserve_is_told(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1), size=500)
    write_segment(tmp_path, 0, pack(4) + pack(5), first_seq=0, size=500)
    assert read_with_damage(tmp_path) == ([1, 4, 5], [(2, 3)])


def test_a_reserve_that_makes_good_for_failed_segments(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1), size=500)
    write_segment(tmp_path, 2, b"", first_seq=4, size=500)
    write_segment(tmp_path, 0, b"".join(pack(seq) for seq in range(2, 7)), first_seq=0, size=900)
    assert read_with_damage(tmp_path) == ([1, 2, 3, 4, 5, 6], [])


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize(("kind", "version"), [(99, 1), (6, 2)])
def test_what_a_newer_version_wrote_stops_the_reader_there(tmp_path, kind: int, version: int) -> None:
    newer = bytearray(pack(3))
    newer[12], newer[13] = kind, version
    newer[8:12] = zlib.crc32(newer[12:]).to_bytes(4, "little")
    write_segment(tmp_path, 1, pack(1) + pack(2) + bytes(newer) + pack(4), size=900)
    tail = JournalTail(tmp_path)
    assert seqs(tail.poll()) == [1, 2]
    for _ in range(2):
        with pytest.raises(JournalUnreadable, match="newer version"):
            tail.poll()
    assert tail.position.seq == 2
    tail.close()


def test_a_payload_that_is_no_record_stops_the_reader(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + pack_record(6, 2, call_id(1), b"\x93\x01"), size=900)
    with pytest.raises(JournalUnreadable, match="record 2 cannot be decoded"):
        list(read_journal(tmp_path))


def test_a_segment_of_a_newer_format_stops_the_reader(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1))
    newer = bytearray(pack_segment_header(SegmentHeader(JOURNAL_ID, 2, 2, 1)))
    newer[8] = 9
    tail = JournalTail(tmp_path)
    assert seqs(tail.poll()) == [1]
    segment_path(tmp_path, 2).write_bytes(bytes(newer) + pack(2))
    with pytest.raises(JournalUnreadable, match="newer version"):
        tail.poll()
    tail.close()


# ---------------------------------------------------------------- positions


def test_reading_goes_on_from_every_entry_and_every_position(tmp_path) -> None:
    writer = create(tmp_path)
    for number in range(1, 201):
        writer.append(void(number, "x" * (number % 90)), call_id(1))
    writer.close()
    entries = read_all(writer.directory)
    assert len({entry.segment for entry in entries}) > 2
    for entry in entries[::7]:
        where = {"segment": entry.segment, "offset": entry.end}
        assert seqs(list(read_journal(writer.directory, after_seq=entry.seq, **where))) == list(
            range(entry.seq + 1, 201)
        )
        assert seqs(list(read_journal(writer.directory, after_seq=entry.seq))) == list(range(entry.seq + 1, 201))
    position = Position()
    got: list[int] = []
    while True:
        tail = JournalTail(writer.directory, position, limit=1)
        new = tail.poll()
        tail.close()
        if not new:
            break
        got += seqs(new)
        position = tail.position
    assert got == list(range(1, 201))


def test_a_position_in_a_deleted_segment_goes_on_in_the_next(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + pack(2))
    write_segment(tmp_path, 2, pack(3) + pack(4), first_seq=3)
    write_segment(tmp_path, 3, pack(5) + pack(6), first_seq=5, size=500)
    tail = JournalTail(tmp_path, limit=2)
    assert seqs(tail.poll())[:2] == [1, 2]
    position = tail.position
    tail.close()
    segment_path(tmp_path, 1).unlink()
    read = JournalTail(tmp_path, position)
    assert seqs(read.poll()) == list(range(position.seq + 1, 7))
    assert read.damage == []
    read.close()
    segment_path(tmp_path, 2).unlink()
    assert read_with_damage(tmp_path) == ([5, 6], [])  # from the beginning: of what is there
    assert read_with_damage(tmp_path, after_seq=2, segment=1, offset=100) == ([5, 6], [(3, 4)])
    assert read_with_damage(tmp_path, after_seq=4) == ([5, 6], [])


def test_a_tail_reads_on_in_a_segment_that_is_deleted_under_it(tmp_path) -> None:
    write_segment(tmp_path, 1, pack(1) + pack(2) + pack(3))
    write_segment(tmp_path, 2, pack(4), first_seq=4, size=500)
    tail = JournalTail(tmp_path, limit=1)
    first = tail.poll()
    segment_path(tmp_path, 1).unlink()
    assert seqs(first + drain(tail)) == [1, 2, 3, 4]
    tail.close()


def test_long_records_across_read_chunks(tmp_path) -> None:
    writer = create(tmp_path, segment_bytes=4 << 20)
    for number in range(1, 30):
        writer.append(void(number, "x" * 100_000), call_id(1))
    writer.append(void(30, "y" * 1_000_000), call_id(1))
    writer.append(void(31), call_id(1))
    writer.close()
    assert numbers(writer.directory) == list(range(1, 32))


def test_a_tail_beside_a_bench_sees_each_record_as_it_comes(tmp_path) -> None:
    bench = Bench(tmp_path)
    for _ in range(300):
        bench.write(1)
        bench.follow()
        assert bench.seen[-1] == bench.next - 1
    bench.check()
