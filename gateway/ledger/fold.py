"""The one fold: records in, counters and open holds out. Every projection of money is made by this file.

The worker applies each record it has appended, the bookkeeper and a restart apply the same records as they read
them; the books are equal because the code is. Nothing is dropped silently: what contradicts an earlier record has no
effect and becomes an `Anomaly`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from gateway.core.limits import Take
from gateway.core.records import (
    AnyRecord,
    AttemptEnd,
    Correct,
    Dispatch,
    Handover,
    Hold,
    Progress,
    Settle,
    Shrink,
    Stat,
    Void,
)
from gateway.ledger import checkpoint
from gateway.ledger.standing import Anomaly, Counter, OpenCall, OpenHold

__all__ = ["KEPT_ANOMALIES", "REMEMBERED_CALLS", "Anomaly", "Books", "Counter", "OpenCall", "OpenHold"]

REMEMBERED_CALLS = 8192
"""Settled calls remembered, one to two times this many, so that a second settle or end is told from an unknown one."""
REMEMBERED_CORRECTIONS = 32_768
"""Corrections remembered, so that one that comes twice has no second effect. SQL remembers all of them."""
KEPT_ANOMALIES = 1000
"""Anomalies kept for their reader; `anomaly_count` goes on counting beyond."""

_NEVER = 1 << 62
_NONE: tuple[str, ...] = ()


class Books:
    """Counters, open holds and open calls as of the records applied so far.

    `forget=False` keeps expired counters and every settled call's id: an audit wants all of them, a worker must not
    grow. Not safe for threads.
    """

    __slots__ = (
        "_corrected",
        "_expiries",
        "_next_expiry_ms",
        "_now_ms",
        "_older",
        "_recent",
        "anomalies",
        "anomaly_count",
        "calls",
        "counters",
        "forget",
        "holds",
        "newest_ms",
    )

    def __init__(self, *, forget: bool = True) -> None:
        self.forget = forget
        self.counters: dict[str, Counter] = {}
        self.holds: dict[bytes, OpenHold] = {}
        self.calls: dict[bytes, OpenCall] = {}
        self.newest_ms = 0
        self._now_ms = 0
        self.anomalies: list[Anomaly] = []
        self.anomaly_count = 0
        # Dictionaries as ordered sets, so that equal books have equal dumps.
        self._recent: dict[bytes, None] = {}
        self._older: dict[bytes, None] = {}
        self._corrected: dict[bytes, None] = {}
        self._expiries: list[tuple[int, str]] = []
        self._next_expiry_ms = _NEVER

    def apply(self, record: AnyRecord, call_id: bytes) -> tuple[str, ...]:
        """Folds one record; returns the counters whose reservation fell, or which were corrected.

        A waiter for one of them must look again: there is room, or what was held is spent and the answer is final.
        """
        ts_ms = record.ts_ms
        self._now_ms = ts_ms  # not the newest ever: a clock that was ahead for a while must not end windows to come
        if ts_ms > self.newest_ms:
            self.newest_ms = ts_ms
        if ts_ms > self._next_expiry_ms:
            self._drop_expired()
        return _APPLY[type(record)](self, record, call_id)

    def standing(self, counter: str) -> tuple[int, int]:
        """(spent, reserved) of a counter; (0, 0) of one that does not exist."""
        found = self.counters.get(counter)
        return (0, 0) if found is None else (found.spent, found.reserved)

    def drain_anomalies(self) -> list[Anomaly]:
        """The anomalies since the last call, for whoever raises the alarm."""
        drained, self.anomalies = self.anomalies, []
        return drained

    # ------------------------------------------------------------ one method per record type

    def _hold(self, record: Hold, call_id: bytes) -> tuple[str, ...]:
        attempt_id = record.attempt_id
        call = self.calls.get(call_id)
        if attempt_id in self.holds or self._is_settled(call_id) or (call is not None and call.has_ended(attempt_id)):
            return self._alarm("hold_twice", record, call_id, attempt_id)
        if call is None:
            self.calls[call_id] = OpenCall(record)
        else:
            call.hold = record
            call.attempts += 1
            call.running += 1
        self.holds[attempt_id] = OpenHold(call_id, record)
        counters = self.counters
        for take in record.takes:
            counter = counters.get(take.counter)
            if counter is None:
                counter = self._open_counter(take)
            counter.reserved += take.amount
        if record.counts:
            self._spend(record.counts)
        return _NONE

    def _shrink(self, record: Shrink, call_id: bytes) -> tuple[str, ...]:
        hold = self.holds.get(record.attempt_id)
        if hold is None:
            return self._no_hold("record_after_end", record, call_id, record.attempt_id)
        remaining = hold.remaining
        for take in record.freed:
            held = remaining.get(take.counter, 0)
            freed = take.amount
            if freed > held:
                self._alarm("freed_more_than_held", record, call_id, record.attempt_id)
                freed = held
            if freed:
                remaining[take.counter] = held - freed
                self._release(take.counter, freed)
        bound_nusd = record.bound_nusd
        if bound_nusd is not None and (hold.bound_nusd is None or bound_nusd < hold.bound_nusd):
            hold.bound_nusd = bound_nusd
        return tuple(take.counter for take in record.freed)

    def _dispatch(self, record: Dispatch, call_id: bytes) -> tuple[str, ...]:
        hold = self.holds.get(record.attempt_id)
        if hold is None:
            return self._no_hold("record_after_end", record, call_id, record.attempt_id)
        hold.dispatched = True
        return _NONE

    def _progress(self, record: Progress, call_id: bytes) -> tuple[str, ...]:
        hold = self.holds.get(record.attempt_id)
        if hold is None:
            return self._no_hold("record_after_end", record, call_id, record.attempt_id)
        hold.input_tokens = record.input_tokens
        hold.output_tokens = record.output_tokens
        return _NONE

    def _attempt_end(self, record: AttemptEnd, call_id: bytes) -> tuple[str, ...]:
        hold = self.holds.pop(record.attempt_id, None)
        if hold is None:
            return self._no_hold("attempt_ended_twice", record, call_id, record.attempt_id)
        if record.posted:
            self._spend(record.posted)
        return self._end_hold(hold, record)

    def _void(self, record: Void, call_id: bytes) -> tuple[str, ...]:
        hold = self.holds.pop(record.attempt_id, None)
        if hold is None:
            return self._no_hold("attempt_ended_twice", record, call_id, record.attempt_id)
        return self._end_hold(hold, record)

    def _settle(self, record: Settle, call_id: bytes) -> tuple[str, ...]:
        call = self.calls.pop(call_id, None)
        if call is None:
            if self._is_settled(call_id):
                return self._alarm("call_settled_twice", record, call_id, record.attempt_id)
            if record.attempt_id != call_id:
                self._alarm("call_unknown", record, call_id, record.attempt_id)
        elif call.running:
            self._alarm("settled_with_open_hold", record, call_id, record.attempt_id)
        self._recent[call_id] = None
        if self.forget and len(self._recent) >= REMEMBERED_CALLS:
            self._older, self._recent = self._recent, {}
        if record.counts:
            self._spend(record.counts)
        return _NONE

    def _correct(self, record: Correct, call_id: bytes) -> tuple[str, ...]:
        identity = record.attempt_id + record.revision.to_bytes(8, "big") + record.kind.encode()
        if identity in self._corrected:
            return self._alarm("corrected_twice", record, call_id, record.attempt_id)
        self._corrected[identity] = None
        if self.forget and len(self._corrected) > REMEMBERED_CORRECTIONS:
            del self._corrected[next(iter(self._corrected))]
        self._spend(record.takes)
        return tuple(take.counter for take in record.takes)

    def _nothing(self, record: Stat | Handover, call_id: bytes) -> tuple[str, ...]:
        return _NONE

    # ------------------------------------------------------------ counters

    def _end_hold(self, hold: OpenHold, end: AttemptEnd | Void) -> tuple[str, ...]:
        remaining = hold.remaining
        for name, amount in remaining.items():
            if amount:
                self._release(name, amount)
        call = self.calls.get(hold.call_id)
        if call is not None:
            call.running -= 1
            call.ends.append(end)
        return tuple(remaining)

    def _release(self, name: str, amount: int) -> None:
        counter = self.counters[name]
        counter.reserved -= amount
        if not counter.reserved and 0 < counter.expires_ms < self._now_ms and self.forget:
            del self.counters[name]

    def _spend(self, takes: tuple[Take, ...]) -> None:
        for take in takes:
            counter = self.counters.get(take.counter)
            if counter is None:
                if 0 < take.expires_ms < self._now_ms and self.forget:
                    continue  # its window has ended and nothing is reserved in it: no decision can read it again
                counter = self._open_counter(take)
            counter.spent += take.amount

    def _open_counter(self, take: Take) -> Counter:
        counter = self.counters[take.counter] = Counter(take.expires_ms)
        if take.expires_ms:
            heappush(self._expiries, (take.expires_ms, take.counter))
            self._next_expiry_ms = self._expiries[0][0]
        return counter

    def _drop_expired(self) -> None:
        """Each counter is looked at once, when its time comes; one still reserved is dropped by its last release."""
        expiries = self._expiries
        while expiries and expiries[0][0] < self._now_ms:
            expires_ms, name = heappop(expiries)
            counter = self.counters.get(name)
            if counter is not None and counter.expires_ms == expires_ms and not counter.reserved and self.forget:
                del self.counters[name]
        self._next_expiry_ms = expiries[0][0] if expiries else _NEVER

    # ------------------------------------------------------------ alarms

    def _is_settled(self, call_id: bytes) -> bool:
        return call_id in self._recent or call_id in self._older

    def _no_hold(self, after_end: str, record: AnyRecord, call_id: bytes, attempt_id: bytes) -> tuple[str, ...]:
        call = self.calls.get(call_id)
        ended = self._is_settled(call_id) if call is None else call.has_ended(attempt_id)
        return self._alarm(after_end if ended else "attempt_unknown", record, call_id, attempt_id)

    def _alarm(self, kind: str, record: AnyRecord, call_id: bytes, attempt_id: bytes) -> tuple[str, ...]:
        self.anomaly_count += 1
        if len(self.anomalies) < KEPT_ANOMALIES:
            self.anomalies.append(Anomaly(kind, record.ts_ms, call_id, attempt_id, type(record).__name__))
        return _NONE

    # ------------------------------------------------------------ checkpoint

    def dump(self) -> bytes:
        """Everything, as versioned msgpack. Equal books give equal bytes."""
        image = checkpoint.Image(
            version=checkpoint.CHECKPOINT_VERSION,
            forget=self.forget,
            newest_ms=self.newest_ms,
            counters=[
                checkpoint.CounterImage(name, counter.spent, counter.reserved, counter.expires_ms)
                for name, counter in self.counters.items()
            ],
            holds=[checkpoint.hold_image(hold) for hold in self.holds.values()],
            calls=[checkpoint.call_image(call_id, call) for call_id, call in self.calls.items()],
            recent=list(self._recent),
            older=list(self._older),
            corrected=list(self._corrected),
            anomalies=self.anomalies,
            anomaly_count=self.anomaly_count,
        )
        return checkpoint.encode_image(image)

    @classmethod
    def load(cls, dumped: bytes) -> Books:
        """The books of a dump. Raises JournalUnreadable for another version: fold the journals instead."""
        image = checkpoint.decode_image(dumped)
        books = cls(forget=image.forget)
        books.newest_ms = image.newest_ms
        books.counters = {c.name: Counter(c.expires_ms, c.spent, c.reserved) for c in image.counters}
        books.holds = {held.hold.attempt_id: checkpoint.open_hold(held) for held in image.holds}
        books.calls = {call.call_id: checkpoint.open_call(call) for call in image.calls}
        books._recent = dict.fromkeys(image.recent)
        books._older = dict.fromkeys(image.older)
        books._corrected = dict.fromkeys(image.corrected)
        books.anomalies = image.anomalies
        books.anomaly_count = image.anomaly_count
        books._expiries = [(counter.expires_ms, name) for name, counter in books.counters.items() if counter.expires_ms]
        heapify(books._expiries)
        books._next_expiry_ms = books._expiries[0][0] if books._expiries else _NEVER
        return books


_APPLY: dict[type, Callable[[Books, Any, bytes], tuple[str, ...]]] = {
    Hold: Books._hold,
    Shrink: Books._shrink,
    Dispatch: Books._dispatch,
    Progress: Books._progress,
    AttemptEnd: Books._attempt_end,
    Void: Books._void,
    Settle: Books._settle,
    Correct: Books._correct,
    Stat: Books._nothing,
    Handover: Books._nothing,
}
