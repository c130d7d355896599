"""From the model a caller asks for to its route, and what a key may see and use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.config import Deployment, ModelRoute, Policy

MAX_MODEL_CHARACTERS = 256
MAX_CANDIDATES = 500
"""Names compared for a suggestion: each costs some µs, on the event loop."""


def find_route(policy: Policy, model: str) -> ModelRoute | None:
    """The route of an exact name, else of the longest wildcard that matches, with `*` replaced by what it matched.

    A wildcard's route keeps the pattern as `name`: what may become a metric's label is bounded by configuration.
    """
    route = policy.models.get(model)
    if route is not None:
        return route
    if len(model) > MAX_MODEL_CHARACTERS or not model.isprintable():
        return None
    for wildcard in policy.wildcards:
        prefix = wildcard.name[:-1]
        if len(model) > len(prefix) and model.startswith(prefix):
            return substitute(wildcard, model[len(prefix) :])
    return None


def substitute(wildcard: ModelRoute, matched: str) -> ModelRoute:
    """A wildcard's route for one name."""
    deployments = tuple(_substituted(deployment, matched) for deployment in wildcard.deployments)
    return ModelRoute(wildcard.name, deployments, wildcard.alias_of, wildcard.line)


def _substituted(deployment: Deployment, matched: str) -> Deployment:
    if "*" not in deployment.model and "*" not in deployment.priced_as:
        return deployment
    model = deployment.model.replace("*", matched)
    priced_as = deployment.priced_as.replace("*", matched)
    return msgspec.structs.replace(deployment, id=f"{deployment.provider}/{model}", model=model, priced_as=priced_as)


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern in which each `*` stands for any characters, none included. Linear, no regex."""
    pieces = pattern.split("*")
    if len(pieces) == 1:
        return pattern == name
    first, *middle, last = pieces
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    start, end = len(first), len(name) - len(last)
    for piece in middle:
        found = name.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True


def allowed(key_models: Sequence[str], model: str, alias_of: str = "") -> bool:
    """Whether a key with these names and patterns may use a model. Empty: every model.

    An alias is allowed by its own name, or because the model it stands for is.
    """
    if not key_models:
        return True
    return any(matches(pattern, model) or (alias_of != "" and matches(pattern, alias_of)) for pattern in key_models)


def visible_models(policy: Policy, key: KeyRecord) -> list[ModelRoute]:
    """What this key may ask for, sorted by name: exact names and aliases, and of wildcards each model that has prices,
    under its own name."""
    found = {route.name: route for route in policy.models.values() if allowed(key.models, route.name, route.alias_of)}
    for wildcard, matched in _priced(policy):
        name = wildcard.name[:-1] + matched
        if name not in found and allowed(key.models, name):
            found[name] = msgspec.structs.replace(substitute(wildcard, matched), name=name)
    return [found[name] for name in sorted(found)]


def close_matches(policy: Policy, model: str, key_models: Sequence[str] = ()) -> list[str]:
    """Up to three names a caller may have meant, of those its key may use, best first.

    `gpt-4o` where only `openai/gpt-4o` exists is found by its ending, a misspelling by likeness.
    """
    asked = model[:100]
    ending = "/" + asked
    names: list[str] = []
    candidates: list[str] = []
    for name, alias_of in _names(policy):
        if name == model or not allowed(key_models, name, alias_of):
            continue
        if name.endswith(ending) or asked.endswith("/" + name):
            names.append(name)
        elif len(candidates) < MAX_CANDIDATES:
            candidates.append(name)
    near = get_close_matches(asked, candidates, n=3, cutoff=0.6)
    return list(dict.fromkeys([*sorted(names, key=len), *near]))[:3]


def _names(policy: Policy) -> Iterable[tuple[str, str]]:
    for route in policy.models.values():
        yield route.name, route.alias_of
    for wildcard, matched in _priced(policy):
        yield wildcard.name[:-1] + matched, ""


def _priced(policy: Policy) -> Iterable[tuple[ModelRoute, str]]:
    """(wildcard, what its `*` then matches) for each model with prices that a wildcard reaches; the longest first."""
    for wildcard in policy.wildcards:
        deployment = wildcard.deployments[0]
        before, star, after = deployment.model.partition("*")
        if not star:
            continue
        head = f"{policy.providers[deployment.provider].kind}/{before}"
        for sheet_key in policy.sheets:
            named = "*" not in sheet_key and len(sheet_key) > len(head) + len(after)
            if named and sheet_key.startswith(head) and sheet_key.endswith(after):
                yield wildcard, sheet_key[len(head) : len(sheet_key) - len(after)]
