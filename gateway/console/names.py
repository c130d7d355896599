"""What keys are called: the ring knows the living ones, the store also the revoked."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.console.parts import ConsoleParts
from gateway.core.errors import NotFound


async def key_names(parts: ConsoleParts, org: str, key_ids: Iterable[str]) -> dict[str, str]:
    """A name for each id; the id itself where there is none, or where it is another org's."""
    names: dict[str, str] = {}
    for key_id in key_ids:
        if key_id not in names:
            names[key_id] = await _name(parts, org, key_id)
    return names


async def _name(parts: ConsoleParts, org: str, key_id: str) -> str:
    record = parts.ring.by_id(key_id)
    if record is not None:
        return record.name if record.org == org else key_id
    try:
        view = await parts.config.key(key_id)
    except NotFound:
        return key_id
    return view.name if view.org == org else key_id
