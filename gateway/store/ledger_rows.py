"""Journal entries as table rows. Pure: no SQL, no clock.

Which record contributes what to a rollup is decided here and nowhere else: SETTLE counts the call (errors, refusals,
duration), a posting counts the attempt, its tokens and its money where it is priced, so a retry's cost is there. Both
are keyed by the hour in which the call began, a posting under the dimensions of its HOLD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.charge import CostState, Line
from gateway.core.records import AttemptEnd, Entry, Hold, Settle, Void
from gateway.ledger.estimate import total_nusd

HOUR_MS = 3_600_000
MOST_BIG = 2**63 - 1
NAME_BYTES = 256
"""Longest text that an index or a rollup's key holds, in UTF-8; the rest is cut off. PostgreSQL takes keys of 2 700."""
_SHORT_CHARACTERS = NAME_BYTES // 4
ERROR_OUTCOMES = frozenset({"error", "truncated", "crashed"})
REFUSED = "refused"
RUNNING = "running"
UNKNOWN_MODEL_CODE = "model_not_found"
"""Such a call's model is whatever the caller wrote: its rollup has no model, or callers would decide its size."""

Row = dict[str, Any]


class Dimensions(NamedTuple):
    """A rollup's key, in the order of its primary key: rows are written sorted, so that writers never deadlock."""

    org: str
    hour_ms: int
    team: str
    key_id: str
    model: str
    provider: str
    deployment: str
    endpoint: str


class Sums:
    """Rollup amounts to add, by dimensions."""

    FIELDS = (
        "calls",
        "errors",
        "refused",
        "unpriced_calls",
        "duration_us",
        "attempts",
        "input_tokens",
        "output_tokens",
        "list_nusd",
        "effective_nusd",
        "estimated_nusd",
    )

    def __init__(self) -> None:
        self._sums: dict[Dimensions, list[int]] = {}

    def add_call(self, row: Row) -> None:
        sums = self._of(call_dimensions(row))
        outcome = row["outcome"]
        sums[0] += 1
        sums[1] += outcome in ERROR_OUTCOMES
        sums[2] += outcome == REFUSED
        sums[3] += row["cost_state"] == CostState.UNPRICED
        sums[4] += max(row["duration_us"], 0)

    def add_posting(self, row: Row, dimensions: Dimensions) -> None:
        sums = self._of(dimensions)
        sums[5] += row["kind"] == "attempt"
        sums[6] += row["input_tokens"]
        sums[7] += row["output_tokens"]
        listed, effective = row["list_nusd"], row["effective_nusd"]
        if listed is None or effective is None:
            return  # unpriced: counted with its call, never added as 0 or in part
        sums[8] += listed
        sums[9] += effective
        if row["state"] == CostState.ESTIMATED:
            sums[10] += effective

    def rows(self) -> list[Row]:
        return [
            {**dimensions._asdict(), **dict(zip(self.FIELDS, sums, strict=True))}
            for dimensions, sums in sorted(self._sums.items())
        ]

    def _of(self, dimensions: Dimensions) -> list[int]:
        found = self._sums.get(dimensions)
        if found is None:
            found = self._sums[dimensions] = [0] * len(self.FIELDS)
        return found


def hour_of(time_ms: int) -> int:
    return time_ms - time_ms % HOUR_MS


def call_dimensions(row: Row) -> Dimensions:
    """Where a settled call is counted."""
    return Dimensions(
        row["org"],
        hour_of(row["started_ms"]),
        row["team"],
        row["key_id"],
        "" if row["error_code"] == UNKNOWN_MODEL_CODE else row["model_asked"],
        row["provider"],
        row["deployment"],
        row["endpoint"],
    )


def attempt_dimensions(row: Mapping[str, Any]) -> Dimensions:
    """Where an attempt's postings are counted, from its HOLD."""
    return Dimensions(
        row["org"],
        hour_of(row["started_ms"]),
        row["team"],
        row["key_id"],
        row["model_asked"],
        row["provider"],
        row["deployment"],
        row["endpoint"],
    )


