"""What the books hold between records: counters, open holds, open calls, and alarms about contradictions."""

from __future__ import annotations

import msgspec

from gateway.core.records import AttemptEnd, Hold, Void


class Anomaly(msgspec.Struct, frozen=True, array_like=True):
    """A record that contradicts the ones before it: an alarm with the ids to look for. It had no (second) effect.

    `kind` is `hold_twice`, `attempt_unknown`, `attempt_ended_twice`, `record_after_end`, `freed_more_than_held`,
    `call_unknown`, `call_settled_twice`, `settled_with_open_hold` or `corrected_twice`; `detail` names the record.
    """

    kind: str
    ts_ms: int
    call_id: bytes
    attempt_id: bytes
    detail: str


class Counter:
    """What one window of one limit has spent and reserved. `expires_ms` 0 means never."""

    __slots__ = ("expires_ms", "reserved", "spent")

    def __init__(self, expires_ms: int = 0, spent: int = 0, reserved: int = 0) -> None:
        self.expires_ms = expires_ms
        self.spent = spent
        self.reserved = reserved


class OpenHold:
    """An attempt between its HOLD and its end. `remaining` is what is still reserved, per counter.

    `bound_nusd` is the hold's bound as last shrunk. The tokens are the last PROGRESS's; 0 before the first.
    """

    __slots__ = ("bound_nusd", "call_id", "dispatched", "hold", "input_tokens", "output_tokens", "remaining")

    def __init__(self, call_id: bytes, hold: Hold) -> None:
        self.call_id = call_id
        self.hold = hold
        self.bound_nusd = hold.bound_nusd
        self.dispatched = False
        self.input_tokens = 0
        self.output_tokens = 0
        remaining: dict[str, int] = {}
        for take in hold.takes:
            name = take.counter
            remaining[name] = remaining[name] + take.amount if name in remaining else take.amount
        self.remaining = remaining


class OpenCall:
    """A call between its first HOLD and its SETTLE, with what a SETTLE after a crash needs.

    `hold` is its latest one, `ends` its ended attempts in order, `running` how many have not ended.
    """

    __slots__ = ("attempts", "ends", "hold", "running")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.attempts = 1
        self.running = 1
        self.ends: list[AttemptEnd | Void] = []

    def has_ended(self, attempt_id: bytes) -> bool:
        return any(end.attempt_id == attempt_id for end in self.ends)
