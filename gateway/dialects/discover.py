"""Finds every surface of this room, and those that third parties add by the entry point `faregate.dialects`."""

from __future__ import annotations

import gateway.dialects
from gateway.core.members import discover_members
from gateway.core.ports import Surface

ENTRY_POINTS = "faregate.dialects"


def discover() -> dict[str, Surface]:
    """Surfaces by name, in name order. Raises ConfigInvalid when two claim one name."""
    return discover_members("gateway.dialects", gateway.dialects.__path__, lambda surface: surface.name, ENTRY_POINTS)
