"""admit: the rates of the caller and the asked model, in one atomic step per call; 429 with an honest retry-after.

What is counted here stays counted even when the call is refused later: it was a request.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.limits import Unit, Want
from gateway.flow.services import Services
from gateway.flow.state import Passage
from gateway.limits.headers import rate_headers
from gateway.limits.refusal import refusal_for


def admit(passage: Passage, services: Services, model: str, now_ms: int) -> None:
    """Takes one request of every matching rate limit, or raises RateLimited having taken none."""
    caller, composed = passage.caller, passage.composed
    user = composed.head.user if composed is not None else ""
    named = model if services.plans.knows(passage.policy, caller.key, model) else ""
    wants = services.wants.admit(caller.key, named, now_ms, caller, user)
    if not wants:
        return
    blocked = services.limits.check(wants)
    if blocked is not None:
        raise refusal_for(blocked, now_ms, services.settings.budget_status, passage.surface.dialect)
    passage.overran = services.limits.overran
    services.limits.count(wants)
    passage.counts = tuple([want.take for want in wants])
    passage.headers += standing_headers(passage, services, wants, Unit.REQUESTS, now_ms)


def standing_headers(
    passage: Passage, services: Services, wants: Sequence[Want], unit: Unit, now_ms: int
) -> tuple[tuple[bytes, bytes], ...]:
    """The caller's tightest enforced limit of a unit, as its SDK reads it; nothing where there is none."""
    tightest: Want | None = None
    least = 0
    used = services.limits.used
    for want in wants:
        if want.limit.unit is unit and want.enforced:
            left = want.limit.amount - used(want.counters)
            if tightest is None or left < least:
                tightest, least = want, left
    if tightest is None:
        return ()
    return rate_headers(passage.surface.dialect, unit, tightest.limit.amount, least, tightest.resets_ms, now_ms)


def tell_tokens(passage: Passage, services: Services) -> None:
    """What is left of the caller's tokens now, in place of what was said of it before."""
    wants = passage.attempts[-1].wants
    if (wants and wants[-1].limit.unit is Unit.TOKENS) or len(passage.attempts) > 1:  # those on tokens come last
        others = tuple([header for header in passage.headers if b"tokens" not in header[0]])
        now_ms = services.clock.now_ms()
        passage.headers = (*others, *standing_headers(passage, services, wants, Unit.TOKENS, now_ms))
