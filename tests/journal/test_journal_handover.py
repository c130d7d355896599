"""A journal after its HANDOVER: nothing new begins in it, everything that had begun still ends in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_world import create, one_of_each, read_all

from gateway.core.errors import ServerShuttingDown
from gateway.core.handover import HandedOver
from gateway.core.records import Dispatch, Handover, Hold
from gateway.journal.folder import has_writer


def test_nothing_is_admitted_after_a_handover_and_all_else_is_taken(tmp_path: Path) -> None:
    journal = create(tmp_path)
    assert journal.append(Handover(1, b""), b"") == 1
    taken = 0
    for record in one_of_each():
        if isinstance(record, Hold | Dispatch):
            with pytest.raises(HandedOver) as refused:
                journal.append(record, b"c" * 16)
            assert isinstance(refused.value, ServerShuttingDown), "whoever does not pass the call on answers 503"
            assert refused.value.status == 503
        else:
            taken += 1
            assert journal.append(record, b"c" * 16) == 1 + taken
    assert journal.ready, "its disk is well: readiness is another question"
    journal.close()
    kinds = [type(entry.record) for entry in read_all(journal.directory)]
    assert kinds == [Handover, *(type(record) for record in one_of_each() if not isinstance(record, Hold | Dispatch))]


def test_who_has_a_living_writer_is_told_by_the_lock(tmp_path: Path) -> None:
    journal = create(tmp_path)
    directory = journal.directory
    assert has_writer(directory)
    journal.close()
    assert not has_writer(directory)
    assert not has_writer(tmp_path / "no journal")
