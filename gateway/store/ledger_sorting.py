"""A batch of entries sorted by what becomes of them, and the rows that both ways of writing make of it. No SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.core.records import TYPE_OF, AttemptEnd, Correct, Entry, Hold, Settle, Stat, Void, encode_record
from gateway.store.ledger_rows import MOST_BIG, Row, clean, correction_row, line_rows, name, posting_row, void_row
from gateway.store.ledger_sums import hour_of

Identity = tuple[bytes, str, int]
"""Whose posting it is: attempt, kind, revision."""


Posted = AttemptEnd | Void | Correct
"""A record that becomes a posting."""


class Sorted:
    """SHRINK, DISPATCH, PROGRESS and HANDOVER move counters, not the ledger: they are in none of the lists. Nor is a
    CORRECT that posts nothing."""

    __slots__ = ("corrections", "ends", "holds", "settles", "stats")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.holds: list[tuple[Entry, Hold]] = []
        self.ends: list[tuple[Entry, Posted]] = []
        self.corrections: list[tuple[Entry, Posted]] = []
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
            elif type(record) is Correct and record.state:
                self.corrections.append((entry, record))


def identity_of(end: Posted) -> Identity:
    if isinstance(end, Void):
        return (end.attempt_id, "attempt", 0)
    return (end.attempt_id, clean(end.kind), end.revision)


def rows_of(entry: Entry, end: Posted) -> tuple[Row, list[Row]]:
    """A posting and its lines."""
    if isinstance(end, Void):
        return void_row(entry, end), []
    posting = posting_row(entry, end) if isinstance(end, AttemptEnd) else correction_row(entry, end)
    return posting, line_rows(posting, end.lines)


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
