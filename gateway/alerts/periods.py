"""Which window a counter belongs to, and how much of it is over: read off the counter's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.core.limits import Limit, Window, WindowKind
from gateway.limits.scope import mark_of
from gateway.limits.windows import BUCKETS, GRACE_MS, bucket_ms, span_at

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class CounterName(NamedTuple):
    """`limit id|scope values|window id`, as `limits.wants.counter_name` writes it; the window id without a mark."""

    limit_id: str
    values: str
    window_id: str


def read_counter(name: str) -> CounterName | None:
    """None for a name that is not a limit's."""
    parts = name.split("|")
    if len(parts) != 3:
        return None
    return CounterName(parts[0], parts[1], parts[2].partition("~")[0])


class Period(NamedTuple):
    """The window that alerts are once of. `counters` add up to what is spent of it. `end_ms` None: it never ends.

    Of a rolling window, which every instant has another one of, it is the span of its length that the counter's part
    lies in: so at most one alert for each threshold in each length.
    """

    name: str
    counters: tuple[str, ...]
    end_ms: int | None


def period_of(limit: Limit, counter: CounterName, now_ms: int) -> Period | None:
    """The period of a counter of this limit; None when the counter is of another window than the limit has now.

    `now_ms` tells the end of a calendar window; one that is over already ended then.
    """
    window, mark = limit.window, mark_of(limit)
    beginning = f"{counter.limit_id}|{counter.values}|"
    if window.kind is WindowKind.ROLLING:
        length, _, number = counter.window_id.partition(":")
        if length != f"{window.length_s}s" or not number.isdecimal():
            return None
        last = int(number)
        names = tuple(f"{beginning}{length}:{n}{mark}" for n in range(last - BUCKETS, last + 1))
        whole = last // BUCKETS
        return Period(f"{length}:{whole}", names, (whole + 1) * BUCKETS * bucket_ms(window.length_s))
    if (window.kind is WindowKind.TOTAL) != (counter.window_id == "all"):
        return None
    span = span_at(window, now_ms)
    end_ms = span.end_ms if span.id == counter.window_id else now_ms
    name = f"{beginning}{counter.window_id}{mark}"
    return Period(counter.window_id, (name,), None if window.kind is WindowKind.TOTAL else end_ms)


def forget_after_ms(period: Period) -> int:
    """When nothing of the period can be told any more (0: never): late records of it may come for a while."""
    return 0 if period.end_ms is None else period.end_ms + 32 * 24 * GRACE_MS


def start_ms(window: Window, now_ms: int) -> int | None:
    """When the calendar window of `now_ms` began; None for hours, rolling windows and all time, which have no
    forecast."""
    zone = ZoneInfo(window.zone)
    today = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(zone).date()
    match window.kind:
        case WindowKind.DAY:
            first = today
        case WindowKind.WEEK:
            first = today - timedelta(days=today.weekday())
        case WindowKind.MONTH:
            first = today.replace(day=1)
        case _:
            return None
    return (datetime(first.year, first.month, first.day, tzinfo=zone) - _EPOCH) // _MS
