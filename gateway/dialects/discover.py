"""Finds every surface: each module of this package, and each entry point `faregate.dialects`, that exports MEMBER."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import walk_packages

import gateway.dialects
from gateway.core.errors import ConfigInvalid
from gateway.core.ports import Surface

ENTRY_POINTS = "faregate.dialects"


def discover() -> dict[str, Surface]:
    """Surfaces by name, in name order. Raises ConfigInvalid when two claim one name."""
    found: dict[str, Surface] = {}
    for surface in (*_own(), *_foreign()):
        if surface.name in found:
            raise ConfigInvalid(f"Two dialect members are named {surface.name!r}; remove one of them.")
        found[surface.name] = surface
    return dict(sorted(found.items()))


def _own() -> list[Surface]:
    names = sorted(module.name for module in walk_packages(gateway.dialects.__path__, "gateway.dialects."))
    modules = [vars(import_module(name)) for name in names]
    return [module["MEMBER"] for module in modules if "MEMBER" in module]


def _foreign() -> list[Surface]:
    return [point.load() for point in entry_points(group=ENTRY_POINTS)]
