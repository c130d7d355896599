"""reserve: money and tokens for one attempt, in one atomic step, appended to the journal before it is believed.

402 only when what is *spent* plus this hold exceeds a limit. Where only other calls' holds are in the way the call
waits; when that takes too long it is a 429 that an SDK's own retry turns into success. A limit may say that the call
goes on with less output instead (`cap`), or on another model (`downgrade`).
"""

from __future__ import annotations

from gateway.core.errors import CallRefused, ModelUnpriced, UsageLogUnavailable
from gateway.core.ids import make_id
from gateway.core.limits import Unit, Want
from gateway.core.ports import Composed, Disconnect
from gateway.core.records import Dispatch, Hold
from gateway.flow.abandon import Abandonable, ClientGone
from gateway.flow.admit import standing_headers
from gateway.flow.cap import Cap, caps_in_the_way, downgrades_in_the_way
from gateway.flow.services import HARD_UNITS, Services
from gateway.flow.state import Attempt, Passage, Target
from gateway.limits.refusal import refusal_for
from gateway.pricing.bound import NO_EXTRAS, Bound, Extras

_HOSTED = Extras(runs=None)
"""Tools at the provider, which a chat completion cannot limit."""


PATIENT_RETRIES = 2
"""Official SDKs try again twice. A caller that says more is believed that much."""


class NoRoom(Exception):
    """Limits have no room for an attempt. `refusal` is what the caller is told unless the call goes on with one of
    `ways`: (limit id, public model) of the limits in the way that say so. Waiting for room may last until `until_ns`.
    """

    def __init__(self, refusal: CallRefused, ways: tuple[tuple[str, str], ...], until_ns: int) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.ways = ways
        self.until_ns = until_ns


async def reserve(
    passage: Passage,
    services: Services,
    disconnect: Disconnect,
    composed: Composed,
    target: Target,
    until_ns: int = 0,
    admits: tuple[Want, ...] = (),
) -> Attempt:
    """An attempt whose HOLD is in the journal, and its DISPATCH with it: nothing is waited for between the two.

    It waits for room until `until_ns` of the monotonic clock (0: the settings' time from now). `admits` are counted
    with the hold, or not at all. Raises NoRoom, ModelUnpriced, UsageLogUnavailable; nothing is held then. Raises
    ClientGone for a caller that goes while it waits.
    """
    if disconnect.gone:
        raise ClientGone
    now_ms = services.clock.now_ms()
    bound, wants = _asked(passage, services, composed, target, now_ms)
    if services.limits.check((*admits, *wants) if admits else wants) is None:
        return _hold(passage, services, composed, target, bound, wants, now_ms, admits)
    if not until_ns:
        until_ns = services.clock.monotonic_ns() + int(_patience_s(passage, services) * 1e9)
    return await _made_to_fit(passage, services, disconnect, composed, target, until_ns, admits)


def _patience_s(passage: Passage, services: Services) -> float:
    """Who will not come back is not sent away as long as there is something to wait for."""
    if passage.client_retry < PATIENT_RETRIES:
        return services.settings.reserve_wait_s
    return services.settings.reserve_last_wait_s


async def _made_to_fit(
    passage: Passage,
    services: Services,
    disconnect: Disconnect,
    composed: Composed,
    target: Target,
    until_ns: int,
    admits: tuple[Want, ...],
) -> Attempt:
    """`reserve` where there was no room at first: it waits, or caps the output, or raises NoRoom."""
    clock = services.clock
    while True:
        now_ms = clock.now_ms()
        bound, wants = _asked(passage, services, composed, target, now_ms)
        blocked = services.limits.check((*admits, *wants))
        if blocked is None:
            return _hold(passage, services, composed, target, bound, wants, now_ms, admits)
        left_s = (until_ns - clock.monotonic_ns()) / 1e9
        awaited: tuple[Want, ...] | None = None if blocked.by_spent or left_s <= 0 else (*admits, *wants)
        if awaited is None:
            for cap in caps_in_the_way(passage, services, composed, target, wants, now_ms):
                bound, wants = _asked(passage, services, cap.composed, target, now_ms)
                obstacle = services.limits.check((*admits, *wants))
                if obstacle is None:
                    return _hold_capped(passage, services, cap, target, bound, wants, now_ms, admits)
                if not obstacle.by_spent and left_s > 0:
                    awaited = (*admits, *wants)  # running calls hold what the least useful answer needs
        if awaited is None:
            refusal = refusal_for(
                blocked, now_ms, services.settings.budget_status, passage.surface.dialect, passage.client_retry
            )
            _, wants = _asked(passage, services, composed, target, now_ms)
            raise NoRoom(refusal, downgrades_in_the_way(services, wants), until_ns)
        with Abandonable(disconnect):
            await services.limits.freed(awaited, left_s, min(passage.client_retry, PATIENT_RETRIES))


