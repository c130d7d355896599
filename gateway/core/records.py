"""The journal's record types: what is believed, in the order it was believed.

Payloads are array-like msgpack. Fields are only ever appended, with defaults, so that every older journal can be
read. The call's id is in the record's header. `docs/journal.md` describes the bytes around a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from gateway.core.charge import Line, PinnedRate
from gateway.core.limits import Take


class RecordType(IntEnum):
    HOLD = 1
    SHRINK = 2
    DISPATCH = 3
    PROGRESS = 4
    ATTEMPT_END = 5
    VOID = 6
    SETTLE = 7
    CORRECT = 8
    STAT = 9
    HANDOVER = 10


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The base: when it was appended, ms UTC."""

    ts_ms: int


class Hold(Record, frozen=True, array_like=True):
    """A reservation for one attempt, appended before it is believed.

    `takes` are held until the attempt ends; `counts` (of the call's first hold) are spent at once and never given
    back. `bound_nusd` is the proven upper bound of the attempt's cost (None: unpriced). `rates` price an estimate
    if the worker dies.
    """

    attempt_id: bytes
    attempt_no: int
    org: str
    team: str
    key_id: str
    user: str
    session: str
    tags: tuple[tuple[str, str], ...]
    endpoint: str
    model_asked: str
    deployment: str
    provider: str
    model: str
    config_revision: int
    started_ms: int
    takes: tuple[Take, ...]
    counts: tuple[Take, ...]
    bound_nusd: int | None
    input_estimate: int
    rates: tuple[PinnedRate, ...]
    stream: bool = False


class Shrink(Record, frozen=True, array_like=True):
    """Frees part of a hold before the attempt ends. `freed` lists what is given back, per counter."""

    attempt_id: bytes
    freed: tuple[Take, ...]
    bound_nusd: int | None


class Dispatch(Record, frozen=True, array_like=True):
    """The attempt is about to be sent; from here on it may cost something."""

    attempt_id: bytes


class Progress(Record, frozen=True, array_like=True):
    """What has been received so far: each second or 256 output tokens. Later ones replace earlier ones."""

    attempt_id: bytes
    input_tokens: int
    output_tokens: int


class AttemptEnd(Record, frozen=True, array_like=True):
    """Closes one hold and posts that attempt's lines.

    `outcome` is `ok`, `error`, `client_gone`, `lost`, `timeout`, `truncated` or `crashed`. `posted` is what each of
    the hold's counters has spent; a counter of the hold that is not listed spent 0. `state` is a CostState,
    `source` a UsageSource. `kind`/`revision` with the attempt id are the accounting identity of the lines.
    """

    attempt_id: bytes
    outcome: str
    cause: str
    status: int
    posted: tuple[Take, ...]
    lines: tuple[Line, ...]
    state: str
    source: str
    list_nusd: int | None
    effective_nusd: int | None
    raw_usage: bytes
    served_tier: str
    model_served: str
    finish_reason: str
    upstream_id: str
    ttft_us: int
    duration_us: int
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    kind: str = "attempt"
    revision: int = 0
    reported_nusd: int | None = None
    """What the provider itself says the attempt cost, where it does."""
    billed_nusd: int | None = None
    """What the organisation is charged inside; None: as effective (and in records older than agreements)."""
    region: str = ""
    """Where the reply says it was computed, where that changes the price."""
    unknown_usage: tuple[str, ...] = ()
    """Members of the usage that no reader knows."""


class Void(Record, frozen=True, array_like=True):
    """Closes a hold whose attempt provably never started: cost 0."""

    attempt_id: bytes
    cause: str
    detail: str = ""


class Features(msgspec.Struct, frozen=True, array_like=True):
    """What explain, simulate and forecast may know of a call without its text."""

    body_bytes: int = 0
    messages: int = 0
    tools: int = 0
    media: int = 0
    input_estimate: int = 0
    max_output_tokens: int = 0
    choices: int = 1


