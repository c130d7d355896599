"""Every limit that applies to a key's calls: what is spent, reserved and left of it, when it resets, which one binds.

The limits are found by the very code that finds them for a call (`limits.wants`), so what is shown is what holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import LimitChange, Policy
from gateway.core.errors import CallRefused
from gateway.core.limits import EACH, Limit, OnExceed, Want
from gateway.desk.limits.shapes import Amount, BudgetReply, BudgetState, ExplainReply, SuspensionMembers
from gateway.desk.moments import print_moment
from gateway.desk.parts import DeskParts
from gateway.desk.shapes import limit_members
from gateway.limits.rules import Rules, rules_of
from gateway.limits.scope import OWNERS, TAG
from gateway.limits.wants import Wants
from gateway.routing.plan import plan
from gateway.vault.configuration import NOTHING

NEWEST = 2**62
"""A revision after all: the policy at it is the one in use."""

MOST_SUSPENSIONS = 10_000
"""The newest are read: of those that last, at most seven days, none must be missing."""


class Asked(NamedTuple):
    """The kind of call that is asked about. Empty members are not told; `tags` are those the call adds to its key's."""

    user: str = ""
    session: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    model: str = ""
    deployment: str = ""


async def present_policy(parts: DeskParts) -> Policy:
    """The policy in use; one without anything before the first."""
    return await parts.config.policy_at(NEWEST) or NOTHING


async def _present_rules(parts: DeskParts, org: str, policy: Policy) -> Rules:
    """The limits beside keys' own as the workers hold them, as far as they can concern this org."""
    limits = [LimitChange(view.limit.id, view.limit) for view in await parts.config.limits(org)]
    suspensions = [LimitChange(one.id, suspension=one) for one in await parts.config.suspensions(org, MOST_SUSPENSIONS)]
    return rules_of(policy, (*limits, *suspensions))


def _first_deployment(policy: Policy, key: KeyRecord, model: str) -> str:
    """Where a call for this model would go first; empty when it would go nowhere."""
    try:
        return plan(policy, key, model).deployments[0].deployment.id
    except CallRefused:
        return ""


async def explain(parts: DeskParts, key: KeyRecord, asked: Asked) -> ExplainReply:
    """How the limits stand for a key's calls of the kind asked about. Raises StoreUnavailable, RateLimited."""
    now_ms = parts.clock.now_ms()
    asked = asked._replace(tags=tuple((dict(asked.tags) | dict(key.tags)).items()))
    policy = await present_policy(parts)
    rules = await _present_rules(parts, key.org, policy)
    if asked.model and not asked.deployment:
        asked = asked._replace(deployment=_first_deployment(policy, key, asked.model))
    wants = _wants(rules, key, asked, now_ms)
    names = list(dict.fromkeys(name for want in wants for name in want.counters))
    held = None if parts.standings is None else await parts.standings.of(names)
    known = None if held is None else dict(zip(names, held, strict=True))
    written = {limit.id: limit for limit in (*key.limits, *rules.of(key))}
    shown = [_budget(want, written[want.limit.id], known) for want in wants]
    matched = {want.limit.id for want in wants}
    told = _told(rules, key, asked)
    others = (_unmatched(limit, told, now_ms) for limit in rules.of(key) if limit.id not in matched)
    shown += [budget for budget in others if budget is not None]
    _mark_binding(shown)
    suspended = [SuspensionMembers.of(one, now_ms) for one in rules.suspended(key, now_ms)]
    return ExplainReply(
        key_id=key.key_id,
        name=key.name,
        org=key.org,
        team=key.team,
        at_ms=now_ms,
        at=print_moment(now_ms),
        counted=known is not None,
        budgets=shown,
        suspensions=suspended,
    )


def _wants(rules: Rules, key: KeyRecord, asked: Asked, now_ms: int) -> tuple[Want, ...]:
    """All limits that such a call is taken from, by the code of the request path; the amounts do not matter."""
    wants = Wants(capacity=1)
    wants.use(rules)
    caller = Caller(key, asked.user, asked.session, asked.tags)
    admitted = wants.admit(key, asked.model, now_ms, caller)
    held = wants.reserve(key, now_ms, 0, 0, caller, model=asked.model, deployment=asked.deployment)
    return (*held, *admitted)


def _budget(want: Want, written: Limit, known: dict[str, tuple[int, int]] | None) -> BudgetReply:
    """A limit as it is written, and as it stands: what a want is made against has a present increase in its amount."""
    limit = want.limit
    facts = limit_members(written)
    facts |= {
        "state": _state(limit, want.enforced),
        "needs": [],
        "allowed": Amount.of(limit.amount, limit.unit),
        "resets_ms": want.resets_ms,
        "resets_at": None if want.resets_ms is None else print_moment(want.resets_ms),
    }
    if known is not None:
        spent = sum(known[name][0] for name in want.counters)
        reserved = sum(known[name][1] for name in want.counters)
        facts |= {
            "spent": Amount.of(spent, limit.unit),
            "reserved": Amount.of(reserved, limit.unit),
            "left": Amount.of(max(0, limit.amount - spent - reserved), limit.unit),
            "overshot": Amount.of(max(0, spent - limit.amount), limit.unit),
        }
    return BudgetReply.model_validate(facts)


def _told(rules: Rules, key: KeyRecord, asked: Asked) -> dict[str, str]:
    """What is known of such a call, by dimension; what is empty or missing could still be anything."""
    told = {"user": asked.user, "session": asked.session, "deployment": asked.deployment}
    told["model"] = rules.aliases.get(asked.model, asked.model)
    told["provider"] = asked.deployment.partition("/")[0]
    return told | {f"{TAG}{name}": value for name, value in asked.tags}


def _unmatched(limit: Limit, told: dict[str, str], now_ms: int) -> BudgetReply | None:
    """A limit that such a call may still meet, with what would have to be told; None for one it does not match."""
    needs = []
    for dimension, wanted in limit.scope:
        if dimension in OWNERS:
            continue
        if not told.get(dimension):
            needs.append(dimension if wanted == EACH else f"{dimension}:{wanted}")
        elif wanted not in (EACH, told[dimension]):
            return None
    if not needs:
        return None
    facts = limit_members(limit) | {
        "state": _state(limit, True),
        "needs": needs,
        "allowed": Amount.of(limit.amount_at(now_ms), limit.unit),
    }
    return BudgetReply.model_validate(facts)


def _state(limit: Limit, enforced: bool) -> BudgetState:
    match limit.on_exceed:
        case OnExceed.BLOCK | OnExceed.DOWNGRADE | OnExceed.CAP_OUTPUT:
            return "enforced" if enforced else "suspended"
        case OnExceed.DRY_RUN:
            return "dry_run"
        case OnExceed.ALERT:
            return "alert"


def _mark_binding(budgets: Sequence[BudgetReply]) -> None:
    """Marks, of each unit's enforced limits, the one with the least left."""
    least: dict[str, tuple[int, BudgetReply]] = {}
    for budget in budgets:
        if budget.state != "enforced" or budget.left is None:
            continue
        before = least.get(budget.unit)
        if before is None or budget.left.amount < before[0]:
            least[budget.unit] = (budget.left.amount, budget)
    for _, budget in least.values():
        budget.binds = True
