"""From counters, refusals and changes to alerts that have not been told yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from gateway.alerts import telling
from gateway.alerts.forecast import forecast
from gateway.alerts.periods import CounterName, Period, forget_after_ms, period_of, read_counter, start_ms
from gateway.alerts.telling import scope_of
from gateway.alerts.thresholds import FORECAST, REFUSES, Marks
from gateway.bookkeeper.alerts.known import NOTHING, Known
from gateway.bookkeeper.alerts.outbox import Made
from gateway.bookkeeper.alerts.pace import lasting
from gateway.bookkeeper.alerts.watching import Refused
from gateway.channel.messages import Status
from gateway.core.caller import Caller, KeyRecord
from gateway.core.errors import RateLimited
from gateway.core.limits import Limit, Unit, Want, Window, WindowKind
from gateway.ledger.fold import Books
from gateway.limits.scope import mark_of
from gateway.limits.wants import Wants
from gateway.limits.windows import span_at

ALL = 100
NEARLY = 80
"""A limit of which less is spent is not used up when it refuses a call: that call wanted much."""
_DAY_MS = 86_400_000
_log = logging.getLogger(__name__)
_QUARTER_MS = 900_000


class Finder:
    """Everything it returns is marked as told: whoever asks keeps it."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._known: Known = NOTHING
        self._wants = Wants(capacity=256)
        self._quarter = -1
        self._told: set[str] = set()
        """Counters of which something was told: of them the sum before matters, too."""

    def use(self, known: Known) -> None:
        """From now on this is the configuration."""
        self._known = known
        self._wants = Wants(capacity=256)
        self._wants.use(known.rules)

    def begin(self, books: Books) -> None:
        """The fold goes on from these books: what was told of them before is judged from what they say."""
        places = [place for place in self._marks.places() if place in books.counters]  # but for rolling windows
        self._marks.stood({place: books.standing(place)[0] for place in places})
        self._told.update(places)

    def forget(self, books: Books) -> None:
        """Counters that are no more need not be remembered."""
        self._told.intersection_update(books.counters)

    def turned(self, now_ms: int) -> bool:
        """Whether a quarter of an hour has begun: increases end on their own, and nobody spends then."""
        quarter, self._quarter = self._quarter, now_ms // _QUARTER_MS
        return quarter != self._quarter

    # ------------------------------------------------------------ limits

    def thresholds(self, counters: Iterable[str], books: Books, now_ms: int) -> list[Made]:
        """What these counters have come to."""
        found: list[Made] = []
        for name in counters:
            limit, counter = self._limit(name)
            if limit is None or counter is None:
                continue
            try:
                found += self._reached(name, limit, counter, books, now_ms)
            except Exception:  # noqa: BLE001 - what was found before is marked as told, so it must be kept
                _log.exception("counter %r cannot be judged for alerts", name)
        return found

    def all_thresholds(
        self, books: Books, now_ms: int, of: frozenset[str] | None = None, names: Iterable[str] | None = None
    ) -> list[Made]:
        """What all counters of the present windows have come to, or those of some limits, or of some names: after a
        start, when limits have changed, and now and then."""
        present: dict[Window, frozenset[str]] = {}
        asked = []
        for name in books.counters if names is None else names:
            if of is not None and name.partition("|")[0] not in of:
                continue
            limit, counter = self._limit(name)
            if limit is None or counter is None:
                continue
            ids = present.get(limit.window)
            if ids is None:
                ids = present[limit.window] = _ids_at(limit.window, now_ms)
            if counter.window_id in ids:
                asked.append(name)
        return self.thresholds(asked, books, now_ms)

    def forecasts(self, counters: Iterable[str], books: Books, now_ms: int) -> list[Made]:
        """Which limits on money will not last, of those that were just spent from."""
        from_percent = self._known.policy.rules.forecast_from_percent
        found = []
        for name in counters if from_percent else ():
            limit, counter = self._limit(name)
            if limit is None or counter is None or limit.unit is not Unit.USD:
                continue
            begun_ms = start_ms(limit.window, now_ms)
            period = period_of(limit, counter, now_ms)
            if begun_ms is None or period is None or period.end_ms is None or period.end_ms <= now_ms:
                continue
            spent, amount = _spent(books, period), limit.amount_at(now_ms)
            what = forecast(spent, amount, begun_ms, now_ms, period.end_ms, from_percent)
            place = _place(limit, counter, period)
            if what is None or not self._marks.due_at_once(place, FORECAST, amount):
                continue
            key = self._key(limit, counter.values)
            alert = telling.forecast_exceeds(limit, counter.values, period, what, spent, amount, now_ms, key)
            found.append(Made(alert, place, FORECAST, amount, forget_after_ms(period)))
        return found

    def refusals(self, refused: Mapping[Refused, int], books: Books, now_ms: int) -> list[Made]:
        """Limits that refuse calls are used up, though less than their amount is spent: what was asked did not fit.
        Judged by the window that each call was refused in. With much left, that is told instead, and marked apart."""
        found = []
        for one, at_ms in refused.items():
            key = self._known.keys.get(one.key_id)
            want = None if key is None else self._binding(key, one, books, at_ms)
            limit = None if want is None else self._known.limits.get(want.limit.id)
            counter = None if want is None else read_counter(want.take.counter)
            if limit is None or counter is None or ALL not in self._percents(limit):
                continue
            period = period_of(limit, counter, at_ms)
            if period is None:
                continue
            place, amount = _place(limit, counter, period), limit.amount_at(at_ms)
            spent, owner = _spent(books, period), self._key(limit, counter.values)
            share = ALL if spent * 100 >= NEARLY * amount else REFUSES
            if amount > 0 and self._marks.due_at_once(place, share, amount):
                told = telling.percent_reached if share == ALL else telling.refuses_large
                alert = told(limit, counter.values, period, share, spent, amount, now_ms, owner)
                found.append(Made(alert, place, share, amount, forget_after_ms(period)))
        return found

    # ------------------------------------------------------------ the rest

    def changes(self, changed: Iterable[str], now_ms: int) -> Iterator[Made]:
        """Suspensions in force that nobody was told of, and increases of these limits."""
        known = self._known
        for suspension in known.suspensions:
            place = f"suspension|{suspension.id}"
            if now_ms < suspension.until_ms and self._marks.due_at_once(place, FORECAST, 1):
                key = known.keys.get(dict(suspension.scope).get("key", ""))
                alert = telling.limits_suspended(suspension, now_ms, key)
                yield Made(alert, place, FORECAST, 1, suspension.until_ms + _DAY_MS)
        for limit in (known.limits[id] for id in changed):
            place = f"increase|{limit.id}|{limit.increase}|{limit.increase_until_ms}"
            if limit.increase and now_ms < limit.increase_until_ms and self._marks.due_at_once(place, FORECAST, 1):
                alert = telling.limit_increased(limit, now_ms, self._key(limit, ""))
                yield Made(alert, place, FORECAST, 1, limit.increase_until_ms + _DAY_MS)

    def unpriced(self, seen: Iterable[tuple[str, str, str]], now_ms: int) -> Iterator[Made]:
        """Models without a price that answered: once a day."""
        for org, deployment, model in seen:
            place = f"unpriced|{org}|{deployment}"
            if self._marks.due_after(place, now_ms, _DAY_MS):
                yield lasting(telling.model_unpriced(deployment, model, org, now_ms), place, now_ms, _DAY_MS)

    def recording(self, status: Status, now_ms: int) -> Iterator[Made]:
        """Usage that does not reach SQL, and journals that cannot be read."""
        rules = self._known.policy.rules
        quiet_ms = rules.quiet_s * 1000
        if status.behind_ms > rules.recording_delay_s * 1000:
            place = "recording_delay"
            if self._marks.due_after(place, now_ms, quiet_ms):
                alert = telling.recording_delayed(status.behind_ms, status.behind_bytes, status.store_fault, now_ms)
                yield lasting(alert, place, now_ms, quiet_ms)
        if status.journal_fault:
            place = "journal_fault"
            if self._marks.due_after(place, now_ms, quiet_ms):
                yield lasting(telling.journal_faulty(status.journal_fault, now_ms), place, now_ms, quiet_ms)

    # ------------------------------------------------------------ within

    def _limit(self, name: str) -> tuple[Limit | None, CounterName | None]:
        counter = read_counter(name)
        return (None, None) if counter is None else (self._known.limits.get(counter.limit_id), counter)

    def _percents(self, limit: Limit) -> tuple[int, ...]:
        """A limit's own; of those that name none, limits on money have the file's. Rates are not told of."""
        return limit.alerts or (self._known.policy.rules.thresholds if limit.unit is Unit.USD else ())

    def _reached(self, name: str, limit: Limit, counter: CounterName, books: Books, now_ms: int) -> Iterator[Made]:
        percents = self._percents(limit)
        amount = limit.amount_at(now_ms)
        rolling = limit.window.kind is WindowKind.ROLLING
        if not percents or amount <= 0:
            return
        if not rolling and name not in self._told and books.standing(name)[0] * 100 < min(percents) * amount:
            return  # nearly all: no window has to be found for them
        period = period_of(limit, counter, now_ms)
        if period is None:
            return
        place, spent = _place(limit, counter, period), _spent(books, period)
        due = self._marks.due(place, spent, amount, percents)
        if place in self._marks:
            self._told.add(name)
        for percent in due:
            key = self._key(limit, counter.values)
            alert = telling.percent_reached(limit, counter.values, period, percent, spent, amount, now_ms, key)
            yield Made(alert, place, percent, amount, forget_after_ms(period))

    def _binding(self, key: KeyRecord, one: Refused, books: Books, now_ms: int) -> Want | None:
        """The limit on money with the least left, of those that would refuse such a call."""
        caller = Caller(key, one.user, one.session, one.tags)
        try:
            wants = self._wants.reserve(key, now_ms, 0, 0, caller, one.user, one.model, one.deployment)
        except RateLimited:
            return None
        enforced = [want for want in wants if want.enforced and want.limit.unit is Unit.USD]
        return min(enforced, key=lambda want: want.limit.amount - _sum(books, want.counters), default=None)

    def _key(self, limit: Limit, values: str) -> KeyRecord | None:
        """The key that a limit's counter is of, where it is one's."""
        return self._known.keys.get(dict(scope_of(limit, values)).get("key", ""))


def _ids_at(window: Window, now_ms: int) -> frozenset[str]:
    try:
        return frozenset(span_at(window, now_ms).ids)
    except (ValueError, KeyError, OSError):  # a time zone that this host does not know (any more)
        _log.exception("window %r cannot be judged for alerts", window)
        return frozenset()


def _place(limit: Limit, counter: CounterName, period: Period) -> str:
    return f"{limit.id}|{counter.values}|{period.name}{mark_of(limit)}"


def _spent(books: Books, period: Period) -> int:
    return _sum(books, period.counters)


def _sum(books: Books, counters: Iterable[str]) -> int:
    return sum(books.standing(name)[0] for name in counters)
