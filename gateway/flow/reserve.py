"""reserve: money and tokens for one attempt, in one atomic step, appended to the journal before it is believed.

402 only when what is *spent* plus this hold exceeds a limit. Where only other calls' holds are in the way the call
waits; when that takes too long it is a 429 that an SDK's own retry turns into success.
"""

from __future__ import annotations

from gateway.core.errors import ModelUnpriced, UsageLogUnavailable
from gateway.core.ids import make_id
from gateway.core.limits import Want
from gateway.core.ports import Composed, Disconnect
from gateway.core.records import Dispatch, Hold
from gateway.flow.abandon import Abandonable, ClientGone
from gateway.flow.services import HARD_UNITS, Services
from gateway.flow.state import Attempt, Passage, Target
from gateway.limits.estimate import estimated_hold
from gateway.limits.refusal import refusal_for
from gateway.pricing.bound import NO_EXTRAS, Bound, Extras

_HOSTED = Extras(runs=None)
"""Tools at the provider, which a chat completion cannot limit."""


async def reserve(
    passage: Passage, services: Services, disconnect: Disconnect, composed: Composed, target: Target
) -> Attempt:
    """An attempt whose HOLD is in the journal, and its DISPATCH with it: nothing is waited for between the two.

    Raises ModelUnpriced, BudgetExceeded, BudgetReserved, RateLimited, UsageLogUnavailable; nothing is held then. Raises
    ClientGone for a caller that goes while it waits.
    """
    if disconnect.gone:
        raise ClientGone
    clock = services.clock
    deadline_ns = clock.monotonic_ns() + int(services.settings.reserve_wait_s * 1e9)
    while True:
        now_ms = clock.now_ms()
        extras = _HOSTED if composed.head.hosted_tools else NO_EXTRAS
        bound = services.prices.bound(composed.head, target.sheet, now_ms, target.provider.region, extras)
        wants = _wants(services, passage, composed, target, bound, now_ms)
        blocked = services.limits.check(wants)
        if blocked is None:
            return _hold(passage, services, composed, target, bound, wants, now_ms)
        left_s = (deadline_ns - clock.monotonic_ns()) / 1e9
        if blocked.by_spent or left_s <= 0:
            raise refusal_for(blocked, now_ms, services.settings.budget_status)
        with Abandonable(disconnect):
            await services.limits.freed(wants, left_s)


def _wants(
    services: Services, passage: Passage, composed: Composed, target: Target, bound: Bound, now_ms: int
) -> tuple[Want, ...]:
    caller, head, nusd = passage.caller, composed.head, bound.nusd or 0
    estimate = estimated_hold(
        nusd, bound.input_bound, bound.output_bound, passage.features.input_estimate, head.choices
    )
    wants = services.wants.reserve(
        caller.key, now_ms, nusd, bound.tokens, caller, head.user, head.model, target.deployment.id, estimate
    )
    if bound.nusd is None:
        for want in wants:
            if want.enforced and want.limit.unit in HARD_UNITS:
                raise ModelUnpriced(
                    f"The cost of {target.deployment.id} cannot be bounded: {bound.reason}. This key has a hard "
                    "budget that such a call could overrun. Use another model, or ask an operator to price this one.",
                    param="model",
                )
    return wants


def _hold(
    passage: Passage,
    services: Services,
    composed: Composed,
    target: Target,
    bound: Bound,
    wants: tuple[Want, ...],
    now_ms: int,
) -> Attempt:
    caller = passage.caller
    head = composed.head
    hold = Hold(
        ts_ms=now_ms,
        attempt_id=make_id(now_ms, services.entropy.bytes(10)),
        attempt_no=len(passage.attempts) + 1,
        org=caller.key.org,
        team=caller.key.team,
        key_id=caller.key.key_id,
        user=caller.user or head.user,
        session=caller.session,
        tags=caller.tags,
        endpoint=passage.surface.name,
        model_asked=head.model,
        deployment=target.deployment.id,
        provider=target.deployment.provider,
        model=target.deployment.model,
        config_revision=passage.policy.revision,
        started_ms=passage.started_ms,
        takes=tuple([want.take for want in wants]),
        counts=() if passage.counts_recorded else passage.counts,
        bound_nusd=bound.nusd,
        input_estimate=passage.features.input_estimate,
        rates=services.prices.pinned(target.sheet, now_ms, target.provider.region) if target.sheet is not None else (),
        stream=head.stream,
    )
    dispatch = Dispatch(ts_ms=now_ms, attempt_id=hold.attempt_id)
    _, taken = services.journal.append_all((hold, dispatch), passage.call_id)
    services.limits.apply(hold, passage.call_id)
    passage.counts_recorded = True
    attempt = Attempt(
        hold=hold,
        target=target,
        requested_tier=head.service_tier,
        started_ns=services.clock.monotonic_ns(),
    )
    passage.attempts.append(attempt)
    if taken < 2:
        raise UsageLogUnavailable("the usage log took a hold and not its dispatch")  # it is given back as void
    services.limits.apply(dispatch, passage.call_id)
    attempt.dispatched = True
    return attempt
