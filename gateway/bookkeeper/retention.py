"""Deleting what nobody needs any more: segments that are in SQL and in both checkpoints, and old enough."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.bookkeeper.checkpoint import PRUNED_NAME
from gateway.bookkeeper.durable import write_whole
from gateway.core.ports import Clock
from gateway.journal.adoption import delete_segments
from gateway.journal.folder import list_journals
from gateway.journal.reader import Position

DAY_MS = 86_400_000

_log = logging.getLogger(__name__)


def prune(root: Path, keep_days: int, readers: Sequence[Mapping[bytes, Position]], clock: Clock) -> int:
    """Deletes whole segments that every reader has passed and whose records are over `keep_days` old.

    `readers` are the positions of SQL, of the checkpoint and of the one before it: a damaged checkpoint still finds
    what it needs. A sealed journal that all have read goes with its folder. Returns how many segments went. Raises
    OSError.
    """
    oldest_ms = clock.now_ms() - keep_days * DAY_MS
    deleted = 0
    for journal in list_journals(root):
        passed_seq = min(positions.get(journal.journal_id, Position()).seq for positions in readers)
        if not passed_seq or not _is_old(journal.path, oldest_ms):
            continue
        if not (root / PRUNED_NAME).exists():
            write_whole(root / PRUNED_NAME, b"")
        gone = delete_segments(journal.path, passed_seq, created_before_ms=oldest_ms)
        if gone:
            _log.info("%s: %d old segments deleted", journal.path.name, gone)
        deleted += gone
    return deleted


def _is_old(directory: Path, oldest_ms: int) -> bool:
    """Whether any segment was last written so long ago that it may go."""
    return any(path.stat().st_mtime_ns // 1_000_000 < oldest_ms for path in directory.glob("0*.wal"))
