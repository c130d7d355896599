"""Finds every provider row of this room, and those that third parties add by the entry point `faregate.providers`."""

from __future__ import annotations

import gateway.providers
from gateway.core.members import discover_members
from gateway.providers.row import ProviderRow

ENTRY_POINTS = "faregate.providers"


def discover() -> dict[str, ProviderRow]:
    """Rows by kind, in name order. Raises ConfigInvalid when two claim one kind."""
    return discover_members("gateway.providers", gateway.providers.__path__, lambda row: row.kind, ENTRY_POINTS)
