"""Times of the week: prices that depend on the hour or on the day. Pure arithmetic on ms UTC."""

from __future__ import annotations

MINUTE_MS = 60_000
WEEK_MINUTES = 7 * 24 * 60
WEEK_MS = WEEK_MINUTES * MINUTE_MS
_MONDAY_MS = 4 * 24 * 60 * MINUTE_MS
"""1970-01-05T00:00Z, the first Monday."""

Spans = tuple[tuple[int, int], ...]
"""[from, to) in minutes since Monday 00:00 UTC, in order, none touching the next, none over the end of the week."""


def is_within(spans: Spans, at_ms: int) -> bool:
    minute = (at_ms - _MONDAY_MS) % WEEK_MS // MINUTE_MS
    return any(start <= minute < end for start, end in spans)


def turns_around(spans: Spans, at_ms: int) -> tuple[int, int]:
    """(last turn at or before, next turn after) `at_ms`: between them nothing changes."""
    into_ms = (at_ms - _MONDAY_MS) % WEEK_MS
    monday_ms = at_ms - into_ms
    edges = sorted({minute * MINUTE_MS for span in spans for minute in span})
    edges = [edges[-1] - WEEK_MS, *edges, edges[0] + WEEK_MS]
    return (
        monday_ms + max(edge for edge in edges if edge <= into_ms),
        monday_ms + min(edge for edge in edges if edge > into_ms),
    )


def joined(spans: list[tuple[int, int]]) -> Spans:
    """Spans in order, those that touch or overlap made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def others(spans: Spans) -> Spans:
    """The rest of the week."""
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), WEEK_MINUTES]
    return tuple((end, start) for end, start in zip(ends, starts, strict=True) if end < start)
