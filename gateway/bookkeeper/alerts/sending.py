"""Alerts from the outbox to their channels, again and again until they are there or a day has passed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gateway.alerts.retry import GIVE_UP_MS, LONGEST_MS, next_attempt_ms
from gateway.bookkeeper.alerts.outbox import Outbox, of_callers
from gateway.core.alerts import Alert, AlertPolicy, AlertStore, Delivery, DeliveryState, Notified, Notifier, Severity
from gateway.core.errors import StoreUnavailable
from gateway.core.ports import Clock, Entropy

AT_ONCE = 2
"""Attempts to one channel at a time."""
MOST_PER_HOUR = 120
"""Attempts to one channel; the rest waits, critical alerts first. Ten thousand users may reach their limits at once."""
MOST_OF_CALLERS = 100
"""Of those, attempts for what callers can make up any number of: the rest of the hour is for everything else."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RECORD_AT_ONCE = 500
FORGET_NS = 3600 * 10**9
"""How often SQL is asked whether alerts are too old to be kept."""
LOOK_S = 0.25
AWAY_S = 1.0

MANY = 1_000
MOST_RANKS = 50_000

_SEVERITIES = list(Severity)
_log = logging.getLogger(__name__)


class _Rank(NamedTuple):
    """Of two alerts the lesser is sent first: the worse, what callers cannot make up, the older."""

    severity: int
    of_callers: bool
    created_ms: int


