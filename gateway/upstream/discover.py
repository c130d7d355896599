"""Finds every HTTP client of this room: each module with a MEMBER."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import gateway.upstream
from gateway.core.errors import ConfigInvalid
from gateway.upstream.member import UpstreamMember


def discover() -> dict[str, UpstreamMember]:
    """Clients by name, in name order. Raises ConfigInvalid when two claim one name."""
    found: dict[str, UpstreamMember] = {}
    for module in sorted(module.name for module in iter_modules(gateway.upstream.__path__, "gateway.upstream.")):
        member: UpstreamMember | None = vars(import_module(module)).get("MEMBER")
        if member is None:
            continue
        if member.name in found:
            raise ConfigInvalid(f"Two upstream clients are named {member.name!r}; remove one of them.")
        found[member.name] = member
    return dict(sorted(found.items()))
