"""The month a page shows, in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.core.errors import BadRequest

DAY_MS = 86_400_000
_MONTH = re.compile(r"^(20\d\d)-(0[1-9]|1[0-2])$")
_FIRST_YEAR = 2020


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month: its days as ISO dates, and where it begins and ends in ms."""

    year: int
    month: int
    from_ms: int
    to_ms: int

    @property
    def id(self) -> str:
        return f"{self.year}-{self.month:02d}"

    @property
    def name(self) -> str:
        return datetime(self.year, self.month, 1, tzinfo=UTC).strftime("%B %Y")

    @property
    def days(self) -> tuple[str, ...]:
        return tuple(f"{self.id}-{day:02d}" for day in range(1, (self.to_ms - self.from_ms) // DAY_MS + 1))

    def holds(self, ms: int) -> bool:
        return self.from_ms <= ms < self.to_ms


def month_of(ms: int) -> Month:
    then = datetime.fromtimestamp(ms // 1000, UTC)
    return _month(then.year, then.month)


def asked_month(text: str | None, now_ms: int) -> Month:
    """The month of `?month=2026-11`, the present one without. Raises BadRequest."""
    present = month_of(now_ms)
    if text is None:
        return present
    match = _MONTH.match(text)
    asked = _month(int(match.group(1)), int(match.group(2))) if match else None
    if asked is None or asked.year < _FIRST_YEAR or asked.from_ms > present.from_ms:
        raise BadRequest(f"There is no such month to show; write it like {present.id}.", param="month")
    return asked


def month_before(month: Month) -> Month:
    return month_of(month.from_ms - 1)


def month_after(month: Month) -> Month:
    return month_of(month.to_ms)


def _month(year: int, month: int) -> Month:
    start = datetime(year, month, 1, tzinfo=UTC)
    end = (start + timedelta(days=32)).replace(day=1)
    return Month(year, month, int(start.timestamp()) * 1000, int(end.timestamp()) * 1000)
