"""Whose spending is too fast. What is usual for a key is asked of the rollups, seldom; of users and sessions, of which
there are sums by the day only, this host remembers the dear hours itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

from gateway.alerts.spending import (
    DAYS,
    HOUR_MS,
    Spending,
    Subject,
    may_run_away,
    median_at,
    runaway,
)
from gateway.alerts.telling import spends_too_fast
from gateway.alerts.thresholds import FORECAST, Marks
from gateway.bookkeeper.alerts.known import Known
from gateway.bookkeeper.alerts.outbox import Made
from gateway.core.alerts import Alert
from gateway.core.errors import StoreUnavailable
from gateway.core.queries import LedgerQueries, QueryScope

ASK_S = 5.0
ASKED_AT_ONCE = 20
AWAY_MS = 10_000
"""SQL that did not answer is not waited for again for so long: everything else is judged after this."""
MOST_ANSWERS = 10_000
_DAY_MS = 24 * HOUR_MS
_ROWS = (DAYS + 2) * 24
_NO_SQL = "SQL did not answer: what is usual is what this host remembers itself."


class Pace:
    """`ledger` None: there is no SQL to ask."""

    def __init__(self, spending: Spending, marks: Marks, ledger: LedgerQueries | None) -> None:
        self._spending = spending
        self._marks = marks
        self._ledger = ledger
        self._answers: dict[tuple[str, int], int | None] = {}
        self._postponed: set[Subject] = set()
        self._away_ms = -AWAY_MS
        self.turned_hour = 0

    async def runaways(self, subjects: Collection[Subject], known: Known, now_ms: int) -> list[Made]:
        """Of these who have just spent, those who spend too fast and were not told of a while ago."""
        rules = known.policy.rules
        quiet_ms = rules.quiet_s * 1000
        found, asked = [], 0
        postponed, self._postponed = self._postponed, set()
        sums = {subject: self._spending.last_hour(subject, now_ms) for subject in {*subjects, *postponed}}
        fast = [subject for subject, spent in sums.items() if may_run_away(spent, rules)]
        for subject in sorted(fast, key=lambda one: (one.dimension != "key", -sums[one], one.value)):
            spent, place = sums[subject], _place(subject)
            if self._marks.is_quiet(place, now_ms, quiet_ms):
                continue
            usual, note = self._spending.usual(subject, now_ms), ""
            if subject.dimension == "key":
                asked += 1
                if asked > ASKED_AT_ONCE:
                    self._postponed.add(subject)
                    continue
                usual, note = await self._of_key(subject, now_ms, usual)
            what = runaway(spent, usual, rules)
            if what is not None and self._marks.due_after(place, now_ms, quiet_ms):
                alert = spends_too_fast(subject, what, rules, now_ms, known.keys.get(subject.key_id), note)
                found.append(lasting(alert, place, now_ms, quiet_ms))
        return found

    async def _of_key(self, subject: Subject, now_ms: int, remembered: int | None) -> tuple[int | None, str]:
        """(what is usual, what is not known of it). One question a key and hour."""
        hour = now_ms // HOUR_MS
        question = subject.key_id, hour
        if question in self._answers:
            return self._answers[question], ""
        if self._ledger is None or 0 <= now_ms - self._away_ms < AWAY_MS:
            return remembered, _NO_SQL
        scope = QueryScope(subject.org, key_id=subject.key_id)
        first_ms = (hour - DAYS * 24 - 1) * HOUR_MS
        try:
            async with asyncio.timeout(ASK_S):
                rows = await self._ledger.spend(scope, ("hour",), first_ms, now_ms, limit=_ROWS)
        except (StoreUnavailable, TimeoutError):
            self._away_ms = now_ms
            return remembered, _NO_SQL
        hours = {_hour_of(row.group[0]): row.effective_nusd for row in rows}
        usual = median_at(hours, min(hours, default=hour), now_ms)
        if len(self._answers) >= MOST_ANSWERS:
            self._answers.clear()
        self._answers[question] = usual
        return usual, ""


def lasting(alert: Alert, place: str, now_ms: int, quiet_ms: int) -> Made:
    """An alert of something that lasts: told again when it was quiet for so long."""
    return Made(alert, place, FORECAST, now_ms, now_ms + quiet_ms + _DAY_MS)


def _place(subject: Subject) -> str:
    return "|".join(("rate", subject.dimension, subject.org, subject.key_id, subject.value))


def _hour_of(text: str) -> int:
    """The clock hour of a time group of LedgerQueries, `2026-09-21T14:00Z`."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp()) // 3600
