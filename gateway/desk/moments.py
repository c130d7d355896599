"""Times and lengths of time as people type and read them. All in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

DAY_MS = 86_400_000
MAX_DURATION_S = 10 * 366 * 86_400

_DURATION = re.compile(r"^(\d{1,9})\s*([smhdw])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration_s(text: str) -> int:
    """Seconds of `90s`, `15m`, `24h`, `30d`, `2w`. Raises ValueError with what is accepted."""
    match = _DURATION.match(text.strip().lower())
    seconds = int(match.group(1)) * _SECONDS[match.group(2)] if match else 0
    if match is None or seconds > MAX_DURATION_S:
        raise ValueError(f"{text!r} is not a length of time; write it like 15m, 24h, 30d or 2w, at most ten years")
    return seconds


def parse_moment_ms(text: str, now_ms: int) -> int:
    """A moment in ms UTC: `7d` (ago), `now`, `today`, `month` (its first day), `2026-11-01` or a full ISO time.
    Raises ValueError."""
    word = text.strip().lower()
    match word:
        case "now":
            return now_ms
        case "today":
            return day_start_ms(now_ms)
        case "month":
            return month_start_ms(now_ms)
    if _DURATION.match(word):
        return max(0, now_ms - parse_duration_s(word) * 1000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time; write 24h, 7d, today, month or 2026-11-01") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))


def day_start_ms(now_ms: int) -> int:
    return now_ms - now_ms % DAY_MS


def month_start_ms(now_ms: int) -> int:
    start = datetime.fromtimestamp(now_ms // 1000, UTC).replace(day=1, hour=0, minute=0, second=0)
    return int(start.timestamp()) * 1000


def next_month_ms(now_ms: int) -> int:
    """The first moment of the month after the one `now_ms` is in."""
    start = datetime.fromtimestamp(month_start_ms(now_ms) // 1000, UTC)
    return month_start_ms(int((start + timedelta(days=32)).timestamp()) * 1000)


def print_moment(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds where there are any."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{ms % 1000:03d}Z" if ms % 1000 else f"{moment}Z"
