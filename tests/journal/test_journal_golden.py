"""A segment that version 1 left on a disk is read as it was meant, for ever. It is never written again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from journal_world import JOURNAL_ID, call_id, one_of_each, read_all

from gateway.core.records import TYPE_OF, RecordType
from gateway.journal.format import FORMAT_VERSION

GOLDEN = Path(__file__).with_name("golden")
DIGESTS = {"v1": "aa522195508da0e5e0c891eca65de548b26cc4029f777703b059b1aab2749881"}


def test_every_version_has_a_golden_segment_of_every_type() -> None:
    assert sorted(folder.name for folder in GOLDEN.iterdir()) == sorted(DIGESTS)
    assert f"v{FORMAT_VERSION}" in DIGESTS
    assert {TYPE_OF[type(record)] for record in one_of_each()} == set(RecordType)


@pytest.mark.parametrize("version", sorted(DIGESTS))
def test_it_has_not_been_touched(version: str) -> None:
    data = (GOLDEN / version / "00000001.wal").read_bytes()
    assert hashlib.sha256(data).hexdigest() == DIGESTS[version]


@pytest.mark.parametrize("version", sorted(DIGESTS))
def test_it_is_read_as_it_was_meant(version: str) -> None:
    """Fields appended to a record since then have their defaults."""
    entries = read_all(GOLDEN / version)
    assert [entry.record for entry in entries] == one_of_each()
    assert {(entry.journal_id, entry.call_id, entry.segment) for entry in entries} == {(JOURNAL_ID, call_id(7), 1)}
