"""plan: the model asked for becomes deployments in order, each with its provider's settings and prices."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.caller import KeyRecord
from gateway.core.config import Policy
from gateway.flow.state import Target
from gateway.providers.row import ProviderRow
from gateway.routing.plan import plan as route_plan
from gateway.routing.resolve import find_route

REMEMBERED_PLANS = 4096


class Plans:
    """Plans with a memory: the same until the policy is another one. Full, it begins anew."""

    __slots__ = ("_plans", "_policy")

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._plans: dict[tuple[str, tuple[str, ...]], tuple[Target, ...]] = {}

    def knows(self, policy: Policy, key: KeyRecord, model: str) -> bool:
        """Whether there is such a model: a name that a caller makes up must not count as a value of a limit."""
        planned = policy is self._policy and (model, key.models) in self._plans
        return planned or find_route(policy, model) is not None

    def of(
        self, policy: Policy, providers: Mapping[str, ProviderRow], key: KeyRecord, model: str
    ) -> tuple[Target, ...]:
        """Targets in the order to try. Raises ModelNotFound (with close names) and ModelNotAllowed."""
        if policy is not self._policy or len(self._plans) >= REMEMBERED_PLANS:
            self._policy = policy
            self._plans = {}
        targets = self._plans.get((model, key.models))
        if targets is None:
            targets = self._plans[model, key.models] = tuple(
                Target(step.deployment, step.provider, providers[step.provider.kind], step.sheet, model)
                for step in route_plan(policy, key, model).deployments
            )
        return targets
