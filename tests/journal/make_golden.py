"""Writes the golden segment of the present format version, once: `python tests/journal/make_golden.py`.

It refuses to overwrite: a golden segment is what older versions left on disks, so it never changes. A new format
version gets a new folder beside the old ones.
"""

from __future__ import annotations

from pathlib import Path

from journal_world import JOURNAL_ID, call_id, one_of_each

from gateway.core.records import TYPE_OF, encode_record
from gateway.journal.format import (
    FORMAT_VERSION,
    SegmentHeader,
    pack_record,
    pack_segment_header,
)
from gateway.journal.segment import segment_path

GOLDEN = Path(__file__).with_name("golden")


def main() -> None:
    folder = GOLDEN / f"v{FORMAT_VERSION}"
    folder.mkdir(parents=True)
    data = pack_segment_header(SegmentHeader(JOURNAL_ID, 1, 1, 1_763_942_400_000))
    for seq, record in enumerate(one_of_each(), 1):
        data += pack_record(TYPE_OF[type(record)], seq, call_id(7), encode_record(record))
    segment_path(folder, 1).write_bytes(data)
    print(f"{folder}: {len(data)} bytes")


if __name__ == "__main__":
    main()
