"""reserve: money and tokens for one attempt, in one atomic step, appended to the journal before it is believed.

402 only when what is *spent* plus this hold exceeds a limit. Where only other calls' holds are in the way the call
waits; when that takes too long it is a 429 that an SDK's own retry turns into success. A limit may say that the call
goes on with less output instead (`cap`), or on another model (`downgrade`).
"""

from __future__ import annotations

import msgspec

from gateway.core.call import Head
from gateway.core.charge import PinnedRate
from gateway.core.errors import CallRefused, ModelUnpriced, UsageLogUnavailable
from gateway.core.ids import make_id
from gateway.core.limits import HoldKind, Unit, Want
from gateway.core.ports import Composed, Disconnect, Wire
from gateway.core.records import Dispatch, Hold
from gateway.core.usage import Meter
from gateway.flow.abandon import Abandonable, ClientGone
from gateway.flow.admit import tell_tokens
from gateway.flow.cap import Cap, caps_in_the_way, downgrades_in_the_way
from gateway.flow.own_credential import pays_itself
from gateway.flow.services import HARD_UNITS, Services
from gateway.flow.state import Attempt, Passage, Target
from gateway.flow.tools import tools_limited
from gateway.flow.unread import extras_of
from gateway.ledger import callers_own
from gateway.limits.refusal import refusal_for
from gateway.pricing.bound import NO_EXTRAS, Bound

_FREE = Bound(0, 0, 0)
_FREE_RATES = (PinnedRate("", Meter.INPUT.value, 0, 1), PinnedRate("", Meter.OUTPUT.value, 0, 1))
"""What a crash in the middle of a free call is priced with: no price at all would make it unpriced."""

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
    if target.deployment.max_tool_calls:
        composed = tools_limited(passage, composed, target)
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
        shortest = 0
        if awaited is None:
            for cap in caps_in_the_way(passage, services, composed, target, wants, now_ms):
                shortest = cap.tokens
                bound, wants = _asked(passage, services, cap.composed, target, now_ms)
                obstacle = services.limits.check((*admits, *wants))
                if obstacle is None:
                    return _hold_capped(passage, services, cap, target, bound, wants, now_ms, admits)
                if not obstacle.by_spent and left_s > 0:
                    awaited = (*admits, *wants)  # running calls hold what the least useful answer needs
        if awaited is None:
            status, dialect = services.settings.budget_status, passage.surface.dialect
            refusal = refusal_for(blocked, now_ms, status, dialect, passage.client_retry, shortest)
            _, wants = _asked(passage, services, composed, target, now_ms)
            raise NoRoom(refusal, downgrades_in_the_way(services, wants), until_ns)
        with Abandonable(disconnect):
            await services.limits.freed(awaited, left_s, min(passage.client_retry, PATIENT_RETRIES))


def _asked(
    passage: Passage, services: Services, composed: Composed, target: Target, now_ms: int
) -> tuple[Bound, tuple[Want, ...]]:
    """The most the attempt can cost, and what it takes of each limit. Raises ModelUnpriced."""
    if not passage.surface.billed:
        return _FREE, ()
    caller, head, quirks = passage.caller, composed.head, target.row.quirks
    if quirks.hidden_tokens and target.wire is not passage.surface:
        head = msgspec.structs.replace(head, hidden_tokens=quirks.hidden_tokens)
    unmarked = not quirks.writes_marked_only
    region = target.provider.region
    bound = services.prices.bound(head, target.sheet, now_ms, region, extras_of(head), unmarked)
    expected = bound
    if bound.nusd is None and head.hosted_tools:  # an estimate needs no proof of how often a tool may be called
        expected = services.prices.bound(head, target.sheet, now_ms, region, NO_EXTRAS, unmarked)
    wants = services.wants.reserve(
        caller.key,
        now_ms,
        expected.nusd or 0,
        expected.tokens,
        caller,
        head.user,
        target.name,
        target.deployment.id,
        (expected.input_bound, expected.output_bound, passage.features.input_estimate, head.choices),
    )
    if pays_itself(passage, target):
        return bound, tuple([want for want in wants if want.limit.unit is not Unit.USD])
    if bound.nusd is None:
        for want in wants:
            proven = want.limit.hold is HoldKind.BOUND or expected.nusd is None
            if want.enforced and want.limit.unit in HARD_UNITS and proven:
                raise _unbounded(head, target, bound, expected)
    return bound, wants


