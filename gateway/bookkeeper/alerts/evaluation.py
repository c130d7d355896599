"""Alerts: found in what is folded, kept in the outbox, sent. Needs no SQL; says what it cannot do without.

Thresholds are judged within the fold, before a checkpoint has the records: what was told and what was folded never
disagree. The rest is judged once a second; every quarter of an hour all counters are looked at, a few at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from gateway.alerts.pausing import PATH, pause_of, sign
from gateway.alerts.routes import channels_of
from gateway.bookkeeper.alerts.finding import Finder
from gateway.bookkeeper.alerts.known import NOTHING, Known, changed_limits, known_of
from gateway.bookkeeper.alerts.outbox import Made, Outbox
from gateway.bookkeeper.alerts.pace import Pace
from gateway.bookkeeper.alerts.sending import Recorder, Sender
from gateway.bookkeeper.alerts.watching import Watch
from gateway.channel.messages import Status
from gateway.core.alerts import Alert, AlertPolicy, AlertStore, Notifier
from gateway.core.config import Snapshot
from gateway.core.ports import Clock, Entropy
from gateway.core.queries import LedgerQueries
from gateway.core.records import Entry
from gateway.ledger.fold import Books
from gateway.settings import Settings

OUTBOX_NAME = "alerts.jsonl"
SPENDING_NAME = "alert_spending.msgpack"
TICK_S = 1.0
SAVE_TICKS = 10
SWEEP_AT_ONCE = 2_000
HOUR_MS = 3_600_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlertWorld:
    """What alerts reach the world by. `store` and `ledger` None: there is no SQL to ask. `secret` signs pause links."""

    notifier: Notifier
    secret: bytes
    store: AlertStore | None = None
    ledger: LedgerQueries | None = None


class Alerting:
    """`configuration` is the present one and `revision` its number; `status` how the bookkeeper stands."""

    def __init__(
        self,
        settings: Settings,
        world: AlertWorld,
        configuration: Callable[[], Snapshot | None],
        revision: Callable[[], int],
        status: Callable[[], Status],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Reads the outbox. Raises ConfigInvalid when it is damaged."""
        now_ms = clock.now_ms()
        self._clock = clock
        self._world = world
        self._keep_days = settings.alert_keep_days
        self._configuration = configuration
        self._revision = revision
        self._status = status
        self._known: Known = NOTHING
        self._books = Books()
        self.outbox = Outbox(settings.data_dir / OUTBOX_NAME, now_ms)
        self._watch = Watch(settings.data_dir / SPENDING_NAME, now_ms)
        self._finder = Finder(self.outbox.marks)
        self._pace = Pace(self._watch.spending, self.outbox.marks, world.ledger)
        self._sender = Sender(self.outbox, world.notifier, lambda: self.policy, self._dressed, clock, entropy)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def policy(self) -> AlertPolicy:
        return self._known.policy

    # ------------------------------------------------------------ the fold

    def begin(self, books: Books) -> None:
        """The fold goes on from these books."""
        self._books = books
        self._watch.begin(books)
        self._finder.begin(books)

    def seen(self, entries: Sequence[Entry], books: Books) -> None:
        """gateway.bookkeeper.folding.Folder's `watch`. Never raises: the fold does not end for an alert's sake."""
        if not entries:
            return
        try:
            now_ms = self._clock.now_ms()
            touched = self._watch.see(entries)
            self._books = books
            # First: what was spent under a raised limit must not be judged by the old one.
            self._follow(now_ms)
            if self._known is not NOTHING:
                self._add(self._finder.thresholds(touched, books, now_ms))
        except Exception:  # noqa: BLE001 - a mistake here must not stop the fold
            _log.exception("alerts could not judge what was folded")

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Judges, sends and records until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_going("send", self._sender.run), name="alerts send")
            if self._world.store is not None:
                recorder = Recorder(self.outbox, self._world.store, self._clock, self._keep_days)
                group.create_task(_going("record", recorder.run), name="alerts record")
            group.create_task(_going("judge", self._judging), name="alerts judge")

    async def judge(self) -> None:
        """One look at everything that is not judged within the fold."""
        now_ms = self._clock.now_ms()
        self._follow(now_ms)
        if self._known is NOTHING:
            return
        if self._finder.turned(now_ms):
            await self._sweep(now_ms)
        watch, rules = self._watch, self.policy.rules
        moved, watch.moved = watch.moved, set()
        refused, watch.refused = watch.refused, {}
        unpriced, watch.unpriced = watch.unpriced, set()
        for find in (
            lambda: self._finder.recording(self._status(), now_ms),
            lambda: self._finder.refusals(refused, self._books, now_ms),
            lambda: self._finder.forecasts(moved, self._books, now_ms),
            lambda: self._finder.unpriced(unpriced, now_ms),
        ):
            try:
                self._add(find())
            except Exception:  # noqa: BLE001 - what one cannot judge the others still can
                _log.exception("alerts could not be judged")
        paced, watch.paced = watch.paced, set()
        self._add(await self._pace.runaways(paced, self._known, now_ms))
        if now_ms // HOUR_MS != self._pace.turned_hour:
            self._pace.turned_hour = now_ms // HOUR_MS
            watch.spending.turn(now_ms, rules)
        self.outbox.flush(now_ms)

    def close(self) -> None:
        """Keeps what is to be remembered."""
        self._watch.save_now()
        self.outbox.close()

    def counts(self) -> dict[str, int]:
        """For the bookkeeper's status: since it started, and how many wait now."""
        return {
            "alerts_made": self.outbox.added,
            "alerts_sent": self._sender.sent,
            "alerts_failed": self._sender.failed,
            "alerts_given_up": self._sender.given_up,
            "alerts_waiting": len(self.outbox.waiting()),
        }

    # ------------------------------------------------------------ within

    async def _judging(self) -> None:
        ticks = 0
        while True:
            await self.judge()
            ticks += 1
            if not ticks % SAVE_TICKS:
                await self._watch.save()
            await asyncio.sleep(TICK_S)

    async def _sweep(self, now_ms: int) -> None:
        """All counters, a few at a time: a million of them would hold up the fold for seconds."""
        self._finder.forget(self._books)
        names = list(self._books.counters)
        for start in range(0, len(names), SWEEP_AT_ONCE):
            some = names[start : start + SWEEP_AT_ONCE]
            self._add(self._finder.all_thresholds(self._books, now_ms, names=some))
            await asyncio.sleep(0)

    def _follow(self, now_ms: int) -> None:
        """The configuration as it is now, and what a change of it is to be told of."""
        if self._known is not NOTHING and self._revision() == self._known.revision:
            return
        snapshot = self._configuration()
        if snapshot is None:
            return
        before, self._known = self._known, known_of(snapshot)
        self._finder.use(self._known)
        changed = changed_limits(before, self._known)
        self._add(self._finder.changes(changed, now_ms))
        if before is NOTHING:
            return  # the first sweep looks at everything, without holding up the fold
        if before.policy.rules.thresholds != self._known.policy.rules.thresholds:
            self._add(self._finder.all_thresholds(self._books, now_ms))
        elif changed:
            self._add(self._finder.all_thresholds(self._books, now_ms, changed))

    def _add(self, found: Iterable[Made]) -> None:
        told = []
        for made in found:
            channels = channels_of(self.policy, made.alert)
            told.append(msgspec.structs.replace(made, channels=channels))
            _log.warning("alert %s (%s): %r", made.alert.id, ", ".join(channels) or "to nobody", made.alert.title)
        if told:
            self.outbox.add(told)

    def _dressed(self, alert: Alert) -> Alert:
        """With its links: the console, and what would stop the spending."""
        policy = self.policy
        if not policy.url:
            return alert
        links = [("console", f"{policy.url}/ui")]
        pause = pause_of(alert, self._clock.now_ms() + policy.pause_hours * HOUR_MS)
        if pause is not None:
            links.append(("pause", f"{policy.url}{PATH}?token={sign(pause, self._world.secret)}"))
        return msgspec.structs.replace(alert, links=tuple(links))


async def _going(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Runs a part that shall never end, once more whenever it fails: the others go on meanwhile."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - SQL that refuses one row must not stop what is being sent
            _log.exception("alerts: %s has failed; starting it again", name)
        await asyncio.sleep(TICK_S)
