"""How fast keys, users and sessions spend, beside what they usually spend at this hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from gateway.core.alerts import AlertRules
from gateway.core.money import divide_half_even

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MINUTES = 60
"""The length of the window that is looked at."""
DAYS = 14
LEAST_DAYS = 3
"""A subject known for fewer days has no usual spending."""
MOST_SUBJECTS = 50_000
MOST_HOURS = 50_000


class Subject(msgspec.Struct, frozen=True, array_like=True):
    """Who spends: a key, or a user or session of a key (`value`), which callers can make up."""

    dimension: str
    org: str
    team: str
    key_id: str
    value: str = ""


class SubjectSpending(msgspec.Struct, array_like=True):
    """What a subject spent, nano-USD: by minute of the last hour, by clock hour of this one and the one before."""

    minutes: dict[int, int]
    hours: dict[int, int]


class Image(msgspec.Struct, array_like=True):
    """All there is to remember, as it is saved. `positions` are the last record of each journal that is in it."""

    since_hour: int
    spending: list[tuple[Subject, SubjectSpending]]
    history: list[tuple[Subject, dict[int, int]]]
    positions: list[tuple[bytes, int]]


class Spending:
    """Rolling hours of spending, and the dear hours of the last 14 days.

    Of history only hours of at least minimum / factor are kept: a median below that, times the factor, is under the
    minimum and decides nothing. So the memory is small and the decision the same as with every hour. At most
    MOST_SUBJECTS are followed: of too many, those without spending in the last hour go first, then the cheapest.
    """

    __slots__ = ("_history", "_hours_kept", "_most", "_spending", "dropped", "since_hour")

    def __init__(self, since_ms: int, most: int = MOST_SUBJECTS) -> None:
        self._most = most
        self.since_hour = since_ms // HOUR_MS
        self._spending: dict[Subject, SubjectSpending] = {}
        self._history: dict[Subject, dict[int, int]] = {}
        self._hours_kept = 0
        self.dropped = 0

    def add(self, subject: Subject, ts_ms: int, nusd: int) -> None:
        found = self._spending.get(subject)
        if found is None:
            if len(self._spending) >= self._most:
                self._make_room(ts_ms)
            found = self._spending[subject] = SubjectSpending({}, {})
        minute, hour = ts_ms // MINUTE_MS, ts_ms // HOUR_MS
        found.minutes[minute] = found.minutes.get(minute, 0) + nusd
        found.hours[hour] = found.hours.get(hour, 0) + nusd

    def last_hour(self, subject: Subject, now_ms: int) -> int:
        """What was spent in this minute and the 59 before it, nano-USD."""
        found = self._spending.get(subject)
        if found is None:
            return 0
        last = now_ms // MINUTE_MS
        return sum(nusd for minute, nusd in found.minutes.items() if last - MINUTES < minute <= last)

    def subjects(self) -> Iterator[Subject]:
        return iter(self._spending)

    def turn(self, now_ms: int, rules: AlertRules) -> None:
        """Forgets minutes that are over an hour old, and keeps the dear ones of the hours that are over. Called now and
        then; a call an hour is enough. Hours to come were a wrong clock's: nothing of them is kept."""
        hour, minute_now = now_ms // HOUR_MS, now_ms // MINUTE_MS
        kept = range(minute_now - MINUTES + 1, minute_now + MINUTES)
        self.since_hour = min(self.since_hour, hour)
        least = rules.rate_minimum_nusd // max(rules.rate_factor, 1)
        for subject in list(self._spending):
            found = self._spending[subject]
            found.minutes = {minute: nusd for minute, nusd in found.minutes.items() if minute in kept}
            for over in [one for one in found.hours if not hour - 1 <= one <= hour + 1]:
                nusd = found.hours.pop(over)
                if nusd >= least and over < hour:
                    self._keep(subject, over, nusd)
            if not found.minutes and not found.hours:
                del self._spending[subject]
        self._forget_before(hour - DAYS * 24 - 1)

    def usual(self, subject: Subject, now_ms: int) -> int | None:
        """The median of what the subject spent at this hour on the last 14 days, as far as it is known here; of two
        hours that the last 60 minutes lie in, the dearer one's. None when too little is known."""
        return median_at(self._history.get(subject, {}), self.since_hour, now_ms)

    def image(self, positions: Mapping[bytes, int]) -> Image:
        return Image(
            self.since_hour, list(self._spending.items()), list(self._history.items()), list(positions.items())
        )

    @classmethod
    def of(cls, image: Image) -> Spending:
        spending = cls(image.since_hour * HOUR_MS)
        spending._spending = dict(image.spending)
        spending._history = dict(image.history)
        spending._hours_kept = sum(len(hours) for hours in spending._history.values())
        return spending

    # ------------------------------------------------------------ within

    def _keep(self, subject: Subject, hour: int, nusd: int) -> None:
        hours = self._history.setdefault(subject, {})
        self._hours_kept += hour not in hours
        hours[hour] = nusd
        if self._hours_kept > MOST_HOURS:
            self._forget_before(min(min(hours) for hours in self._history.values()) + 24)

    def _forget_before(self, first_hour: int) -> None:
        for subject in list(self._history):
            hours = self._history[subject]
            for old in [hour for hour in hours if hour < first_hour]:
                del hours[old]
                self._hours_kept -= 1
            if not hours:
                del self._history[subject]

    def _make_room(self, now_ms: int) -> None:
        by_spent = sorted(self._spending, key=lambda subject: self.last_hour(subject, now_ms))
        for subject in by_spent[: max(1, self._most // 4)]:
            del self._spending[subject]
            self.dropped += 1


def median_at(hours: Mapping[int, int], since_hour: int, now_ms: int) -> int | None:
    """The median of an hour's spending over the last 14 days, nano-USD; of the two clock hours that the last 60 minutes
    lie in, the greater. Days before `since_hour` do not count, days without spending count as 0. None with fewer than
    3 days."""
    hour = now_ms // HOUR_MS
    found = [_median(hours, since_hour, one) for one in (hour, hour - 1)]
    known = [nusd for nusd in found if nusd is not None]
    return max(known, default=None)


def _median(hours: Mapping[int, int], since_hour: int, hour: int) -> int | None:
    days = [hour - 24 * day for day in range(1, DAYS + 1)]
    values = sorted(hours.get(one, 0) for one in days if one >= since_hour)
    if len(values) < LEAST_DAYS:
        return None
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return divide_half_even(values[middle - 1] + values[middle], 2)


class Runaway(NamedTuple):
    """Why spending is too fast. `usual_nusd` None: unknown. `per_hour` says that it is over the limit per hour."""

    spent_nusd: int
    usual_nusd: int | None
    per_hour: bool


def runaway(spent_nusd: int, usual_nusd: int | None, rules: AlertRules) -> Runaway | None:
    """Whether what was spent in the last 60 minutes is too much: over the limit per hour, if there is one; or at least
    the minimum and more than `rate_factor` times what is usual (unknown: 0)."""
    if rules.rate_per_hour_nusd and spent_nusd > rules.rate_per_hour_nusd:
        return Runaway(spent_nusd, usual_nusd, per_hour=True)
    usual = rules.rate_factor * (usual_nusd or 0)
    if rules.rate_factor and spent_nusd >= rules.rate_minimum_nusd and spent_nusd > usual:
        return Runaway(spent_nusd, usual_nusd, per_hour=False)
    return None


def may_run_away(spent_nusd: int, rules: AlertRules) -> bool:
    """Whether it is worth knowing what is usual."""
    return runaway(spent_nusd, None, rules) is not None


def subjects_of(org: str, team: str, key_id: str, user: str, session: str) -> Iterable[Subject]:
    """Everyone that one attempt is spent by."""
    yield Subject("key", org, team, key_id)
    if user:
        yield Subject("user", org, team, key_id, user[:256])
    if session:
        yield Subject("session", org, team, key_id, session[:256])
