"""The outbox of alerts: a local file that is written before anything is sent, so that no death loses or repeats one.

SQL may be away for as long as it likes; it is told what the outbox holds when it answers again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gateway.alerts.thresholds import Marks
from gateway.bookkeeper.durable import remove_unfinished, write_whole
from gateway.core.alerts import Alert, AlertKind, Delivery, DeliveryState
from gateway.core.errors import ConfigInvalid
from gateway.limits.scope import is_sent

KEEP_MS = 35 * 86_400_000
"""How long an alert stays here after it was delivered, or given up."""
MOST_ALERTS = 20_000
"""Of more the oldest are forgotten: one of those could be told again."""
MOST_WAITING = 10_000
"""Deliveries; what is not of callers' making (see `of_callers`) finds room for as many more."""
URGENT = frozenset({AlertKind.RECORDING_DELAY, AlertKind.JOURNAL_FAULT})
LASTING = frozenset({AlertKind.RATE_OF_SPEND, AlertKind.UNPRICED, AlertKind.RECORDING_DELAY, AlertKind.JOURNAL_FAULT})
"""Kinds whose mark is when they were told, in ms UTC (see `Marks.due_after`)."""
MOST_BYTES = 32 * 1024 * 1024

_log = logging.getLogger(__name__)


class Made(msgspec.Struct, frozen=True, tag_field="op", tag="made"):
    """An alert with what it marks (see `alerts.thresholds.Marks`) until `until_ms` (0: for good)."""

    alert: Alert
    place: str
    share: int
    amount: int
    until_ms: int
    channels: tuple[str, ...] = ()


class Tried(msgspec.Struct, frozen=True, tag_field="op", tag="tried"):
    """What became of an attempt to deliver."""

    delivery: Delivery


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Made | Tried).decode


