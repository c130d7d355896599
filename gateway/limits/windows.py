"""Which window an instant lies in. Windows partition time: every instant is in exactly one of each kind.

A window's id is part of its counters' names, so nothing is ever reset: a new window simply has new counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.core.limits import Window, WindowKind

BUCKETS = 12
"""Sub-buckets of a rolling window. Their number is the price of forgetting nothing too early: the whole oldest one
counts, so a rolling limit is at most 1/12 stricter than its text."""

GRACE_MS = 3_600_000
"""How long counters outlive their window: a clock set back by less than this finds them still there."""

_DAY_MS = 24 * GRACE_MS
_GRACE_MS = {WindowKind.DAY: _DAY_MS, WindowKind.WEEK: 7 * _DAY_MS, WindowKind.MONTH: 31 * _DAY_MS}
"""Counters of longer windows outlive them by the window's own length: a clock that leaps into the next month and back
finds what was spent in this one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The window of one instant.

    `id` is what is taken now goes into; `ids` are all that add up against the limit (oldest first, `id` last; several
    for a rolling window). `end_ms` is when what is taken now stops counting (None: never), `turns_ms` the first
    instant with another span (None: never), `expires_ms` when the counter may be dropped (0: never).
    """

    id: str
    ids: tuple[str, ...]
    end_ms: int | None
    turns_ms: int | None
    expires_ms: int


def span_at(window: Window, now_ms: int) -> Span:
    """The span of `window` at `now_ms`. Raises ZoneInfoNotFoundError for a zone this machine does not know."""
    match window.kind:
        case WindowKind.TOTAL:
            return Span("all", ("all",), None, None, 0)
        case WindowKind.ROLLING:
            return _rolling(window.length_s, now_ms)
        case _:
            return _calendar(window, now_ms)


def bucket_ms(length_s: int) -> int:
    """The length of one sub-bucket of a rolling window, rounded up so that twelve are never shorter than it."""
    return -(-length_s * 1000 // BUCKETS)


def _rolling(length_s: int, now_ms: int) -> Span:
    size_ms = bucket_ms(length_s)
    number = now_ms // size_ms
    ids = tuple(f"{length_s}s:{n}" for n in range(number - BUCKETS, number + 1))
    end_ms = (number + BUCKETS + 1) * size_ms
    return Span(ids[-1], ids, end_ms, (number + 1) * size_ms, end_ms + min(GRACE_MS, size_ms * BUCKETS))


def _calendar(window: Window, now_ms: int) -> Span:
    zone = ZoneInfo(window.zone)
    local = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(zone)
    today = local.date()
    match window.kind:
        case WindowKind.HOUR:
            # The offset is part of the id: the hour that clocks run through twice in autumn is two windows.
            name, end_ms = f"{local:%Y-%m-%dT%H%z}", _hour_end(local, zone, now_ms)
        case WindowKind.DAY:
            name, end_ms = today.isoformat(), _midnight(today + timedelta(days=1), zone)
        case WindowKind.WEEK:
            year, week, weekday = today.isocalendar()
            name, end_ms = f"{year}-W{week:02d}", _midnight(today + timedelta(days=8 - weekday), zone)
        case _:
            following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
            name, end_ms = f"{today:%Y-%m}", _midnight(following, zone)
    return Span(name, (name,), end_ms, end_ms, end_ms + _GRACE_MS.get(window.kind, GRACE_MS))


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The first instant of a local day, ms UTC. Where clocks skip midnight this is the instant of the skip."""
    return _to_ms(datetime(day.year, day.month, day.day, tzinfo=zone))


def _hour_end(local: datetime, zone: ZoneInfo, now_ms: int) -> int:
    """The end of a local hour at its present offset: sooner where the offset changes before the hour is over."""
    end_ms = now_ms + 3_600_000 - (local.minute * 60 + local.second) * 1000 - local.microsecond // 1000
    offset = local.utcoffset()
    if _offset(end_ms - 1, zone) == offset:
        return end_ms
    low, high = now_ms, end_ms - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _offset(ms: int, zone: ZoneInfo) -> timedelta | None:
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).utcoffset()


def _to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS
