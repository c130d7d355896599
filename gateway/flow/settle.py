"""settle: usage becomes a charge, the charge becomes records. Synchronous, so it happens under cancellation too.

Each attempt ends once: ATTEMPT_END with its lines, or VOID when nothing was sent. Each call ends once: SETTLE, which
moves no money. Both are appended before the last byte of the answer is released.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.call import Head
from gateway.core.charge import Charge, CostState
from gateway.core.errors import UsageLogUnavailable
from gateway.core.limits import HoldKind, Take, Unit
from gateway.core.ports import Composed
from gateway.core.records import AttemptEnd, Hold, Settle, Void
from gateway.core.tokens import estimate_tokens
from gateway.core.usage import Usage, UsageSource
from gateway.flow.services import Services
from gateway.flow.state import Attempt, Passage
from gateway.flow.unread import background_usage
from gateway.ledger.callers_own import billed_to_caller
from gateway.ledger.estimate import estimated_end
from gateway.ledger.fold import OpenHold
from gateway.pricing.arithmetic import SheetOf
from gateway.pricing.reported import is_gap

_NOTHING = Usage(meters={}, source=UsageSource.NONE)
_FREE = Charge(CostState.PRICED, (), 0, 0)
_NOT_COMPOSED = Composed(b"", Head(""))
_NO_HOLD = Hold(0, b"", 0, "", "", "", "", "", (), "", "", "", "", "", 0, 0, (), (), None, 0, ())
"""What a call that ended before them is recorded with."""
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
    record = _end_record(passage, services, attempt, outcome, cause)
    services.journal.append(record, passage.call_id)
    _ended(passage, services, attempt, record)


def conclude(
    passage: Passage,
    services: Services,
    attempt: Attempt,
    outcome: str,
    cause: str,
    call_outcome: str,
    status: int,
    error_code: str = "",
) -> None:
    """`end_attempt` and `settle` of a call whose last attempt this was, in one write."""
    end = _end_record(passage, services, attempt, outcome, cause)
    attempt.end = end
    settled = _settle_record(passage, services, call_outcome, status, error_code)
    passage.last_seq, taken = services.journal.append_all((end, settled), passage.call_id)
    _ended(passage, services, attempt, end)
    if taken < 2:
        raise UsageLogUnavailable("the usage log took the end of an attempt and not that of its call")
    _settled(passage, services, settled)


def _end_record(passage: Passage, services: Services, attempt: Attempt, outcome: str, cause: str) -> AttemptEnd:
    end = _made_end(passage, services, attempt, outcome, cause)
    return billed_to_caller(end) if attempt.callers_own else end


def _made_end(passage: Passage, services: Services, attempt: Attempt, outcome: str, cause: str) -> AttemptEnd:
    usage = attempt.usage
    free = not passage.surface.billed
    if free or (usage is None and (attempt.status >= _REFUSED_FROM or attempt.nothing_came)):
        usage = _NOTHING
    elif usage is None:  # what the request alone says of it holds for a reply that nobody read
        usage = attempt.composed.head.own_usage or background_usage(services, attempt)
    now_ns = services.clock.monotonic_ns()
    if usage is None or (not usage.fault and _is_behind(attempt, usage, outcome)):
        return _estimated(services, passage, attempt, outcome, cause, now_ns)
    if outcome != "ok" and usage.source is UsageSource.PROVIDER and not attempt.finished:
        usage = msgspec.structs.replace(usage, source=UsageSource.ESTIMATED)  # of a cut stream: more was on its way
    sheet_of = _sheets(passage, attempt) if usage.parts else None
    return _priced(services, attempt, usage, outcome, cause, now_ns, sheet_of)


def _is_behind(attempt: Attempt, usage: Usage, outcome: str) -> bool:
    """Whether output has come that the usage cannot know of."""
    if not attempt.unmetered_bytes and (outcome == "ok" or attempt.composed.head.choices == 1):
        return False
    return _put_out(attempt, usage, outcome) > usage.output_tokens()


def _put_out(attempt: Attempt, usage: Usage, outcome: str) -> int:
    """Tokens of output: what the usage counts, and an estimate of what came after it. Of several choices vLLM tells in
    each chunk what that one has, and all of them only at the end: of a stream cut before it all is estimated."""
    counted = usage.output_tokens() + estimate_tokens(attempt.unmetered_bytes)
    if outcome == "ok" or attempt.composed.head.choices == 1:
        return counted
    return max(counted, estimate_tokens(attempt.output_bytes))


def _sheets(passage: Passage, attempt: Attempt) -> SheetOf:
    """The prices of other models at the attempt's kind of provider, as far as the policy has them."""
    sheets, kind = passage.policy.sheets, attempt.target.provider.kind
    return lambda model: sheets.get(f"{kind}/{model}") or sheets.get(f"{kind}/*")


def _ended(passage: Passage, services: Services, attempt: Attempt, record: AttemptEnd) -> None:
    """What follows from an end that is in the journal."""
    services.limits.apply(record, passage.call_id)
    attempt.ended = True
    attempt.end = record
    bound, cost = attempt.hold.bound_nusd, record.effective_nusd
    if bound is not None and cost is not None:
        services.metrics.hold_settled(attempt.hold.deployment, bound, cost)
    if attempt.wants and attempt.wants[0].limit.hold is HoldKind.ESTIMATE:  # those come first
        _note_overshoot(services, attempt, record)
    if record.unknown_usage:
        services.metrics.usage_unknown(attempt.hold.deployment, len(record.unknown_usage))
    if record.reported_nusd is not None and cost is not None:
        services.metrics.cost_compared(attempt.hold.deployment, is_gap(cost, record.reported_nusd))


def _note_overshoot(services: Services, attempt: Attempt, record: AttemptEnd) -> None:
    """By how much this attempt took limits that hold estimates beyond their amounts."""
    posted = {take.counter: take.amount for take in record.posted}
    for want in attempt.wants:
        limit = want.limit
        if limit.hold is HoldKind.ESTIMATE and limit.unit is Unit.USD:
            beyond = services.limits.spent(want.counters) - limit.amount
            if beyond > 0 and (mine := min(beyond, posted.get(want.take.counter, 0))):
                services.metrics.overshot(limit.id, mine)


def _priced(
    services: Services,
    attempt: Attempt,
    usage: Usage,
    outcome: str,
    cause: str,
    now_ns: int,
    sheet_of: SheetOf | None,
) -> AttemptEnd:
    hold = attempt.hold
    charge = _FREE
    if usage is not _NOTHING:
        target = attempt.target
        charge = services.prices.charge(
            usage, target.sheet, hold.ts_ms, attempt.requested_tier, target.provider.region, sheet_of
        )
    input_tokens, output_tokens = usage.input_tokens(), usage.output_tokens()
    return AttemptEnd(
        ts_ms=services.clock.now_ms(),
        attempt_id=hold.attempt_id,
        outcome=outcome,
        cause=cause,
        status=attempt.status,
        posted=_posted(hold, charge, None if usage.fault else input_tokens + output_tokens),
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
        reported_nusd=attempt.reported_nusd,
        billed_nusd=charge.own_billed_nusd,
        region=usage.region,
        unknown_usage=usage.unknown_fields,
    )


def _posted(hold: Hold, charge: Charge, tokens: int | None) -> tuple[Take, ...]:
    """What each of the hold's counters has spent. An unpriced reply spends the whole bound, also of a limit that holds
    less: money that cannot be seen is not given back to a budget. So do tokens that the provider contradicts (None)."""
    posted: list[Take] = []
    for take in hold.takes:
        match take.unit:
            case Unit.USD:
                known = charge.effective_nusd
                amount = max(take.amount, hold.bound_nusd or 0) if known is None else known
            case Unit.TOKENS:
                amount = take.amount if tokens is None else tokens
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
    usage, input_tokens, raw_usage = attempt.usage, None, b""
    if usage is not None:  # told early, and then output went on: that alone is estimated
        input_tokens, raw_usage = usage.input_tokens(), usage.raw
        open_hold.output_tokens = _put_out(attempt, usage, outcome)
    return estimated_end(
        open_hold,
        input_tokens=input_tokens,
        raw_usage=raw_usage,
        ts_ms=services.clock.now_ms(),
        outcome=outcome,
        cause=cause,
        status=attempt.status,
        model_served=attempt.model_served,
        finish_reason=attempt.finish_reason,
        upstream_id=attempt.upstream_id,
        ttft_us=_first_token_us(attempt),
        duration_us=(now_ns - attempt.started_ns) // 1000,
        reported_nusd=attempt.reported_nusd,
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
    passage.settled = True  # whatever becomes of it: it is tried once
    record = _settle_record(passage, services, outcome, status, error_code)
    passage.last_seq = services.journal.append(record, passage.call_id)
    _settled(passage, services, record)


def _settled(passage: Passage, services: Services, record: Settle) -> None:
    """What follows from a SETTLE that is in the journal."""
    passage.settled = True
    services.limits.apply(record, passage.call_id)
    services.metrics.call_ended(
        endpoint=record.endpoint,
        model=record.model_asked,
        deployment=record.deployment,
        outcome=record.outcome,
        status=record.status,
        effective_nusd=record.effective_nusd,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        duration_us=record.duration_us,
        overhead_us=record.overhead_us,
        ttft_us=record.ttft_us,
    )


async def synced(passage: Passage, services: Services) -> None:
    """With `durability = power` nothing final is released before it is on the disk."""
    if services.settings.power:
        await services.journal.synced(passage.last_seq)


def _settle_record(passage: Passage, services: Services, outcome: str, status: int, error_code: str) -> Settle:
    now_ms = services.clock.now_ms()
    duration_us = (services.clock.monotonic_ns() - passage.received_ns) // 1000
    overhead_us = max(0, duration_us - passage.waited_ns // 1000)
    caller, composed = passage.caller, passage.composed or _NOT_COMPOSED
    key, head = caller.key, composed.head
    hold, served, finish, refusal, ttft_us = _NO_HOLD, "", "", False, -1
    if passage.attempts:
        last = passage.attempts[-1]
        hold, served, finish, refusal = last.hold, last.model_served, last.finish_reason, last.refusal
        if last.first_token_ns:
            ttft_us = (last.first_token_ns - passage.received_ns) // 1000
    totals = _totals(passage.attempts)
    return Settle(
        ts_ms=now_ms,
        attempt_id=hold.attempt_id or passage.call_id,
        started_ms=passage.started_ms,
        org=key.org,
        team=key.team,
        key_id=key.key_id,
        user=caller.user or head.user,
        session=caller.session,
        tags=hold.tags if passage.attempts else caller.tags,
        config_revision=passage.policy.revision,
        verdicts=tuple(passage.verdicts),
        features=passage.features,
        endpoint=passage.surface.name,
        stream=head.stream,
        model_asked=head.model,
        model_planned=hold.model,
        model_served=served,
        deployment=hold.deployment,
        provider=hold.provider,
        attempts=len(passage.attempts),
        causes=tuple(passage.causes),
        outcome=outcome,
        status=status,
        error_code=error_code,
        finish_reason=finish,
        refusal=refusal,
        ttft_us=ttft_us,
        duration_us=duration_us,
        overhead_us=overhead_us,
        cost_state=totals.state,
        list_nusd=totals.list_nusd,
        effective_nusd=totals.effective_nusd,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        row_ids=totals.row_ids,
        raw_usage=totals.raw_usage,
        trace_id=passage.trace_id,
        span_id=passage.span_id,
        counts=passage.counts[passage.counts_recorded :],
        prompt=composed.prompt,
        prompt_version=composed.prompt_version,
        experiment=composed.experiment,
        variant=composed.variant,
        parent_span_id=passage.parent_span_id,
        client_retry=passage.client_retry,
    )


class _Totals(msgspec.Struct, frozen=True):
    """What a call's attempts came to. Amounts are None as soon as one of them is not known, never 0 instead."""

    state: str
    list_nusd: int | None
    effective_nusd: int | None
    input_tokens: int
    output_tokens: int
    row_ids: tuple[str, ...]
    raw_usage: bytes


_NO_TOTALS = _Totals(CostState.PRICED, 0, 0, 0, 0, (), b"")


def _totals(attempts: Sequence[Attempt]) -> _Totals:
    totals = _NO_TOTALS
    for attempt in attempts:
        end = attempt.end
        if end is not None:
            one = _Totals(
                end.state,
                end.list_nusd,
                end.effective_nusd,
                end.input_tokens,
                end.output_tokens,
                tuple([line.row_id for line in end.lines if line.row_id]),
                end.raw_usage,
            )
            totals = one if totals is _NO_TOTALS else _added(totals, one)
    return totals


def _added(before: _Totals, one: _Totals) -> _Totals:
    """The state is the weakest: one attempt that is unpriced makes the call so."""
    return _Totals(
        next((state for state in _WEAKEST if state in (before.state, one.state)), CostState.PRICED),
        None if before.list_nusd is None or one.list_nusd is None else before.list_nusd + one.list_nusd,
        None
        if before.effective_nusd is None or one.effective_nusd is None
        else before.effective_nusd + one.effective_nusd,
        before.input_tokens + one.input_tokens,
        before.output_tokens + one.output_tokens,
        tuple(dict.fromkeys([*before.row_ids, *one.row_ids])),
        one.raw_usage,
    )


_WEAKEST = (CostState.UNPRICED, CostState.ESTIMATED)
