"""The plan of a call: deployments in order, each with the settings and prices it will be used with."""

from __future__ import annotations

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.charge import PriceSheet
from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings
from gateway.core.errors import ModelNotAllowed, ModelNotFound
from gateway.routing.problems import show
from gateway.routing.resolve import allowed, close_matches, find_route


class Step(msgspec.Struct, frozen=True):
    """One deployment to try. `sheet` None: no price is known, so its cost is NULL and hard budgets refuse it."""

    deployment: Deployment
    provider: ProviderSettings
    sheet: PriceSheet | None


class Plan(msgspec.Struct, frozen=True):
    """`model` is the name asked for; `route.name` the name or wildcard it was found under."""

    model: str
    route: ModelRoute
    deployments: tuple[Step, ...]


def sheet_key(kind: str, deployment: Deployment) -> str:
    """Where a policy keeps the prices of a deployment. A kind whose every model costs the same has `kind/*` besides."""
    return f"{kind}/{deployment.priced_as or deployment.model}"


def plan(policy: Policy, key: KeyRecord, model: str) -> Plan:
    """Where a call for `model` goes. Raises ModelNotFound (naming close matches the key may use), ModelNotAllowed."""
    route = find_route(policy, model)
    if route is None:
        raise _not_found(policy, key, model)
    if key.models and not allowed(key.models, model, route.alias_of):
        raise _not_allowed(key, model)
    steps = []
    for deployment in route.deployments:
        provider = policy.providers[deployment.provider]
        sheet = policy.sheets.get(sheet_key(provider.kind, deployment)) or policy.sheets.get(f"{provider.kind}/*")
        steps.append(Step(deployment, provider, sheet))
    return Plan(model, route, tuple(steps))


def _not_found(policy: Policy, key: KeyRecord, model: str) -> ModelNotFound:
    near = close_matches(policy, model, key.models)
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif not policy.models and not policy.wildcards:
        hint = "No model is configured: add one under models in routes.yaml."
    else:
        hint = "GET /v1/models lists what this key may use."
    return ModelNotFound(f"The model {show(model)} does not exist here. {hint}", param="model", extra={"close": near})


def _not_allowed(key: KeyRecord, model: str) -> ModelNotAllowed:
    may = ", ".join(key.models[:5]) + (", …" if len(key.models) > 5 else "")
    return ModelNotAllowed(
        f"This key may not use the model {show(model)}, only {may}. Ask whoever gave you the key to allow it.",
        param="model",
    )
