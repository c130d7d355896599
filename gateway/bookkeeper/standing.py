"""How far behind SQL is, and the status file for those who want to know without asking. Imports no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.channel.messages import Status
from gateway.journal.reader import Position

STATUS_NAME = "bookkeeper.json"


def behind_bytes(folded: Mapping[bytes, Position], loaded: Mapping[bytes, Position], segment_bytes: int) -> int:
    """Journal that is not in SQL yet. Exact within a segment; a full one counts as `segment_bytes`."""
    total = 0
    for journal_id, there in folded.items():
        here = loaded.get(journal_id, Position())
        if there.seq > here.seq:
            segments = there.segment - max(here.segment, 1)
            total += max(segments * segment_bytes + there.offset - here.offset, 1)
    return total


def read_status(path: Path) -> Status | None:
    """What the bookkeeper last wrote to its status file; None when there is none. It is at most about a second old,
    unless the bookkeeper is dead: see `ts_ms`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None
