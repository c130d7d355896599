"""A batch of entries sorted by what becomes of them, and the rows that both ways of writing make of it. No SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.core.records import TYPE_OF, AttemptEnd, Entry, Hold, Settle, Stat, Void, encode_record
from gateway.store.ledger_rows import MOST_BIG, Row, clean, hour_of, line_rows, name, posting_row, void_row

Identity = tuple[bytes, str, int]
"""Whose posting it is: attempt, kind, revision."""


class Sorted:
    """SHRINK, DISPATCH, PROGRESS, CORRECT and HANDOVER move counters, not the ledger: they are in none of the lists."""

    __slots__ = ("ends", "holds", "settles", "stats")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.holds: list[tuple[Entry, Hold]] = []
        self.ends: list[tuple[Entry, AttemptEnd | Void]] = []
        self.settles: list[tuple[Entry, Settle]] = []
        self.stats: list[Stat] = []
        lists: dict[type, list[tuple[Entry, Any]]] = {
            Hold: self.holds,
            AttemptEnd: self.ends,
            Void: self.ends,
            Settle: self.settles,
        }
        for entry in entries:
            record = entry.record
            found = lists.get(type(record))
            if found is not None:
                found.append((entry, record))
            elif type(record) is Stat:
                self.stats.append(record)


def identity_of(end: AttemptEnd | Void) -> Identity:
    if isinstance(end, AttemptEnd):
        return (end.attempt_id, clean(end.kind), end.revision)
    return (end.attempt_id, "attempt", 0)


def rows_of(entry: Entry, end: AttemptEnd | Void) -> tuple[Row, list[Row]]:
    """A posting and its lines."""
    if isinstance(end, AttemptEnd):
        posting = posting_row(entry, end)
        return posting, line_rows(posting, end.lines)
    return void_row(entry, end), []


def stat_rows(stats: Sequence[Stat]) -> list[Row]:
    counts: dict[tuple[int, str], int] = {}
    for stat in stats:
        for code, count in stat.counts.items():
            key = (hour_of(stat.ts_ms), name(code))
            counts[key] = counts.get(key, 0) + count
    return [{"hour_ms": hour, "code": code, "count": count} for (hour, code), count in sorted(counts.items())]


def dead_row(entry: Entry, reason: str, detail: str) -> Row:
    return {
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "call_id": entry.call_id,
        "record_type": int(TYPE_OF[type(entry.record)]),
        "reason": reason,
        "detail": clean(detail),
        "payload": encode_record(entry.record),
        "recorded_ms": within(entry.record.ts_ms),
    }


def within(number: int) -> int:
    """A number as BIGINT holds it: a record may be bad in any of its fields."""
    return max(-MOST_BIG, min(MOST_BIG, number))
