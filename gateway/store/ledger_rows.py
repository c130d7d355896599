"""Journal entries as table rows. Pure: no SQL, no clock."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.charge import CostState, Line
from gateway.core.limits import Take, Unit
from gateway.core.records import AttemptEnd, Correct, Entry, Hold, Settle, Void
from gateway.ledger.estimate import total_nusd

HOUR_MS = 3_600_000
MOST_BIG = 2**63 - 1
NAME_BYTES = 256
"""Longest text that an index or a rollup's key holds, in UTF-8; the rest is cut off. PostgreSQL takes keys of 2 700."""
_SHORT_CHARACTERS = NAME_BYTES // 4
RUNNING = "running"
CORRECTED = "corrected"
"""The outcome of a posting that corrects an attempt."""

Row = dict[str, Any]


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
        "summed_by": None,
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
        "counted_ms": None,
        "summed_by": None,
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
        "counted_ms": None,
        "summed_by": None,
    }


POSTING_DETAILS = ("billed_nusd", "region", "unknown_usage", "counted_ms", "priced_calls", "correction_id")
LINE_DETAILS = ("billed_nusd", "uplift_ppm", "part", "currency", "native_nano")
"""What only few rows have. A row has all of them or lacks them: then they are NULL."""


def posting_row(entry: Entry, end: AttemptEnd) -> Row:
    row = {
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
        "takes": packed_takes(end.posted),
    }
    if end.billed_nusd is not None or end.region or end.unknown_usage:
        row["billed_nusd"] = _own_billed(end.billed_nusd, end.effective_nusd)
        row["region"] = clean(end.region) or None
        row["unknown_usage"] = json_text(end.unknown_usage) if end.unknown_usage else None
    return row


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
        "takes": b"",
    }


def correction_row(entry: Entry, correct: Correct) -> Row:
    """A posting whose amounts are differences. Of the attempt's usage nothing is repeated."""
    return {
        "attempt_id": correct.attempt_id,
        "kind": clean(correct.kind),
        "revision": correct.revision,
        "call_id": entry.call_id,
        "journal_id": entry.journal_id,
        "seq": entry.seq,
        "posted_ms": correct.ts_ms,
        "outcome": CORRECTED,
        "cause": clean(correct.reason),
        "status": 0,
        "state": clean(correct.state),
        "source": clean(correct.source),
        "list_nusd": correct.list_nusd,
        "effective_nusd": correct.effective_nusd,
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
        "billed_nusd": _own_billed(correct.billed_nusd, correct.effective_nusd),
        "takes": packed_takes(correct.takes),
        "priced_calls": correct.priced_calls or None,
        "correction_id": correct.correction_id or None,
    }


def packed_takes(takes: tuple[Take, ...]) -> bytes:
    """The counters of money among `takes`, with what each has spent: all that a later correction has to know.

    msgpack of [counter, amount, expires_ms, limit id]; a counter's name begins with its limit's id, which is then left
    out. Empty: there are none. (NULL in SQL: an older version wrote the row, and nobody knows.)
    """
    kept = [
        (
            take.counter,
            take.amount,
            take.expires_ms,
            "" if take.counter.startswith(f"{take.limit_id}|") else take.limit_id,
        )
        for take in takes
        if take.unit is Unit.USD
    ]
    return _PACK(kept) if kept else b""


def unpacked_takes(packed: bytes | None) -> tuple[Take, ...]:
    """What `packed_takes` has kept."""
    if not packed:
        return ()
    return tuple(
        Take(counter, limit_id or counter.partition("|")[0], Unit.USD, amount, expires_ms)
        for counter, amount, expires_ms, limit_id in _UNPACK(packed)
    )


_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(list[tuple[str, int, int, str]]).decode


def _own_billed(billed_nusd: int | None, effective_nusd: int | None) -> int | None:
    """NULL where it is as effective."""
    return None if billed_nusd == effective_nusd else billed_nusd


def line_rows(posting: Row, lines: tuple[Line, ...]) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(lines):
        row = {
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
        if line.own_billed_nusd is not None or line.uplift_ppm or line.part or line.currency:
            row["billed_nusd"] = _own_billed(line.own_billed_nusd, line.effective_nusd)
            row["uplift_ppm"] = line.uplift_ppm or None
            row["part"] = clean(line.part) or None
            row["currency"] = clean(line.currency) or None
            row["native_nano"] = line.native_nano
        rows.append(row)
    return rows


def total_fault(end: AttemptEnd | Correct) -> str:
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
    if end.billed_nusd is not None:
        expected = total_nusd([line.billed_nusd for line in end.lines])
        if end.billed_nusd != expected:
            return f"billed_nusd is {end.billed_nusd}, its lines make {expected}"
    return ""
