"""plan: the model asked for becomes deployments in order, each with its provider's settings and prices."""

from __future__ import annotations

from gateway.core.caller import KeyRecord
from gateway.core.config import Policy
from gateway.flow.state import Target
from gateway.routing.plan import plan as route_plan


def plan(policy: Policy, key: KeyRecord, model: str) -> tuple[Target, ...]:
    """Targets in the order to try. Raises ModelNotFound (with close names) and ModelNotAllowed."""
    return tuple(
        Target(deployment=step.deployment, provider=step.provider, sheet=step.sheet)
        for step in route_plan(policy, key, model).deployments
    )
