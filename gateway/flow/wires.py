"""How a surface reaches a provider: as it is where the provider serves it, else translated into what it serves."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.ports import Surface, Wire
from gateway.providers.row import ProviderRow

Translations = Mapping[str, tuple[Wire, ...]]
"""By the caller's surface: translations into others, the one that loses least first."""


class Wires:
    """Wires with a memory: what is found for a surface and a kind of provider never changes."""

    __slots__ = ("_found", "_translations")

    def __init__(self, translations: Translations) -> None:
        self._translations = translations
        self._found: dict[tuple[str, str], Wire | None] = {}

    def between(self, surface: Surface, row: ProviderRow) -> Wire | None:
        """None when a provider of this kind can neither serve the surface nor anything it can be translated into."""
        key = (surface.name, row.kind)
        try:
            return self._found[key]
        except KeyError:
            wire = self._found[key] = self._find(surface, row)
            return wire

    def _find(self, surface: Surface, row: ProviderRow) -> Wire | None:
        if surface.name in row.endpoints:
            return surface
        ways = self._translations.get(surface.name, ())
        return next((wire for wire in ways if wire.name in row.endpoints), None)
