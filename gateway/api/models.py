"""`/v1/models`: the names this key may ask for, in OpenAI's shape."""

from __future__ import annotations

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.config import Policy
from gateway.core.errors import ModelNotFound
from gateway.routing.resolve import allowed, close_matches, find_route, visible_models

_ENCODER = msgspec.json.Encoder()
_EPOCH = 0


def list_models(policy: Policy, key: KeyRecord) -> bytes:
    """`{"object":"list","data":[…]}` of the exact names, aliases included; wildcards are not names."""
    rows = [_row(route.name, route.deployments[0].provider) for route in visible_models(policy, key)]
    return _ENCODER.encode({"object": "list", "data": rows})


def one_model(policy: Policy, key: KeyRecord, name: str) -> bytes:
    """One name, also one that only a wildcard covers. Raises ModelNotFound naming close matches."""
    route = find_route(policy, name)
    if route is None or not allowed(key.models, name, route.alias_of):
        near = close_matches(policy, name, key.models)
        hint = f" Close names: {', '.join(near)}." if near else " GET /v1/models lists the names."
        raise ModelNotFound(f"The model {name!r} does not exist or this key may not use it.{hint}", param="model")
    return _ENCODER.encode(_row(name, route.deployments[0].provider))


def _row(name: str, provider: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _EPOCH, "owned_by": provider}