def _asked(
    passage: Passage, services: Services, composed: Composed, target: Target, now_ms: int
) -> tuple[Bound, tuple[Want, ...]]:
    """The most the attempt can cost, and what it takes of each limit. Raises ModelUnpriced."""
    caller, head = passage.caller, composed.head
    extras = _HOSTED if head.hosted_tools else NO_EXTRAS
    bound = services.prices.bound(head, target.sheet, now_ms, target.provider.region, extras)
    wants = services.wants.reserve(
        caller.key,
        now_ms,
        bound.nusd or 0,
        bound.tokens,
        caller,
        head.user,
        target.name,
        target.deployment.id,
        (bound.input_bound, bound.output_bound, passage.features.input_estimate, head.choices),
    )
    if bound.nusd is None:
        for want in wants:
            if want.enforced and want.limit.unit in HARD_UNITS:
                raise ModelUnpriced(
                    f"The cost of {target.deployment.id} cannot be bounded: {bound.reason}. This key has a hard "
                    "budget that such a call could overrun. Use another model, or ask an operator to price this one.",
                    param="model",
                )
    return bound, wants


def _hold_capped(
    passage: Passage,
    services: Services,
    cap: Cap,
    target: Target,
    bound: Bound,
    wants: tuple[Want, ...],
    now_ms: int,
    admits: tuple[Want, ...],
) -> Attempt:
    attempt = _hold(passage, services, cap.composed, target, bound, wants, now_ms, admits)
    attempt.capped = cap.tokens
    for limit_id in cap.limit_ids:
        passage.verdicts.append(f"limit {limit_id}:cap_output {cap.tokens}")
        services.metrics.call_changed(limit_id, "cap_output")
    return attempt


def _hold(
    passage: Passage,
    services: Services,
    composed: Composed,
    target: Target,
    bound: Bound,
    wants: tuple[Want, ...],
    now_ms: int,
    admits: tuple[Want, ...],
) -> Attempt:
    caller = passage.caller
    head = composed.head
    if admits:
        services.limits.count(admits)
        passage.counts += tuple([want.take for want in admits])
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
        counts=passage.counts[passage.counts_recorded :],
        bound_nusd=bound.nusd,
        input_estimate=passage.features.input_estimate,
        rates=services.prices.pinned(target.sheet, now_ms, target.provider.region) if target.sheet is not None else (),
        stream=head.stream,
    )
    dispatch = Dispatch(ts_ms=now_ms, attempt_id=hold.attempt_id)
    _, taken = services.journal.append_all((hold, dispatch), passage.call_id)
    services.limits.apply(hold, passage.call_id)
    passage.counts_recorded = len(passage.counts)
    attempt = Attempt(
        hold=hold,
        target=target,
        composed=composed,
        wants=wants,
        requested_tier=head.service_tier,
        started_ns=services.clock.monotonic_ns(),
    )
    passage.attempts.append(attempt)
    if taken < 2:
        raise UsageLogUnavailable("the usage log took a hold and not its dispatch")  # it is given back as void
    services.limits.apply(dispatch, passage.call_id)
    attempt.dispatched = True
    if (wants and wants[-1].limit.unit is Unit.TOKENS) or attempt.hold.attempt_no > 1:  # those on tokens come last
        _tell_tokens(passage, services, wants, now_ms)
    return attempt


def _tell_tokens(passage: Passage, services: Services, wants: tuple[Want, ...], now_ms: int) -> None:
    """What is left of the caller's tokens, in place of what an attempt before this one said of it."""
    others = tuple([header for header in passage.headers if b"tokens" not in header[0]])
    passage.headers = (*others, *standing_headers(passage, services, wants, Unit.TOKENS, now_ms))