def _unbounded(head: Head, target: Target, bound: Bound, expected: Bound) -> ModelUnpriced:
    """A hard budget that the call could overrun, and the ways there are to make it."""
    advice = "Use another model, or ask an operator to price this one."
    if expected.nusd is not None:
        tools = ", ".join(head.hosted_tools)
        advice = (
            f"Leave {tools} out, send max_tool_calls, or have an operator set max_tool_calls for this model or let the "
            "budget hold estimates (hold: estimate)."
        )
    return ModelUnpriced(
        f"The cost of {target.deployment.id} cannot be bounded: {bound.reason}. This key has a hard budget that such a "
        f"call could overrun. {advice}",
        param="model" if expected.nusd is None else "tools",
    )


def _wire(head: Head, target: Target) -> Wire:
    return target.wire_for_tools if target.wire_for_tools is not None and head.tools and head.thinks else target.wire


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
    its_own = pays_itself(passage, target)
    sheet = target.sheet
    rates = services.prices.pinned(sheet, now_ms, target.provider.region) if sheet is not None else ()
    if not passage.surface.billed:
        rates = _FREE_RATES
    hold = Hold(
        ts_ms=now_ms,
        attempt_id=make_id(now_ms, services.entropy.bytes(10)),
        attempt_no=len(passage.attempts) + 1,
        org=caller.key.org,
        team=caller.key.team,
        key_id=caller.key.key_id,
        user=caller.user or head.user,
        session=caller.session,
        tags=(*caller.tags, callers_own.TAG) if its_own else caller.tags,
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
        input_estimate=passage.features.input_estimate if passage.surface.billed else 0,
        rates=callers_own.free_rates(rates) if its_own else rates,
        stream=head.stream,
    )
    dispatch = Dispatch(ts_ms=now_ms, attempt_id=hold.attempt_id)
    wire = _wire(head, target).for_attempt(0 if sheet is None else sheet.max_output_tokens, now_ms)
    _, taken = services.journal.append_all((hold, dispatch), passage.call_id)
    if services.limits.overran or (passage.overran and not passage.attempts):
        _count_overrun(passage, services)
    services.limits.apply(hold, passage.call_id)
    passage.counts_recorded = len(passage.counts)
    attempt = Attempt(
        hold=hold,
        target=target,
        wire=wire,
        composed=composed,
        wants=wants,
        requested_tier=head.service_tier,
        callers_own=its_own,
        started_ns=services.clock.monotonic_ns(),
    )
    passage.attempts.append(attempt)
    if taken < 2:
        raise UsageLogUnavailable("the usage log took a hold and not its dispatch")  # it is given back as void
    services.limits.apply(dispatch, passage.call_id)
    attempt.dispatched = True
    if head.stream:  # of a whole answer it is told when it has ended
        tell_tokens(passage, services)
    return attempt


def _count_overrun(passage: Passage, services: Services) -> None:
    """Each limit once a call, that which would have refused it at admission and that which did not fit now."""
    limits = services.limits
    if passage.attempts:  # of a further attempt: what was not counted with the first
        fresh = tuple([limit_id for limit_id in limits.overran if limit_id not in passage.overran])
    else:
        fresh = tuple(dict.fromkeys((*passage.overran, *limits.overran)))
    limits.granted(fresh)
    passage.overran = tuple(dict.fromkeys((*passage.overran, *fresh)))