class Sender:
    """Delivers at least once: what was sent when the process died is sent again, with the same id.

    `dressed` adds the links to an alert; it holds secrets, so it is done for the channel only.
    """

    def __init__(
        self,
        outbox: Outbox,
        notifier: Notifier,
        policy: Callable[[], AlertPolicy],
        dressed: Callable[[Alert], Alert],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._outbox = outbox
        self._notifier = notifier
        self._policy = policy
        self._dressed = dressed
        self._clock = clock
        self._entropy = entropy
        self._attempts: dict[str, deque[int]] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._ranks: dict[str, _Rank] = {}
        self.sent = 0
        self.failed = 0
        self.given_up = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                many = self._start_due() > MANY
                await asyncio.sleep(4 * LOOK_S if many else LOOK_S)
        finally:
            for lane in self._lanes.values():
                lane.cancel()

    async def deliver_due(self) -> None:
        """One attempt of everything that is due."""
        self._start_due()
        await asyncio.gather(*self._lanes.values())

    def _start_due(self) -> int:
        """A lane for each channel that has none: one that does not answer holds up nobody else's alerts. How many were
        due."""
        self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.done()}
        now_ms = self._clock.now_ms()
        due: dict[str, list[Delivery]] = {}
        for one in self._outbox.waiting():
            # What is further away than any retry was written before the clock was set back.
            if one.channel not in self._lanes and not now_ms < one.next_ms <= now_ms + LONGEST_MS:
                due.setdefault(one.channel, []).append(one)
        for channel, asked in due.items():
            lane = self._lane(self._with_turn(channel, asked, now_ms))
            self._lanes[channel] = asyncio.create_task(lane, name=f"alerts to {channel}")
        if len(self._ranks) > MOST_RANKS:
            self._ranks.clear()
        return sum(map(len, due.values()))

    async def _lane(self, due: Sequence[Delivery]) -> None:
        for start in range(0, len(due), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for delivery in due[start : start + AT_ONCE]:
                    group.create_task(self._deliver(delivery))

    def _rank(self, delivery: Delivery) -> _Rank:
        found = self._ranks.get(delivery.alert_id)
        if found is None:
            alert = self._outbox.alert(delivery.alert_id)
            found = (
                _Rank(0, False, 0)
                if alert is None
                else _Rank(-_SEVERITIES.index(alert.severity), of_callers(alert), alert.created_ms)
            )
            self._ranks[delivery.alert_id] = found
        return found

    def _with_turn(self, channel: str, asked: Sequence[Delivery], now_ms: int) -> list[Delivery]:
        """What the channel takes in this hour, the most urgent first; what waited a day without that is given up."""
        attempts = self._attempts.setdefault(channel, deque())
        while attempts and not now_ms - HOUR_MS < attempts[0] <= now_ms:
            attempts.popleft()
        found = []
        for delivery in sorted(asked, key=self._rank):
            rank = self._rank(delivery)
            if len(attempts) < (MOST_OF_CALLERS if rank.of_callers else MOST_PER_HOUR):
                attempts.append(now_ms)
                found.append(delivery)
            elif now_ms - rank.created_ms >= GIVE_UP_MS:
                why = f"more than {MOST_PER_HOUR} alerts an hour for this channel"
                self._over(delivery, DeliveryState.GIVEN_UP, why)
        return found

    async def _deliver(self, delivery: Delivery) -> None:
        alert = self._outbox.alert(delivery.alert_id)
        if alert is None:
            self._over(delivery, DeliveryState.GIVEN_UP, "the alert is not known any more")
            return
        channel = self._policy().channel(delivery.channel)
        if channel is None:
            self._over(delivery, DeliveryState.GIVEN_UP, "there is no such channel any more")
            return
        try:
            result = await self._notifier.send(channel, self._dressed(alert))
        except Exception as error:  # noqa: BLE001 - one alert that cannot be sent must not stop the others
            # Its words may hold what the channel is reached by: only its kind is told.
            result = Notified(False, f"cannot be sent: {type(error).__name__}")
        tried = msgspec.structs.replace(delivery, attempts=delivery.attempts + 1)
        if result.ok:
            self.sent += 1
            self._over(tried, DeliveryState.SENT, "")
            return
        self.failed += 1
        now_ms = self._clock.now_ms()
        next_ms = next_attempt_ms(alert.created_ms, now_ms, tried.attempts, self._entropy.bytes(4))
        _log.warning("alert %s to %s, attempt %d: %s", alert.id, channel.name, tried.attempts, result.detail)
        if result.over or next_ms is None:
            self._over(tried, DeliveryState.GIVEN_UP, result.detail)
        else:
            self._outbox.tried(msgspec.structs.replace(tried, next_ms=next_ms, error=result.detail))

    def _over(self, delivery: Delivery, state: DeliveryState, error: str) -> None:
        now_ms = self._clock.now_ms()
        if state is DeliveryState.GIVEN_UP:
            self.given_up += 1
            _log.error("alert %s to %s is given up: %s", delivery.alert_id, delivery.channel, error)
        self._outbox.tried(msgspec.structs.replace(delivery, state=state, next_ms=0, ended_ms=now_ms, error=error))


class Recorder:
    """What the outbox holds, into SQL, where people look at it; and out of it again what is older than `keep_days`."""

    def __init__(
        self, outbox: Outbox, store: AlertStore, clock: Clock, keep_days: int, pause_s: float = AWAY_S
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._clock = clock
        self._keep_ms = keep_days * DAY_MS
        self._pause_s = pause_s
        self._forgotten_ns = -FORGET_NS
        self.fault = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            more = await self.record() or await self.forget()
            await asyncio.sleep(0 if more else LOOK_S)

    async def forget(self) -> bool:
        """Once an hour: deletes what is too old, some of it; True when there may be more."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._forgotten_ns < FORGET_NS:
            return False
        try:
            gone = await self._store.forget_alerts(self._clock.now_ms() - self._keep_ms, RECORD_AT_ONCE)
        except StoreUnavailable as error:
            self._say(error.message)
            await asyncio.sleep(self._pause_s)
            return False
        if gone < RECORD_AT_ONCE:
            self._forgotten_ns = now_ns
        return gone == RECORD_AT_ONCE

    async def record(self) -> bool:
        """Writes what SQL does not have yet; True when there may be more."""
        alerts, deliveries = self._outbox.unrecorded(RECORD_AT_ONCE)
        if not alerts:
            return False
        try:
            await self._store.record(alerts, deliveries)
        except StoreUnavailable as error:
            self._say(error.message)
            await asyncio.sleep(self._pause_s)
            return False
        self._say("")
        self._outbox.recorded(alerts, deliveries)
        return len(alerts) == RECORD_AT_ONCE

    def _say(self, fault: str) -> None:
        if fault and fault != self.fault:
            _log.warning("alerts are not in SQL yet, but are delivered all the same: %s", fault)
        self.fault = fault
