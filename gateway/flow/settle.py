"""settle: usage becomes a charge, the charge becomes records. Synchronous, so it happens under cancellation too.

Each attempt ends once: ATTEMPT_END with its lines, or VOID when nothing was sent. Each call ends once: SETTLE, which
moves no money. Both are appended before the last byte of the answer is released.
"""

from __future__ import annotations

from gateway.core.charge import Charge, CostState
from gateway.core.limits import Take, Unit
from gateway.core.records import AttemptEnd, Hold, Settle, Void
from gateway.core.tokens import estimate_tokens
from gateway.core.usage import Usage, UsageSource
from gateway.flow.services import Services
from gateway.flow.state import Attempt, Passage
from gateway.ledger.estimate import estimated_end
from gateway.ledger.fold import OpenHold
from gateway.pricing.arithmetic import charge as price

_NOTHING = Usage(meters={}, source=UsageSource.NONE)
_FREE = Charge(CostState.PRICED, (), 0, 0)
_REFUSED_FROM = 300
"""An attempt answered with an HTTP status from here on delivered nothing and costs nothing, however it ends (ADR 4)."""


def void_attempt(passage: Passage, services: Services, attempt: Attempt, cause: str, detail: str) -> None:
    """Nothing of the attempt reached the provider: the hold is given back, cost 0."""
    record = Void(ts_ms=services.clock.now_ms(), attempt_id=attempt.hold.attempt_id, cause=cause, detail=detail[:500])
    services.journal.append(record, passage.call_id)
    services.limits.apply(record, passage.call_id)
    attempt.ended = True


def end_attempt(passage: Passage, services: Services, attempt: Attempt, outcome: str, cause: str = "") -> None:
    """Appends the attempt's ATTEMPT_END: priced where usage is known, estimated where it should be and is not."""
    usage = attempt.usage
    if usage is None and attempt.status >= _REFUSED_FROM:
        usage = _NOTHING
    now_ns = services.clock.monotonic_ns()
    if usage is None:
        record = _estimated(services, passage, attempt, outcome, cause, now_ns)
    else:
        record = _priced(services, attempt, usage, outcome, cause, now_ns)
    services.journal.append(record, passage.call_id)
    services.limits.apply(record, passage.call_id)
    attempt.ended = True
    attempt.end = record
    bound = attempt.hold.bound_nusd
    if bound is not None and record.effective_nusd is not None:
        services.metrics.hold_settled(bound, record.effective_nusd)


