"""plan: the model asked for becomes deployments in order, each with its provider's settings and prices."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.caller import KeyRecord
from gateway.core.config import Policy
from gateway.core.errors import NotServed
from gateway.core.ports import Surface
from gateway.flow.state import Target
from gateway.flow.wires import Wires
from gateway.providers.row import ProviderRow
from gateway.routing.plan import plan as route_plan
from gateway.routing.resolve import find_route

REMEMBERED_PLANS = 4096


class Plans:
    """Plans with a memory: the same until the policy is another one. Full, it begins anew."""

    __slots__ = ("_names", "_plans", "_policy", "_wires")

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._policy: Policy | None = None
        self._names: set[str] = set()
        self._plans: dict[tuple[str, str, tuple[str, ...]], tuple[Target, ...]] = {}

    def knows(self, policy: Policy, key: KeyRecord, model: str) -> bool:
        """Whether there is such a model: a name that a caller makes up must not count as a value of a limit."""
        planned = policy is self._policy and model in self._names
        return planned or find_route(policy, model) is not None

    def of(
        self, policy: Policy, providers: Mapping[str, ProviderRow], key: KeyRecord, model: str, surface: Surface
    ) -> tuple[Target, ...]:
        """Targets in the order to try, without those that cannot serve `surface`. Raises ModelNotFound (with close
        names), ModelNotAllowed, and NotServed where no deployment of the model serves such a call."""
        if policy is not self._policy or len(self._plans) >= REMEMBERED_PLANS:
            self._policy = policy
            self._plans = {}
            self._names = set()
        targets = self._plans.get((surface.name, model, key.models))
        if targets is None:
            targets = self._made(policy, providers, key, model, surface)
            self._plans[surface.name, model, key.models] = targets
            self._names.add(model)
        return targets

    def _made(
        self, policy: Policy, providers: Mapping[str, ProviderRow], key: KeyRecord, model: str, surface: Surface
    ) -> tuple[Target, ...]:
        targets = []
        faults = []
        for step in route_plan(policy, key, model).deployments:
            row = providers[step.provider.kind]
            wire = self._wires.between(surface, row, step.deployment)
            if wire is None:
                faults.append(row.not_served(surface.name, step.provider.name))
            else:
                thinking = self._wires.for_thinking_with_tools(surface, row, step.deployment)
                target = Target(step.deployment, step.provider, row, wire, step.sheet, model, wire_for_tools=thinking)
                targets.append(target)
        if not targets:
            raise NotServed(" ".join(dict.fromkeys(faults)), param="model")
        return tuple(targets)
