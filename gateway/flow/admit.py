"""admit: the rates of the caller and the asked model, in one atomic step per call; 429 with an honest retry-after.

What is counted here stays counted even when the call is refused later: it was a request.
"""

from __future__ import annotations

from gateway.core.limits import Unit, Want
from gateway.flow.services import Services
from gateway.flow.state import Passage
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
        raise refusal_for(blocked, now_ms, services.settings.budget_status)
    services.limits.count(wants)
    passage.counts = tuple([want.take for want in wants])
    passage.rate_headers = _rate_headers(services, wants, now_ms)


def _rate_headers(services: Services, wants: tuple[Want, ...], now_ms: int) -> tuple[tuple[bytes, bytes], ...]:
    """The caller's own tightest request limit in the headers OpenAI's clients read."""
    tightest: tuple[int, Want] | None = None
    for want in wants:
        if want.limit.unit is not Unit.REQUESTS or not want.enforced:
            continue
        left = max(0, want.limit.amount - services.limits.spent(want.counters))
        if tightest is None or left < tightest[0]:
            tightest = (left, want)
    if tightest is None:
        return ()
    left, want = tightest
    limited = (b"x-ratelimit-limit-requests", b"%d" % want.limit.amount)
    remaining = (b"x-ratelimit-remaining-requests", b"%d" % left)
    if want.resets_ms is None:
        return limited, remaining
    seconds = (max(0, want.resets_ms - now_ms) + 500) // 1000
    return limited, remaining, (b"x-ratelimit-reset-requests", b"%ds" % seconds)
