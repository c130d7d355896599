"""How a surface reaches a deployment: as it is where its provider serves it, else translated into what it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.core.config import Deployment, OnUnsupported
from gateway.core.ports import Surface, Wire
from gateway.providers.row import ProviderRow


class TranslatingWire(Wire, Protocol):
    """A wire that may have to leave out what the other dialect has no words for."""

    def on_unsupported(self, what: OnUnsupported) -> Wire:
        """The same wire that does `what` with it."""
        ...


Translations = Mapping[str, tuple[TranslatingWire, ...]]
"""By the caller's surface: translations into others, the one that loses least first."""


class Wires:
    """Finds the wires between surfaces and deployments."""

    __slots__ = ("_translations",)

    def __init__(self, translations: Translations) -> None:
        self._translations = translations

    def between(self, surface: Surface, row: ProviderRow, deployment: Deployment) -> Wire | None:
        """None when the provider can neither serve the surface nor anything it can be translated into."""
        wanted = deployment.translate_to or row.needs_other_surface(surface.name, deployment.model)
        if wanted and wanted != surface.name:
            return self._translated(surface, row, deployment, wanted)
        if surface.name in row.endpoints:
            return surface
        return self._translated(surface, row, deployment, "")

    def for_thinking_with_tools(self, surface: Surface, row: ProviderRow, deployment: Deployment) -> Wire | None:
        """The wire of a call with both tools and a wish to think, where the model refuses the two on this surface."""
        if deployment.translate_to:
            return None
        wanted = row.other_surface_for_tools(surface.name, deployment.model)
        return self._translated(surface, row, deployment, wanted) if wanted else None

    def _translated(self, surface: Surface, row: ProviderRow, deployment: Deployment, wanted: str) -> Wire | None:
        for wire in self._translations.get(surface.name, ()):
            if wire.name in row.endpoints and wanted in ("", wire.name):
                return wire.on_unsupported(deployment.on_unsupported)
        return None
