"""The ports: what flow and the processes ask of the world. `app` injects implementations; tests inject fakes.

Every method says what it raises. Nothing here is asynchronous unless it really waits for something outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.core.call import AnswerHead, Head
from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import KeyDelta, Policy
from gateway.core.limits import Blocked, Want
from gateway.core.records import AnyRecord
from gateway.core.surfaces import Outgoing as Outgoing
from gateway.core.surfaces import StatefulSurface as StatefulSurface
from gateway.core.surfaces import StreamTap as StreamTap
from gateway.core.surfaces import Surface as Surface
from gateway.core.surfaces import Wire as Wire
from gateway.core.verdict import Verdict


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, ms UTC."""
        ...

    def monotonic_ns(self) -> int: ...


class Entropy(Protocol):
    def bytes(self, count: int) -> bytes:
        """Chance from the operating system."""
        ...


# ---------------------------------------------------------------- journal and limits


class Journal(Protocol):
    """An append-only log of one process. `append` is synchronous: a record is in the kernel when it returns."""

    @property
    def journal_id(self) -> bytes: ...

    @property
    def ready(self) -> bool:
        """False after two sync failures in a row, or while the disk takes no new calls."""
        ...

    def append(self, record: AnyRecord, call_id: bytes) -> int:
        """The record's seq. Raises UsageLogUnavailable for an admitting type while the disk is full or failing, and
        HandedOver for one after a HANDOVER; every other type is still taken, from the reserved file."""
        ...

    def append_all(self, records: Sequence[AnyRecord], call_id: bytes) -> tuple[int, int]:
        """Several records of one call in one write: (the last one's seq, how many were taken). Raises as `append`, and
        only when none was taken; a PROGRESS that is shed counts as not taken."""
        ...

    async def synced(self, seq: int) -> None:
        """Returns when everything up to `seq` has survived fdatasync (`durability = power` waits for it)."""
        ...

    def close(self) -> None: ...


class LimitEngine(Protocol):
    """Counters and open holds: a fold over records. Check, append, apply follow each other without an await."""

    def check(self, wants: Sequence[Want]) -> Blocked | None:
        """The first enforced limit the wants do not fit into (spent-exceeding ones first), or None. Raises HandedOver
        once another worker admits in this one's place."""
        ...

    @property
    def overran(self) -> tuple[str, ...]:
        """Of the wants checked last, the ids of limits that refuse nothing and had no room."""
        ...

    def granted(self, overran: Iterable[str]) -> None:
        """A call was let in that these limits would have refused: they are counted, once a call."""
        ...

    def count(self, wants: Sequence[Want]) -> None:
        """Spends the wants' takes at once, before any record of them: the counts a call is admitted with. `apply` then
        passes over the `counts` of HOLD and SETTLE, which are for the refold after a crash."""
        ...

    def apply(self, record: AnyRecord, call_id: bytes) -> None:
        """Folds a record that has been appended, and wakes waiters whose counter was freed."""
        ...

    async def freed(self, wants: Sequence[Want], timeout_s: float, sent_away: int = 0) -> bool:
        """Waits, first come first served, until the wants may fit or one is exceeded by spending; False on time-out.
        A call that was `sent_away` before stands in front of those that were less often. The caller checks again: True
        is a hint, not a grant."""
        ...

    def standing(self, counter: str) -> tuple[int, int]:
        """(spent, reserved) of a counter."""
        ...

    def spent(self, counters: Sequence[str]) -> int:
        """What several counters have spent together."""
        ...

    def used(self, counters: Sequence[str]) -> int:
        """What several counters have spent and hold together: what another call would find taken."""
        ...

    def open_holds(self) -> int: ...


# ---------------------------------------------------------------- configuration


class KeyRing(Protocol):
    """All keys of the gateway, in memory."""

    @property
    def fresh_ms(self) -> int:
        """When the configuration was last known to be current, ms UTC."""
        ...

    def find(self, presented: str, now_ms: int) -> KeyRecord | None:
        """The record of a presented key whose hash matches, in constant time; None when there is none. Expired and
        paused keys are returned: the caller of this port says why they are refused."""
        ...

    def apply(self, deltas: Sequence[KeyDelta], fresh_ms: int) -> None: ...


