"""Finds every HTTP client of this room."""

from __future__ import annotations

import gateway.upstream
from gateway.core.members import discover_members
from gateway.upstream.member import UpstreamMember


def discover() -> dict[str, UpstreamMember]:
    """Clients by name, in name order. Raises ConfigInvalid when two claim one name."""
    return discover_members("gateway.upstream", gateway.upstream.__path__, lambda member: member.name)