class Outbox:
    """All alerts that may matter still. Belongs to whoever keeps the books of this host: one writer."""

    def __init__(self, path: Path, now_ms: int) -> None:
        """Reads the file. Raises ConfigInvalid when it cannot be read; a damaged line is left out, and logged."""
        self._path = path
        self._handle = -1
        self._unwritten: list[Made | Tried] = []
        self.marks = Marks()
        self._made: dict[str, Made] = {}
        self._deliveries: dict[tuple[str, str], Delivery] = {}
        self._waiting: dict[tuple[str, str], Delivery] = {}
        self._unrecorded: dict[str, None] = {}
        self._least_bytes = 0
        self.added = 0
        remove_unfinished(path)
        self._read()
        self._compact(now_ms)

    # ------------------------------------------------------------ alerts

    def add(self, found: Sequence[Made]) -> None:
        """Keeps alerts and their marks, in one write. Those that are there already stay as they are."""
        for made in found:
            if made.alert.id in self._made:
                continue
            most = MOST_WAITING if of_callers(made.alert) else 2 * MOST_WAITING
            if made.channels and len(self._waiting) >= most:
                _log.error("too many alerts wait to be delivered; %s is only kept", made.alert.id)
                made = msgspec.structs.replace(made, channels=())
            self._take(made)
            self.added += 1
            self._unwritten.append(made)
        if self._unwritten:
            self._write(sync=True)

    def alert(self, alert_id: str) -> Alert | None:
        found = self._made.get(alert_id)
        return None if found is None else found.alert

    # ------------------------------------------------------------ deliveries

    def waiting(self) -> list[Delivery]:
        """What is on its way, oldest first; nothing that the file does not hold yet, but for faults of recording: a
        full disk is what those tell of, and telling it twice is better than never."""
        made = (one.alert for one in self._unwritten if isinstance(one, Made))
        unwritten = {alert.id for alert in made if alert.kind not in URGENT}
        return [one for one in self._waiting.values() if one.alert_id not in unwritten]

    def tried(self, delivery: Delivery) -> None:
        self._put(delivery)
        self._unwritten.append(Tried(delivery))
        self._write()

    # ------------------------------------------------------------ towards SQL

    def unrecorded(self, most: int) -> tuple[list[Alert], list[Delivery]]:
        """Alerts whose state in SQL may be an older one, with all their deliveries."""
        ids = list(self._unrecorded)[:most]
        alerts = [self._made[one].alert for one in ids if one in self._made]
        wanted = set(ids)
        return alerts, [one for (alert_id, _), one in self._deliveries.items() if alert_id in wanted]

    def recorded(self, alerts: Iterable[Alert], deliveries: Iterable[Delivery]) -> None:
        """SQL has these; what has changed meanwhile is unrecorded still."""
        stale = {one.alert_id for one in deliveries if self._deliveries.get((one.alert_id, one.channel)) != one}
        for alert in alerts:
            if alert.id not in stale:
                self._unrecorded.pop(alert.id, None)

    # ------------------------------------------------------------ the file

    def flush(self, now_ms: int) -> None:
        """Writes what the disk did not take before, and makes the file small when it has grown."""
        if self._unwritten:
            self._write(sync=True)
        elif self._handle >= 0 and os.fstat(self._handle).st_size > max(MOST_BYTES, 2 * self._least_bytes):
            self._compact(now_ms)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self, made: Made) -> None:
        self._made[made.alert.id] = made
        self._mark(made)
        self._unrecorded[made.alert.id] = None
        for channel in made.channels:
            self._put(Delivery(made.alert.id, channel))

    def _put(self, delivery: Delivery) -> None:
        key = delivery.alert_id, delivery.channel
        self._deliveries[key] = delivery
        if delivery.state is DeliveryState.WAITING:
            self._waiting[key] = delivery
        else:
            self._waiting.pop(key, None)
        if delivery.alert_id in self._made:
            self._unrecorded[delivery.alert_id] = None

    def _write(self, sync: bool = False) -> None:
        """Whole lines; with `sync` they are on disk before it returns. A full disk is logged; the lines stay to be
        written. A delivery that power loss takes back is made once more."""
        data = b"".join(_ENCODE(entry) + b"\n" for entry in self._unwritten)
        try:
            if self._handle < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            end = os.fstat(self._handle).st_size
            try:
                if os.write(self._handle, data) != len(data):
                    raise OSError("short write")
                if sync:
                    os.fdatasync(self._handle)
            except OSError:
                os.ftruncate(self._handle, end)
                raise
        except OSError as error:
            _log.error("%s cannot be written, alerts wait: %s", self._path, error)
            return
        self._unwritten.clear()

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigInvalid(
                f"{self._path}: cannot be read ({error.strerror}). Let faregate's user read it"
            ) from error
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line break was never believed
            try:
                entry = _DECODE(line)
            except ValueError as error:  # MsgspecError is one, and so is a byte that is no UTF-8
                _log.error("%s:%d: is not what Faregate wrote, and is left out: %s", self._path, number, error)
                continue
            if isinstance(entry, Made):
                self._take(entry)
            else:
                self._put(entry.delivery)

    def _compact(self, now_ms: int) -> None:
        """Rewrites the file without what nobody needs: marks of windows that are long over, old deliveries."""
        waiting = {alert_id for alert_id, _ in self._waiting}
        old = [one for one, made in self._made.items() if one not in waiting and _is_over(made, now_ms)]
        self._forget([*old, *list(self._made)[: max(0, len(self._made) - MOST_ALERTS)]])
        entries: list[Made | Tried] = list(self._made.values())
        entries += [Tried(one) for one in self._deliveries.values() if one.attempts]
        if not entries and not self._path.exists():
            return
        self.close()
        content = b"".join(_ENCODE(entry) + b"\n" for entry in entries)
        self._least_bytes = len(content)  # also of one that could not be written: not again until it has grown
        try:
            write_whole(self._path, content)
            self._unwritten.clear()
        except OSError as error:
            _log.error("%s cannot be written: %s", self._path, error)

    def _forget(self, alert_ids: Iterable[str]) -> None:
        gone = {alert_id: self._made.pop(alert_id) for alert_id in dict.fromkeys(alert_ids)}
        for alert_id in gone:
            self._unrecorded.pop(alert_id, None)
        self._deliveries = {key: one for key, one in self._deliveries.items() if key[0] in self._made}
        self._waiting = {key: one for key, one in self._waiting.items() if key[0] in self._made}
        places = {made.place for made in gone.values()}
        self.marks.forget(places)
        for made in self._made.values():
            if made.place in places:
                self._mark(made)

    def _mark(self, made: Made) -> None:
        if made.alert.kind in LASTING:
            self.marks.told_at(made.place, made.amount)
        else:
            self.marks.told(made.place, made.share, made.amount)


def of_callers(alert: Alert) -> bool:
    """Whether it is about a user, session or tag: callers can make up any number of those."""
    return any(is_sent(name) for name, _ in alert.scope)


def _is_over(made: Made, now_ms: int) -> bool:
    return 0 < made.until_ms < now_ms and made.alert.created_ms < now_ms - KEEP_MS