def _priced(services: Services, attempt: Attempt, usage: Usage, outcome: str, cause: str, now_ns: int) -> AttemptEnd:
    hold = attempt.hold
    charge = _FREE if usage is _NOTHING else price(usage, attempt.target.sheet, hold.ts_ms, attempt.requested_tier)
    input_tokens, output_tokens = usage.input_tokens(), usage.output_tokens()
    return AttemptEnd(
        ts_ms=services.clock.now_ms(),
        attempt_id=hold.attempt_id,
        outcome=outcome,
        cause=cause,
        status=attempt.status,
        posted=_posted(hold, charge, input_tokens + output_tokens),
        lines=charge.lines,
        state=charge.state,
        source=usage.source,
        list_nusd=charge.list_nusd,
        effective_nusd=charge.effective_nusd,
        raw_usage=usage.raw,
        served_tier=usage.served_tier,
        model_served=attempt.model_served,
        finish_reason=attempt.finish_reason,
        upstream_id=attempt.upstream_id,
        ttft_us=_first_token_us(attempt),
        duration_us=(now_ns - attempt.started_ns) // 1000,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _posted(hold: Hold, charge: Charge, tokens: int) -> tuple[Take, ...]:
    """What each of the hold's counters has spent. An unpriced reply spends the whole hold: money that cannot be seen is
    not given back to a budget."""
    posted: list[Take] = []
    for take in hold.takes:
        match take.unit:
            case Unit.USD:
                amount = take.amount if charge.effective_nusd is None else charge.effective_nusd
            case Unit.TOKENS:
                amount = tokens
            case Unit.REQUESTS:
                amount = 0
        posted.append(Take(take.counter, take.limit_id, take.unit, amount, take.expires_ms))
    return tuple(posted)


def _estimated(
    services: Services, passage: Passage, attempt: Attempt, outcome: str, cause: str, now_ns: int
) -> AttemptEnd:
    open_hold = OpenHold(passage.call_id, attempt.hold)
    open_hold.dispatched = attempt.dispatched
    open_hold.output_tokens = estimate_tokens(attempt.output_bytes)
    return estimated_end(
        open_hold,
        ts_ms=services.clock.now_ms(),
        outcome=outcome,
        cause=cause,
        status=attempt.status,
        model_served=attempt.model_served,
        finish_reason=attempt.finish_reason,
        upstream_id=attempt.upstream_id,
        ttft_us=_first_token_us(attempt),
        duration_us=(now_ns - attempt.started_ns) // 1000,
    )


def _first_token_us(attempt: Attempt) -> int:
    return (attempt.first_token_ns - attempt.started_ns) // 1000 if attempt.first_token_ns else -1


def end_open_attempts(passage: Passage, services: Services, outcome: str, cause: str) -> None:
    """Ends what is still open: an attempt that may have reached its provider by estimate, any other by VOID."""
    for attempt in passage.attempts:
        if attempt.ended:
            continue
        if attempt.sent:
            end_attempt(passage, services, attempt, outcome, cause)
        else:
            void_attempt(passage, services, attempt, cause, "not sent")


def settle(passage: Passage, services: Services, outcome: str, status: int, error_code: str = "") -> None:
    """Appends the call's SETTLE, once; a second call of this does nothing."""
    if passage.settled:
        return
    passage.settled = True
    clock = services.clock
    duration_us = (clock.monotonic_ns() - passage.received_ns) // 1000
    overhead_us = max(0, duration_us - passage.waited_ns // 1000)
    record = _settle_record(passage, outcome, status, error_code, clock.now_ms(), duration_us, overhead_us)
    passage.last_seq = services.journal.append(record, passage.call_id)
    services.limits.apply(record, passage.call_id)
    services.metrics.call_ended(
        endpoint=record.endpoint,
        model=record.model_asked,
        deployment=record.deployment,
        outcome=outcome,
        status=status,
        effective_nusd=record.effective_nusd,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        duration_us=duration_us,
        overhead_us=overhead_us,
        ttft_us=record.ttft_us,
    )


async def synced(passage: Passage, services: Services) -> None:
    """With `durability = power` nothing final is released before it is on the disk."""
    if services.settings.power:
        await services.journal.synced(passage.last_seq)


def _settle_record(
    passage: Passage, outcome: str, status: int, error_code: str, now_ms: int, duration_us: int, overhead_us: int
) -> Settle:
    key, caller, composed = passage.caller.key, passage.caller, passage.composed
    last = passage.attempts[-1] if passage.attempts else None
    ends = [attempt.end for attempt in passage.attempts if attempt.end is not None]
    return Settle(
        ts_ms=now_ms,
        attempt_id=last.hold.attempt_id if last is not None else passage.call_id,
        started_ms=passage.started_ms,
        org=key.org,
        team=key.team,
        key_id=key.key_id,
        user=caller.user or (composed.head.user if composed is not None else ""),
        session=caller.session,
        tags=caller.tags,
        config_revision=passage.policy.revision,
        verdicts=tuple(passage.verdicts),
        features=passage.features,
        endpoint=passage.surface.name,
        stream=composed is not None and composed.head.stream,
        model_asked=composed.head.model if composed is not None else "",
        model_planned=last.hold.model if last is not None else "",
        model_served=last.model_served if last is not None else "",
        deployment=last.hold.deployment if last is not None else "",
        provider=last.hold.provider if last is not None else "",
        attempts=len(passage.attempts),
        causes=tuple(passage.causes),
        outcome=outcome,
        status=status,
        error_code=error_code,
        finish_reason=last.finish_reason if last is not None else "",
        refusal=last.refusal if last is not None else False,
        ttft_us=(last.first_token_ns - passage.received_ns) // 1000 if last is not None and last.first_token_ns else -1,
        duration_us=duration_us,
        overhead_us=overhead_us,
        cost_state=_state(ends),
        list_nusd=_sum([end.list_nusd for end in ends]),
        effective_nusd=_sum([end.effective_nusd for end in ends]),
        input_tokens=sum([end.input_tokens for end in ends]),
        output_tokens=sum([end.output_tokens for end in ends]),
        row_ids=tuple(dict.fromkeys([line.row_id for end in ends for line in end.lines if line.row_id])),
        raw_usage=ends[-1].raw_usage if ends else b"",
        trace_id=passage.trace_id,
        span_id=passage.span_id,
        counts=() if passage.counts_recorded else passage.counts,
        prompt=composed.prompt if composed is not None else "",
        prompt_version=composed.prompt_version if composed is not None else "",
        experiment=composed.experiment if composed is not None else "",
        variant=composed.variant if composed is not None else "",
        parent_span_id=passage.parent_span_id,
        client_retry=passage.client_retry,
    )


def _state(ends: list[AttemptEnd]) -> str:
    """The weakest of the attempts' states: one that is unpriced makes the call so."""
    states = {end.state for end in ends}
    for state in (CostState.UNPRICED, CostState.ESTIMATED):
        if state in states:
            return state
    return CostState.PRICED


def _sum(amounts: list[int | None]) -> int | None:
    """None as soon as one amount is not known, never 0 instead."""
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