def clean(text: str) -> str:
    """Text as both databases take it: PostgreSQL has no NUL. A caller must not be able to keep a record out of SQL."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def name(text: str) -> str:
    """Text that is indexed: clean and at most NAME_BYTES long."""
    if len(text) <= _SHORT_CHARACTERS and "\x00" not in text:
        return text
    return clean(text).encode()[:NAME_BYTES].decode(errors="ignore")


def json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def attempt_row(entry: Entry, hold: Hold) -> Row:
    return {
        "attempt_id": hold.attempt_id,
        "call_id": entry.call_id,
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "number": hold.attempt_no,
        "held_ms": hold.ts_ms,
        "started_ms": hold.started_ms,
        "org": name(hold.org),
        "team": name(hold.team),
        "key_id": name(hold.key_id),
        "endpoint": name(hold.endpoint),
        "model_asked": name(hold.model_asked),
        "provider": name(hold.provider),
        "deployment": name(hold.deployment),
        "model": name(hold.model),
        "bound_nusd": hold.bound_nusd,
        "input_estimate": hold.input_estimate,
        "config_revision": hold.config_revision,
    }


def running_row(entry: Entry, hold: Hold) -> Row:
    """A call of which only the first HOLD is known."""
    return {
        "call_id": entry.call_id,
        "journal_id": None,
        "seq": None,
        "started_ms": hold.started_ms,
        "ended_ms": None,
        "org": name(hold.org),
        "team": name(hold.team),
        "key_id": name(hold.key_id),
        "end_user": name(hold.user),
        "session": name(hold.session),
        "tags": json_text(dict(hold.tags)),
        "endpoint": name(hold.endpoint),
        "stream": hold.stream,
        "model_asked": name(hold.model_asked),
        "model_planned": name(hold.model),
        "model_served": "",
        "deployment": name(hold.deployment),
        "provider": name(hold.provider),
        "outcome": RUNNING,
        "status": 0,
        "error_code": "",
        "finish_reason": "",
        "refusal": False,
        "attempts": hold.attempt_no,
        "causes": "[]",
        "cost_state": "",
        "list_nusd": None,
        "effective_nusd": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "ttft_us": -1,
        "duration_us": -1,
        "overhead_us": -1,
        "config_revision": hold.config_revision,
        "verdicts": "[]",
        "features": "{}",
        "row_ids": "[]",
        "raw_usage": b"",
        "trace_id": b"",
        "span_id": b"",
        "parent_span_id": b"",
        "prompt": "",
        "prompt_version": "",
        "experiment": "",
        "variant": "",
        "purpose": "",
        "client_retry": 0,
    }


def call_row(entry: Entry, settle: Settle) -> Row:
    """A call that has ended."""
    return {
        "call_id": entry.call_id,
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "started_ms": settle.started_ms,
        "ended_ms": settle.ts_ms,
        "org": name(settle.org),
        "team": name(settle.team),
        "key_id": name(settle.key_id),
        "end_user": name(settle.user),
        "session": name(settle.session),
        "tags": json_text(dict(settle.tags)),
        "endpoint": name(settle.endpoint),
        "stream": settle.stream,
        "model_asked": name(settle.model_asked),
        "model_planned": name(settle.model_planned),
        "model_served": name(settle.model_served),
        "deployment": name(settle.deployment),
        "provider": name(settle.provider),
        "outcome": clean(settle.outcome),
        "status": settle.status,
        "error_code": clean(settle.error_code),
        "finish_reason": clean(settle.finish_reason),
        "refusal": settle.refusal,
        "attempts": settle.attempts,
        "causes": json_text(settle.causes),
        "cost_state": clean(settle.cost_state),
        "list_nusd": settle.list_nusd,
        "effective_nusd": settle.effective_nusd,
        "input_tokens": settle.input_tokens,
        "output_tokens": settle.output_tokens,
        "ttft_us": settle.ttft_us,
        "duration_us": settle.duration_us,
        "overhead_us": settle.overhead_us,
        "config_revision": settle.config_revision,
        "verdicts": json_text(settle.verdicts),
        "features": json_text(msgspec.structs.asdict(settle.features)),
        "row_ids": json_text(settle.row_ids),
        # An attempt's posting holds it already; a cache hit has no attempt.
        "raw_usage": settle.raw_usage if settle.attempts == 0 else b"",
        "trace_id": settle.trace_id,
        "span_id": settle.span_id,
        "parent_span_id": settle.parent_span_id,
        "prompt": clean(settle.prompt),
        "prompt_version": clean(settle.prompt_version),
        "experiment": clean(settle.experiment),
        "variant": clean(settle.variant),
        "purpose": clean(settle.purpose),
        "client_retry": settle.client_retry,
    }


def posting_row(entry: Entry, end: AttemptEnd) -> Row:
    return {
        "attempt_id": end.attempt_id,
        "kind": clean(end.kind),
        "revision": end.revision,
        "call_id": entry.call_id,
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "posted_ms": end.ts_ms,
        "outcome": clean(end.outcome),
        "cause": clean(end.cause),
        "status": end.status,
        "state": clean(end.state),
        "source": clean(end.source),
        "list_nusd": end.list_nusd,
        "effective_nusd": end.effective_nusd,
        "input_tokens": end.input_tokens,
        "output_tokens": end.output_tokens,
        "reasoning_tokens": end.reasoning_tokens,
        "raw_usage": end.raw_usage,
        "served_tier": clean(end.served_tier),
        "model_served": clean(end.model_served),
        "finish_reason": clean(end.finish_reason),
        "upstream_id": clean(end.upstream_id),
        "ttft_us": end.ttft_us,
        "duration_us": end.duration_us,
        "reported_nusd": end.reported_nusd,
    }


def void_row(entry: Entry, void: Void) -> Row:
    """An attempt that never started ends like any other, with nothing posted."""
    return {
        "attempt_id": void.attempt_id,
        "kind": "attempt",
        "revision": 0,
        "call_id": entry.call_id,
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "posted_ms": void.ts_ms,
        "outcome": "void",
        "cause": clean(void.cause),
        "status": 0,
        "state": CostState.PRICED.value,
        "source": "none",
        "list_nusd": 0,
        "effective_nusd": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "raw_usage": b"",
        "served_tier": "",
        "model_served": "",
        "finish_reason": "",
        "upstream_id": "",
        "ttft_us": -1,
        "duration_us": -1,
        "reported_nusd": None,
    }


def line_rows(posting: Row, lines: tuple[Line, ...]) -> list[Row]:
    return [
        {
            "attempt_id": posting["attempt_id"],
            "kind": posting["kind"],
            "revision": posting["revision"],
            "line_no": number,
            "journal_id": posting["journal_id"],
            "seq": posting["seq"],
            "meter": clean(line.meter),
            "quantity": line.quantity,
            "rate_pico": line.rate_pico,
            "per": line.per,
            "list_nusd": line.list_nusd,
            "effective_nusd": line.effective_nusd,
            "row_id": clean(line.row_id),
        }
        for number, line in enumerate(lines)
    ]


def total_fault(end: AttemptEnd) -> str:
    """What is wrong with a posting's totals, or empty: each is the sum of the lines, None as soon as one of them is.

    Usage without a price may also have no lines at all: then the totals are None.
    """
    if not end.lines and end.state == CostState.UNPRICED and end.effective_nusd is None:
        return ""
    for word, total, amounts in (
        ("effective_nusd", end.effective_nusd, [line.effective_nusd for line in end.lines]),
        ("list_nusd", end.list_nusd, [line.list_nusd for line in end.lines]),
    ):
        expected = total_nusd(amounts)
        if total != expected:
            return f"{word} is {total}, its lines make {expected}"
    return ""
