"""Alerting over books that are fed by hand: a clock that is set, a configuration, somebody who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from store.ledger_entries import end, hold, settle
from vault.fakes import Chance, Clock

from gateway.bookkeeper.alerts.evaluation import Alerting, AlertWorld
from gateway.channel.messages import Status
from gateway.core.alerts import Alert, AlertKind, AlertPolicy, AlertRules, Channel, ChannelKind, Notified
from gateway.core.caller import KeyRecord
from gateway.core.config import LimitChange, Policy, Snapshot
from gateway.core.limits import EACH, Limit, Suspension, Take, Unit, Window, WindowKind
from gateway.core.queries import LedgerQueries
from gateway.core.records import AnyRecord, Entry
from gateway.ledger.fold import Books
from gateway.limits.wants import counter_name
from gateway.limits.windows import span_at
from gateway.settings import Settings

START_MS = 1_795_000_000_000
"""2026-11-18T11:06:40Z."""
MONTH = Window(WindowKind.MONTH)
OPS = Channel("ops", ChannelKind.WEBHOOK, "https://hooks.example.com", "env:S")
RULES = AlertRules(forecast_from_percent=0)
TELLING = AlertPolicy(channels=(OPS,), default=("ops",), rules=RULES, url="https://gateway.example.com")
KEY = KeyRecord("k1", "app", "acme", "growth", "data", ())
JOURNAL = b"j" * 16


def month_limit(amount: int, id: str = "lim_1", **more: object) -> Limit:
    return Limit(id, Unit.USD, amount, MONTH, (("key", "k1"),), **more)  # type: ignore[arg-type]


@dataclass
class Told:
    """core.alerts.Notifier: what was sent, and what is answered."""

    sent: list[tuple[str, Alert]] = field(default_factory=list)
    answers: list[Notified] = field(default_factory=list)

    async def send(self, channel: Channel, alert: Alert) -> Notified:
        self.sent.append((channel.name, alert))
        return self.answers.pop(0) if self.answers else Notified(True)

    @property
    def titles(self) -> list[str]:
        return [alert.title for _, alert in self.sent]


def quiet_status(**more: object) -> Status:
    figures: dict[str, object] = dict.fromkeys(
        (
            "ts_ms", "behind_ms", "behind_bytes", "loaded_records", "loaded_calls", "dead_letters", "anomalies",
            "open_holds", "store_errors", "revision", "fresh_ms", "workers", "checkpoint_ms",
        ),
        0,
    )  # fmt: skip
    return Status(**{**figures, "store_fault": "", "journal_fault": "", **more})  # type: ignore[arg-type]


class Town:
    """One host. `die` is a kill -9 of its bookkeeper; records since `checkpoint` are then folded again."""

    def __init__(self, folder: Path, policy: AlertPolicy = TELLING, ledger: LedgerQueries | None = None) -> None:
        self.settings = Settings(data_dir=folder / "data")
        self.clock = Clock(START_MS)
        self.told = Told()
        self.ledger = ledger
        self.policy = policy
        self.limits: dict[str, Limit] = {}
        self.suspensions: list[Suspension] = []
        self.keys: tuple[KeyRecord, ...] = (KEY,)
        self.revision = 1
        self.status = quiet_status()
        self.entries: list[Entry] = []
        self.saved = 0
        self.books = Books()
        self._dumped = self.books.dump()
        self.alerting = self._begin()

    def _begin(self) -> Alerting:
        world = AlertWorld(self.told, b"s" * 32, None, self.ledger)
        made = Alerting(
            self.settings, world, self.snapshot, lambda: self.revision, lambda: self.status, self.clock, Chance()
        )
        made.begin(self.books)
        return made

    def snapshot(self) -> Snapshot:
        policy = Policy(1, "h", {}, {}, (), {}, alerts=self.policy)
        changes = [LimitChange(limit.id, limit) for limit in self.limits.values()]
        changes += [LimitChange(one.id, suspension=one) for one in self.suspensions]
        return Snapshot(self.revision, policy, self.keys, tuple(changes))

    def set(self, *limits: Limit) -> None:
        self.limits |= {limit.id: limit for limit in limits}
        self.revision += 1

    def counter(self, limit: Limit, asked: dict[str, str]) -> str:
        """Its counter of now for a call of these."""
        said = {"org": asked["org"], "team": asked["team"], "key": asked["key_id"], "user": asked["user"]}
        values = [said.get(name, value) if value == EACH else value for name, value in limit.scope]
        return counter_name(limit, values, span_at(limit.window, self.clock.ms).id)

    # ------------------------------------------------------------ calls

    def spend(self, nusd: int, *limits: Limit, state: str = "priced", **who: str) -> None:
        """One call of this cost, posted to the counters of these limits."""
        number = len(self.entries).to_bytes(8, "big")
        call_id, attempt_id = b"c" * 8 + number, b"a" * 8 + number
        asked = {"org": "acme", "team": "growth", "key_id": "k1", "user": "", "session": "", **who}
        takes = tuple(Take(self.counter(limit, asked), limit.id, Unit.USD, nusd) for limit in limits)
        now_ms = self.clock.ms
        cost = None if state == "unpriced" else nusd
        records: list[AnyRecord] = [
            hold(attempt_id, ts_ms=now_ms, takes=takes, **asked),
            end(attempt_id, (), ts_ms=now_ms, posted=takes, state=state, effective_nusd=cost, list_nusd=cost),
            settle(attempt_id, ts_ms=now_ms, **asked),
        ]
        self._fold(self._written(records, call_id))

    def refuse(self) -> None:
        """A call that did not fit into what is left."""
        call_id = b"r" * 8 + len(self.entries).to_bytes(8, "big")
        record = settle(
            call_id, ts_ms=self.clock.ms, org="acme", team="growth", key_id="k1", user="", session="",
            error_code="budget_exceeded", status=402, outcome="refused",
        )  # fmt: skip
        self._fold(self._written([record], call_id))

    def _written(self, records: Iterable[AnyRecord], call_id: bytes) -> list[Entry]:
        made = [
            Entry(JOURNAL, len(self.entries) + number, call_id, record, 1, 0)
            for number, record in enumerate(records, 1)
        ]
        self.entries += made
        return made

    def _fold(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.books.apply(entry.record, entry.call_id)
        self.alerting.seen(entries, self.books)

    # ------------------------------------------------------------ life

    def checkpoint(self) -> None:
        self.saved, self._dumped = len(self.entries), self.books.dump()

    def die(self) -> None:
        """What was not on disk is gone; the next one folds from the checkpoint on."""
        self.alerting.outbox.close()
        self.books = Books.load(self._dumped)
        self.alerting = self._begin()
        again = self.entries[self.saved :]
        for start in range(0, len(again), 3):
            self._fold(again[start : start + 3])

    async def look(self) -> None:
        """What happens once a second, and everything that is due is sent."""
        await self.alerting.judge()
        await self.alerting._sender.deliver_due()

    def look_now(self) -> None:
        asyncio.run(self.look())

    def close(self) -> None:
        self.alerting.close()


def shares(town: Town) -> list[tuple[str, int]]:
    """(limit, per cent) of every threshold that was sent, as they came."""
    found = [alert for _, alert in town.told.sent if alert.kind is AlertKind.THRESHOLD]
    return [(alert.limit_id, alert.figures[2].amount) for alert in found]
