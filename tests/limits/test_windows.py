"""Windows partition time, in every zone and across every change of clocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.limits import Window, WindowKind
from gateway.limits.windows import BUCKETS, bucket_ms, span_at

ZONES = (
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "America/Havana",  # clocks go back at 01:00 to midnight: one midnight comes twice
    "Africa/Cairo",  # clocks skip midnight
    "Asia/Beirut",
    "Asia/Kathmandu",  # +05:45
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Apia",  # one day of 2011 does not exist
    "America/St_Johns",  # until 2011 clocks changed at 00:01
)
VIENNA_HOUR = Window(WindowKind.HOUR, zone="Europe/Vienna")
CALENDAR = (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH)

windows = st.one_of(
    st.builds(Window, st.sampled_from(CALENDAR), st.just(0), st.sampled_from(ZONES)),
    st.builds(Window, st.just(WindowKind.ROLLING), st.integers(1, 400 * 86_400)),
)
moments = st.integers(1_200_000_000_000, 2_000_000_000_000)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@given(windows, moments)
@example(Window(WindowKind.DAY, zone="Pacific/Apia"), ms("2011-12-30T09:59:59"))
@example(Window(WindowKind.DAY, zone="America/Havana"), ms("2025-11-02T04:30:00"))
@example(Window(WindowKind.DAY, zone="Africa/Cairo"), ms("2025-04-24T21:30:00"))
@example(Window(WindowKind.HOUR, zone="Australia/Lord_Howe"), ms("2025-04-05T14:45:00"))
@example(Window(WindowKind.HOUR, zone="America/St_Johns"), ms("2010-11-07T02:30:30"))
def test_a_span_lasts_until_it_turns_and_no_longer(window: Window, now_ms: int) -> None:
    span = span_at(window, now_ms)
    assert span.turns_ms is not None
    assert now_ms < span.turns_ms
    assert span_at(window, span.turns_ms - 1) == span
    following = span_at(window, span.turns_ms)
    assert following.id != span.id
    middle = (now_ms + span.turns_ms) // 2
    assert span_at(window, middle) == span


@given(windows, moments)
def test_a_counter_outlives_what_it_counts_for(window: Window, now_ms: int) -> None:
    span = span_at(window, now_ms)
    assert span.end_ms is not None
    assert span.id == span.ids[-1]
    assert span.expires_ms > span.end_ms
    assert span.id in span_at(window, span.end_ms - 1).ids
    assert span.id not in span_at(window, span.end_ms).ids


@given(st.integers(1, 90 * 86_400), moments, st.integers(0, 10**9))
def test_a_rolling_window_never_forgets_too_early(length_s: int, now_ms: int, ago_ms: int) -> None:
    window = Window(WindowKind.ROLLING, length_s)
    taken = span_at(window, now_ms - ago_ms)
    counts = taken.id in span_at(window, now_ms).ids
    if ago_ms <= length_s * 1000:
        assert counts
    if ago_ms >= (BUCKETS + 1) * bucket_ms(length_s):
        assert not counts


@pytest.mark.parametrize(
    ("window", "at", "id", "end"),
    [
        (Window(WindowKind.DAY), "2026-11-24T23:59:59.999", "2026-11-24", "2026-11-25T00:00:00"),
        (Window(WindowKind.DAY), "2026-11-25T00:00:00", "2026-11-25", "2026-11-26T00:00:00"),
        (Window(WindowKind.DAY, zone="Europe/Vienna"), "2026-11-24T23:30:00", "2026-11-25", "2026-11-25T23:00:00"),
        # the day clocks go back is 25 hours long, the day they go forward 23
        (Window(WindowKind.DAY, zone="Europe/Vienna"), "2026-10-24T22:00:00", "2026-10-25", "2026-10-25T23:00:00"),
        (Window(WindowKind.DAY, zone="Europe/Vienna"), "2026-03-28T23:00:00", "2026-03-29", "2026-03-29T22:00:00"),
        (Window(WindowKind.WEEK), "2026-11-24T12:00:00", "2026-W48", "2026-11-30T00:00:00"),
        (Window(WindowKind.WEEK), "2027-01-01T12:00:00", "2026-W53", "2027-01-04T00:00:00"),
        (Window(WindowKind.MONTH), "2026-12-31T23:59:59", "2026-12", "2027-01-01T00:00:00"),
        (Window(WindowKind.MONTH), "2028-02-29T00:00:00", "2028-02", "2028-03-01T00:00:00"),
        (Window(WindowKind.HOUR), "2026-11-24T12:34:56", "2026-11-24T12+0000", "2026-11-24T13:00:00"),
        # the hour that comes twice is two windows
        (VIENNA_HOUR, "2026-10-25T00:30:00", "2026-10-25T02+0200", "2026-10-25T01:00:00"),
        (VIENNA_HOUR, "2026-10-25T01:30:00", "2026-10-25T02+0100", "2026-10-25T02:00:00"),
    ],
)  # fmt: skip
def test_calendar(window: Window, at: str, id: str, end: str) -> None:
    span = span_at(window, ms(at))
    assert (span.id, span.end_ms) == (id, ms(end))


def test_rolling() -> None:
    span = span_at(Window(WindowKind.ROLLING, 60), 1_000_000_000)
    assert len(span.ids) == BUCKETS + 1
    assert (span.id, span.ids[0]) == ("60s:200000", "60s:199988")
    assert span.turns_ms == 1_000_005_000
    assert span.end_ms == 1_000_065_000


def test_total_never_ends() -> None:
    span = span_at(Window(WindowKind.TOTAL), 1)
    assert span == span_at(Window(WindowKind.TOTAL), 10**13)
    assert (span.id, span.ids, span.end_ms, span.turns_ms, span.expires_ms) == ("all", ("all",), None, None, 0)
