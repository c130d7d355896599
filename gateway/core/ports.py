"""The ports: what flow and the processes ask of the world. `app` injects implementations; tests inject fakes.

Every method says what it raises. Nothing here is asynchronous unless it really waits for something outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.core.call import AnswerHead, Head, ReplyFacts
from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import KeyDelta, Policy
from gateway.core.errors import FaregateError
from gateway.core.limits import Blocked, Want
from gateway.core.quirks import PLAIN, ErrorFacts, Quirks
from gateway.core.records import AnyRecord
from gateway.core.usage import Usage
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


# ---------------------------------------------------------------- dialects


class StreamTap(Protocol):
    """Reads an upstream event stream as its bytes go by.

    Feed it every chunk; what it returns may go to the caller at once. The terminal event (`[DONE]`) is kept back in
    `terminal` until the call is settled. Fields grow as events arrive.
    """

    usage: Usage | None
    model_served: str
    finish_reason: str
    refusal: bool
    upstream_id: str
    output_bytes: int
    events: int
    terminal: bytes
    error: str
    reported_nusd: int | None

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay now. Raises UpstreamInvalidReply for a line over 4 MiB."""
        ...

    def finish(self) -> bytes:
        """What is left when the upstream has ended: a final event without its blank line."""
        ...

    @property
    def unmetered_bytes(self) -> int:
        """Of `output_bytes`, those that came after the last usage: what it cannot know of. 0 while there is none."""
        ...

    @property
    def complete(self) -> bool:
        """True when the stream ended as its protocol says it must (a finish reason or the terminal event)."""
        ...


Outgoing = tuple[bytes, tuple[str, ...]]
"""A body as it is sent, and the caller's members that were left out of it (`messages.…` for those inside messages)."""


class Wire(Protocol):
    """How an attempt speaks to a provider for its caller: the caller's surface itself where the provider serves that,
    else a translation into one that it does serve. The caller's side of it is always in the caller's dialect."""

    @property
    def name(self) -> str:
        """The surface spoken upstream: `chat.completions`."""
        ...

    @property
    def upstream_path(self) -> str:
        """Appended to a provider's base URL: `/chat/completions`."""
        ...

    @property
    def upstream_headers(self) -> tuple[tuple[str, str], ...]:
        """What a request needs besides the headers of the provider's row."""
        ...

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        """The caller's body as sent upstream: the model's name replaced, usage asked for, what `quirks` says. Where it
        is not translated every other byte sequence is kept, and the very same object returned if nothing has to change.
        Raises BadRequest for what cannot be said upstream and must not be left out."""
        ...

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """The caller's body with the output limit set to `tokens` a choice, every other member as it came. None where
        a provider with these quirks would not be told it, so that nothing would be limited."""
        ...

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        """Raises UpstreamInvalidReply when a 200's body is not the upstream surface's."""
        ...

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        """The whole reply that `read_reply` accepted, as the caller gets it."""
        ...

    def read_error(self, status: int, body: bytes) -> ErrorFacts:
        """What an upstream error reply says, whatever its shape. Never raises."""
        ...

    def caller_error(self, status: int, body: bytes) -> bytes:
        """The provider's refusal (4xx) as the caller gets it. Never raises."""
        ...

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> StreamTap: ...


class Surface(Wire, Protocol):
    """One endpoint of one dialect: how to read, rewrite and answer it. Members live in `dialects/`."""

    @property
    def name(self) -> str:
        """`chat.completions`: the endpoint as records and pages name it."""
        ...

    @property
    def dialect(self) -> str: ...

    @property
    def id_headers(self) -> tuple[bytes, ...]:
        """The headers in which the dialect's SDKs look for the call's id."""
        ...

    def read_head(self, body: bytes) -> Head:
        """Raises BadRequest (malformed JSON, wrong types, too deep) with `param` where one is at fault."""
        ...

    def error_body(self, error: FaregateError) -> bytes: ...

    def stream_error(self, error: FaregateError) -> bytes:
        """An in-band error event; the stream then ends without its terminal event."""
        ...

    def heartbeat(self) -> bytes: ...

    def usage_comment(self, cost_usd: str | None, cost_state: str, call_id: str) -> bytes:
        """A comment event with the cost (None: unpriced), sent before the terminal event when it was asked for. Empty
        where the dialect's clients would stumble over it."""
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