class Configuration(Protocol):
    """The two layers a worker holds."""

    @property
    def policy(self) -> Policy: ...

    @property
    def keys(self) -> KeyRing: ...

    def credential(self, reference: str) -> str:
        """The secret behind `env:NAME` or `file:/path`, empty for an empty reference. Raises ConfigInvalid."""
        ...


# ---------------------------------------------------------------- the caller's side


class Disconnect(Protocol):
    """Tells whether the caller has gone away, without the path knowing how."""

    @property
    def gone(self) -> bool: ...

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Calls back once, in the event loop, when the caller goes; at once when it has gone already."""
        ...

    def forget(self) -> None:
        """Drops the callback."""
        ...


class Exchange(Protocol):
    """One HTTP exchange with the caller. `start` is called at most once, `finish` ends the answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, lower-case; of repeated ones the first."""
        ...

    @property
    def received_ns(self) -> int: ...

    @property
    def disconnect(self) -> Disconnect: ...

    @property
    def started(self) -> bool: ...

    async def body(self) -> bytes:
        """The whole body. Raises UnsupportedMediaType, BodyTooLarge, BadRequest, RequestTimeout."""
        ...

    async def start(self, head: AnswerHead) -> None: ...

    async def write(self, data: bytes) -> None:
        """Waits while the caller reads slowly. A caller that has gone is written nothing, silently."""
        ...

    async def finish(self, data: bytes = b"") -> None: ...


# ---------------------------------------------------------------- the steps that later features join


class Guard(Protocol):
    """A policy on the final text and the model asked for. Members live in `policies/`."""

    @property
    def name(self) -> str: ...

    def check(self, caller: Caller, head: Head, body: bytes, policy: Policy) -> Verdict:
        """`policy` is the configuration this call sees."""
        ...


class Composed(msgspec.Struct, frozen=True):
    """A call's body after prompt and variables, with what is recorded of them."""

    body: bytes
    head: Head
    prompt: str = ""
    prompt_version: str = ""
    experiment: str = ""
    variant: str = ""


class Composer(Protocol):
    """Turns a prompt reference and variables into messages. Raises BadRequest, NotFound before any spend."""

    def compose(self, caller: Caller, body: bytes, head: Head) -> Composed: ...


class Recall(Protocol):
    """The exact cache: a stored answer for a composed call, or None to go on."""

    async def find(self, caller: Caller, composed: Composed) -> bytes | None: ...


# ---------------------------------------------------------------- metrics


class Metrics(Protocol):
    """What the path counts as it goes; labels are bounded by configuration, never by callers."""

    def call_ended(
        self,
        endpoint: str,
        model: str,
        deployment: str,
        outcome: str,
        status: int,
        effective_nusd: int | None,
        input_tokens: int,
        output_tokens: int,
        duration_us: int,
        overhead_us: int,
        ttft_us: int,
    ) -> None: ...

    def refused_before_identified(self, code: str) -> None: ...

    def hold_settled(self, deployment: str, bound_nusd: int, effective_nusd: int) -> None:
        """An attempt whose cost is known ended; `bound_nusd` is its hold as last shrunk."""
        ...

    def hold_shrunk(self, deployment: str) -> None: ...

    def overshot(self, limit_id: str, nusd: int) -> None:
        """A limit that holds estimates was taken so much beyond its amount."""
        ...

    def call_changed(self, limit_id: str, action: str) -> None:
        """A limit changed a call instead of refusing it: `downgrade` or `cap_output`."""
        ...

    def usage_unknown(self, deployment: str, members: int) -> None:
        """A provider's usage had so many members that no reader knows."""
        ...

    def cost_compared(self, deployment: str, gap: bool) -> None:
        """A provider said what an attempt cost; `gap`: it is more than 1 % from what our prices say."""
        ...

    def tag_missing(self, tag: str, refused: bool) -> None:
        """A call lacked a tag that its team must send."""
        ...