class Settle(Record, frozen=True, array_like=True):
    """Ends the call and moves no money. `attempt_id` is the last attempt's, or the call's own id when there was none.

    `outcome` is `ok`, `refused`, `error`, `client_gone`, `truncated` or `crashed`. `counts` are the admitted counts
    of a call that was refused before its first hold. Durations are µs; -1 = does not apply.
    """

    attempt_id: bytes
    started_ms: int
    org: str
    team: str
    key_id: str
    user: str
    session: str
    tags: tuple[tuple[str, str], ...]
    config_revision: int
    verdicts: tuple[str, ...]
    features: Features
    endpoint: str
    stream: bool
    model_asked: str
    model_planned: str
    model_served: str
    deployment: str
    provider: str
    attempts: int
    causes: tuple[str, ...]
    outcome: str
    status: int
    error_code: str
    finish_reason: str
    refusal: bool
    ttft_us: int
    duration_us: int
    overhead_us: int
    cost_state: str
    list_nusd: int | None
    effective_nusd: int | None
    input_tokens: int
    output_tokens: int
    row_ids: tuple[str, ...]
    raw_usage: bytes
    trace_id: bytes
    span_id: bytes
    counts: tuple[Take, ...] = ()
    prompt: str = ""
    prompt_version: str = ""
    experiment: str = ""
    variant: str = ""
    purpose: str = "production"
    parent_span_id: bytes = b""
    client_retry: int = 0


class Correct(Record, frozen=True, array_like=True):
    """A correction of one attempt by the bookkeeper: signed amounts per counter, and a further posting of the attempt.

    With `state` it posts: `lines` take back those in force (negative quantities and amounts) and put others in their
    place; the amounts are the sums of the lines, so the difference. `state` and `source` are the attempt's from here
    on. `(attempt_id, kind, revision)` is the accounting identity; revisions count from 1. `priced_calls` is 1 where its
    call has a price from now on and had none before. Without `state` (all older ones) it only moves counters.
    """

    attempt_id: bytes
    revision: int
    takes: tuple[Take, ...]
    reason: str
    kind: str = "rerate"
    lines: tuple[Line, ...] = ()
    state: str = ""
    source: str = ""
    list_nusd: int = 0
    effective_nusd: int = 0
    billed_nusd: int = 0
    priced_calls: int = 0
    correction_id: bytes = b""
    """The run that it is part of."""
    actor: str = ""


class Stat(Record, frozen=True, array_like=True):
    """Counts of refusals before identification, by code, since the last STAT."""

    counts: dict[str, int]


class Handover(Record, frozen=True, array_like=True):
    """This worker admits nothing after this record: another one does, or will. `successor` is reserved."""

    successor: bytes


AnyRecord = Hold | Shrink | Dispatch | Progress | AttemptEnd | Void | Settle | Correct | Stat | Handover

TYPE_OF: dict[type, RecordType] = {
    Hold: RecordType.HOLD,
    Shrink: RecordType.SHRINK,
    Dispatch: RecordType.DISPATCH,
    Progress: RecordType.PROGRESS,
    AttemptEnd: RecordType.ATTEMPT_END,
    Void: RecordType.VOID,
    Settle: RecordType.SETTLE,
    Correct: RecordType.CORRECT,
    Stat: RecordType.STAT,
    Handover: RecordType.HANDOVER,
}
ADMITTING = frozenset({RecordType.HOLD, RecordType.DISPATCH})
"""Types that let new work in: refused when the disk is full, while all others still have the reserved file."""

_DECODERS: dict[RecordType, msgspec.msgpack.Decoder[AnyRecord]] = {
    kind: msgspec.msgpack.Decoder(cls) for cls, kind in TYPE_OF.items()
}


encode_record: Callable[[AnyRecord], bytes] = msgspec.msgpack.Encoder().encode
"""The msgpack payload of a record. Several a call: no frame of ours around it."""


def decode_record(kind: int, payload: bytes | memoryview) -> AnyRecord:
    """The record of a payload. Raises KeyError for a type this version does not know, msgspec errors for bad bytes."""
    return _DECODERS[RecordType(kind)].decode(payload)


class Entry(msgspec.Struct, frozen=True):
    """A record as read back. `(journal_id, seq)` is its delivery identity; `end` the offset after it in `segment`."""

    journal_id: bytes
    seq: int
    call_id: bytes
    record: AnyRecord
    segment: int
    end: int
