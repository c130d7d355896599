"""A clock that leaps ahead and comes back: what was spent is still spent, and windows to come still count."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.core.limits import Take, Unit, Window, WindowKind
from gateway.core.records import Correct, Stat
from gateway.ledger.fold import Books
from gateway.limits.windows import span_at

NOON_MS = int(datetime(2026, 11, 25, 12, 30, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def spend(books: Books, kind: WindowKind, now_ms: int, number: int) -> str:
    """Spends 5 of a limit's present window; the counter's name."""
    span = span_at(Window(kind), now_ms)
    name = f"budget|k|{span.id}"
    books.apply(
        Correct(now_ms, bytes([number]) * 16, 0, (Take(name, "budget", Unit.USD, 5, span.expires_ms),), ""), b""
    )
    return name


@pytest.mark.parametrize(
    ("kind", "leap_ms"),
    [
        (WindowKind.HOUR, HOUR_MS), (WindowKind.DAY, DAY_MS), (WindowKind.WEEK, 7 * DAY_MS),
        (WindowKind.MONTH, 7 * DAY_MS), (WindowKind.MONTH, 31 * DAY_MS), (WindowKind.TOTAL, 400 * DAY_MS),
    ],
)  # fmt: skip
def test_a_leap_of_a_window_and_back_forgets_nothing(kind: WindowKind, leap_ms: int) -> None:
    books = Books()
    name = spend(books, kind, NOON_MS, 1)
    books.apply(Stat(NOON_MS + leap_ms, {}), b"")
    assert books.standing(name) == (5, 0)
    assert spend(books, kind, NOON_MS + 1000, 2) == name
    assert books.standing(name) == (10, 0)


@pytest.mark.parametrize("kind", [WindowKind.HOUR, WindowKind.DAY, WindowKind.MONTH])
def test_after_a_leap_of_years_and_back_windows_count_again(kind: WindowKind) -> None:
    books = Books()
    books.apply(Stat(NOON_MS + 1000 * DAY_MS, {}), b"")
    name = spend(books, kind, NOON_MS, 1)
    spend(books, kind, NOON_MS + 1, 2)
    assert books.standing(name) == (10, 0)


def test_windows_that_are_over_are_still_dropped() -> None:
    books = Books()
    name = spend(books, WindowKind.DAY, NOON_MS, 1)
    books.apply(Stat(NOON_MS + 3 * DAY_MS, {}), b"")
    assert name not in books.counters
