"""What a dead worker could not write any more: the records that end its attempts and calls, each once.

Append what this returns to the dead journal, apply it to the books, and seal the journal. Dying half-way is harmless:
the next adopter reads what was appended, and only the rest is returned.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.core.charge import CostState
from gateway.core.records import AnyRecord, AttemptEnd, Features, Settle, Void
from gateway.ledger.estimate import estimated_end, total_nusd
from gateway.ledger.fold import Books
from gateway.ledger.standing import OpenCall, OpenHold

CRASHED = "crashed"
CAUSE = "worker_crashed"


def closing_records(
    books: Books, ts_ms: int, *, calls: Collection[bytes] | None = None
) -> list[tuple[bytes, AnyRecord]]:
    """(call id, record) in the order to append them. Changes nothing in `books`.

    Books folded from several journals hold living workers' calls too: `calls` then names the dead journal's. None
    ends every open call.

    A dispatched hold may have cost something and ends estimated; one not dispatched is voided. Then its call is
    settled with outcome `crashed`.
    """
    by_call: dict[bytes, list[OpenHold]] = {}
    for hold in books.holds.values():
        if calls is not None and hold.call_id not in calls:
            continue
        by_call.setdefault(hold.call_id, []).append(hold)
    records: list[tuple[bytes, AnyRecord]] = []
    for call_id, call in books.calls.items():
        if calls is not None and call_id not in calls:
            continue
        ends = [_end(hold, ts_ms) for hold in _in_order(by_call.pop(call_id, []))]
        records.extend((call_id, end) for end in ends)
        records.append((call_id, _settle(call, ends, ts_ms)))
    for call_id, holds in by_call.items():  # settled before its attempt ended: the alarm is the fold's
        records.extend((call_id, _end(hold, ts_ms)) for hold in _in_order(holds))
    return records


def _in_order(holds: list[OpenHold]) -> list[OpenHold]:
    return sorted(holds, key=lambda hold: hold.hold.attempt_no)


def _end(hold: OpenHold, ts_ms: int) -> AttemptEnd | Void:
    if hold.dispatched:
        return estimated_end(hold, ts_ms=ts_ms, outcome=CRASHED, cause=CAUSE)
    return Void(ts_ms, hold.hold.attempt_id, CAUSE)


def _settle(call: OpenCall, closing: list[AttemptEnd | Void], ts_ms: int) -> Settle:
    hold = call.hold
    every = [*call.ends, *closing]
    ends = [end for end in every if isinstance(end, AttemptEnd)]
    last = ends[-1] if ends else None
    states = {end.state for end in ends}
    state = next((s for s in (CostState.UNPRICED, CostState.ESTIMATED) if s in states), CostState.PRICED)
    return Settle(
        ts_ms=ts_ms,
        attempt_id=hold.attempt_id,
        started_ms=hold.started_ms,
        org=hold.org,
        team=hold.team,
        key_id=hold.key_id,
        user=hold.user,
        session=hold.session,
        tags=hold.tags,
        config_revision=hold.config_revision,
        verdicts=(),
        features=Features(input_estimate=hold.input_estimate),
        endpoint=hold.endpoint,
        stream=hold.stream,
        model_asked=hold.model_asked,
        model_planned=hold.model,
        model_served=last.model_served if last is not None else "",
        deployment=hold.deployment,
        provider=hold.provider,
        attempts=call.attempts,
        causes=tuple(end.cause for end in every if end.cause),
        outcome=CRASHED,
        status=0,
        error_code=CAUSE,
        finish_reason=last.finish_reason if last is not None else "",
        refusal=False,
        ttft_us=last.ttft_us if last is not None else -1,
        duration_us=-1,
        overhead_us=-1,
        cost_state=state.value,
        list_nusd=total_nusd([end.list_nusd for end in ends]),
        effective_nusd=total_nusd([end.effective_nusd for end in ends]),
        input_tokens=sum(end.input_tokens for end in ends),
        output_tokens=sum(end.output_tokens for end in ends),
        row_ids=tuple(dict.fromkeys(line.row_id for end in ends for line in end.lines if line.row_id)),
        raw_usage=last.raw_usage if last is not None else b"",
        trace_id=b"",
        span_id=b"",
    )
