"""Deleting what is in SQL: whole segments, oldest first, and at last the folder."""

from __future__ import annotations

from pathlib import Path

from journal_world import (
    OPTIONS,
    FakeClock,
    call_id,
    create,
    pack,
    read_all,
    void,
    write_segment,
)

from gateway.journal.adoption import adopt, delete_segments
from gateway.journal.folder import list_journals
from gateway.journal.reader import read_journal
from gateway.journal.segment import segment_numbers


def take_over(directory: Path, **options):
    return adopt(directory, clock=FakeClock(), **(OPTIONS | options))


def long_journal(root: Path) -> Path:
    writer = create(root)
    for number in range(1, 301):
        writer.append(void(number, "x" * 60), call_id(1))
    writer.close()
    assert len(segment_numbers(writer.directory)) >= 5
    return writer.directory


def test_segments_are_deleted_when_all_their_records_are_shipped(tmp_path) -> None:
    directory = long_journal(tmp_path)
    entries = read_all(directory)
    by_segment: dict[int, list[int]] = {}
    for entry in entries:
        by_segment.setdefault(entry.segment, []).append(entry.seq)
    names = sorted(by_segment)
    assert delete_segments(directory, by_segment[names[0]][-1] - 1) == 0
    assert delete_segments(directory, by_segment[names[1]][-1]) == 2
    assert segment_numbers(directory)[0] == names[2]
    assert [entry.seq for entry in read_journal(directory)] == list(range(by_segment[names[2]][0], 301))
    # The newest segment of a journal that is not sealed stays, whatever has been shipped.
    assert delete_segments(directory, 10_000) == len(names) - 3
    assert segment_numbers(directory) == names[-1:]


def test_a_sealed_and_shipped_journal_goes_altogether(tmp_path) -> None:
    directory = long_journal(tmp_path)
    adopted = take_over(directory)
    assert adopted is not None
    adopted.seal()
    assert delete_segments(directory, 299) > 0
    assert directory.exists()
    assert delete_segments(directory, 300) == 1
    assert not directory.exists()
    assert list_journals(tmp_path) == []


def test_young_segments_are_kept(tmp_path) -> None:
    directory = long_journal(tmp_path)
    now_ms = FakeClock().now_ms()
    assert delete_segments(directory, 10_000, created_before_ms=now_ms) == 0
    assert delete_segments(directory, 10_000, created_before_ms=now_ms + 1) > 0


def test_a_segment_that_repeats_records_does_not_condemn_the_one_before(tmp_path) -> None:
    """The second starts at seq 3, but the first reaches further than what was shipped."""
    write_segment(tmp_path, 1, b"".join(map(pack, range(1, 6))))
    write_segment(tmp_path, 2, b"".join(map(pack, range(3, 9))), first_seq=3)
    assert delete_segments(tmp_path, 4) == 0
    assert delete_segments(tmp_path, 5) == 1
    assert segment_numbers(tmp_path) == [2]
