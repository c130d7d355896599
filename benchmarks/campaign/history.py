"""Limits against the recorded history, record by record, without the product's own fold: the journals are read in the
order in which their workers lived, and after each record every counter that moved is compared with its limit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.limits import Take
from gateway.core.records import AttemptEnd, Entry, Hold, Shrink, Void
from gateway.journal.folder import list_journals
from gateway.journal.reader import read_journal

Amounts = dict[str, list[tuple[int, int]]]
"""Limit id → (from when on, ms UTC; amount), in the order of time."""


@dataclass
class History:
    """What the journals say. `peaks` is the largest (spent + held) ÷ amount of each limit, in per cent."""

    records: int = 0
    holds: int = 0
    spent: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    open: dict[bytes, Counter[str]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    overruns: list[str] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    """Limit id → what each attempt held of it ÷ what it cost, where it cost something."""

    def spent_by(self, limit_id: str) -> dict[str, int]:
        """What was spent of each counter of a limit."""
        return {name: amount for name, amount in self.spent.items() if limit_of(name) == limit_id}

    def spent_of(self, limit_id: str) -> int:
        """What was spent of all counters of a limit."""
        return sum(self.spent_by(limit_id).values())


def history_of(journals: Path, amounts: Amounts) -> History:
    """The whole history of a data folder's journals. Only limits in `amounts` are compared."""
    found = History()
    taken: dict[bytes, Counter[str]] = {}
    for entry in _entries(journals):
        found.records += 1
        match entry.record:
            case Hold() as hold:
                found.holds += 1
                found.open[hold.attempt_id] = _move(found.held, hold.takes)
                taken[hold.attempt_id] = _amounts(hold.takes)
                for take in hold.takes:
                    _compare(found, take.counter, entry.record.ts_ms, amounts)
            case Shrink() as shrink:
                found.held.subtract(_amounts(shrink.freed))
                found.open[shrink.attempt_id].subtract(_amounts(shrink.freed))
            case AttemptEnd() as end:
                found.held.subtract(found.open.pop(end.attempt_id))
                _move(found.spent, end.posted)
                for take in end.posted:
                    _compare(found, take.counter, entry.record.ts_ms, amounts)
                    if take.amount:
                        ratio = taken[end.attempt_id][take.counter] / take.amount
                        found.ratios.setdefault(limit_of(take.counter), []).append(ratio)
            case Void() as void:
                found.held.subtract(found.open.pop(void.attempt_id))
            case _:
                pass
    return found


def _entries(journals: Path) -> Iterator[Entry]:
    """All records, oldest journal first: a worker admits only when the one before it is gone and its journal closed."""
    for folder in list_journals(journals):
        yield from read_journal(folder.path)


def limit_of(counter: str) -> str:
    """The id of a counter's limit."""
    return counter.partition("|")[0]


def _amounts(takes: tuple[Take, ...]) -> Counter[str]:
    return Counter({take.counter: take.amount for take in takes})


def _move(counters: Counter[str], takes: tuple[Take, ...]) -> Counter[str]:
    moved = _amounts(takes)
    counters.update(moved)
    return moved


def _compare(found: History, counter: str, ts_ms: int, amounts: Amounts) -> None:
    limit_id = limit_of(counter)
    steps = amounts.get(limit_id)
    if steps is None:
        return
    allowed = steps[bisect_right(steps, (ts_ms, 2**63)) - 1][1]
    used = found.spent[counter] + found.held[counter]
    found.peaks[limit_id] = max(found.peaks.get(limit_id, 0.0), 100 * used / allowed)
    if used > allowed:
        found.overruns.append(f"{counter}: {used} of {allowed} at {ts_ms}")
