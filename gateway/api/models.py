"""`/v1/models`: the names this key may ask for, in one shape that OpenAI's and Anthropic's SDKs both read.

Both dialects ask at the same path for lists that differ in their members only, and both keep members they do not know:
so every answer has them all. The list is cut into pages only for who asks for one, as Anthropic's SDKs can. Codex asks
with its `client_version` for a list of its own, whose rows bring the very instructions that it works with: it gets an
empty one and keeps what it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.config import Policy
from gateway.core.errors import BadRequest, ModelNotFound
from gateway.routing.resolve import allowed, close_matches, find_route, visible_models

_ENCODER = msgspec.json.Encoder()
_EPOCH = 0
Row = dict[str, object]


def list_models(policy: Policy, key: KeyRecord, query: str = "") -> bytes:
    """`{"object":"list","data":[…],"has_more":…}` of the exact names, aliases included; wildcards are not names.

    `query` may ask for a page: `limit` names after `after_id` or before `before_id`. Raises BadRequest.
    """
    rows = [_row(route.name, route.deployments[0].provider) for route in visible_models(policy, key)]
    asked = dict(parse_qsl(query))
    rows, more = _page(rows, asked)
    ends = {"first_id": rows[0]["id"] if rows else None, "last_id": rows[-1]["id"] if rows else None}
    codex: Row = {"models": []} if "client_version" in asked else {}
    return _ENCODER.encode({"object": "list", "data": rows, "has_more": more, **ends, **codex})


def _page(rows: list[Row], asked: Mapping[str, str]) -> tuple[list[Row], bool]:
    """The rows asked for, and whether there are more in that direction. A name that is not there begins at an end."""
    said = asked.get("limit", str(len(rows) or 1))
    limit = int(said) if said.isascii() and said.isdecimal() and len(said) < 6 else 0
    if limit < 1:
        raise BadRequest("limit must be a whole number from 1 to 99999.", param="limit")
    names = [row["id"] for row in rows]
    before = asked.get("before_id")
    if before in names:
        end = names.index(before)
        return rows[max(0, end - limit) : end], end > limit
    after = asked.get("after_id")
    start = names.index(after) + 1 if after in names else 0
    return rows[start : start + limit], len(rows) > start + limit


def one_model(policy: Policy, key: KeyRecord, name: str) -> bytes:
    """One name, also one that only a wildcard covers. Raises ModelNotFound naming close matches."""
    route = find_route(policy, name)
    if route is None or not allowed(key.models, name, route.alias_of):
        near = close_matches(policy, name, key.models)
        hint = f" Close names: {', '.join(near)}." if near else " GET /v1/models lists the names."
        raise ModelNotFound(f"The model {name!r} does not exist or this key may not use it.{hint}", param="model")
    return _ENCODER.encode(_row(name, route.deployments[0].provider))


def _row(name: str, provider: str) -> Row:
    return {
        "id": name,
        "object": "model",
        "created": _EPOCH,
        "owned_by": provider,
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    }
