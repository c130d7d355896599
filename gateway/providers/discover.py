"""Finds every provider row: each module of this package, and each entry point `faregate.providers`, with a MEMBER."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

import gateway.providers
from gateway.core.errors import ConfigInvalid
from gateway.providers.row import ProviderRow

ENTRY_POINTS = "faregate.providers"


def discover() -> dict[str, ProviderRow]:
    """Rows by kind, in name order. Raises ConfigInvalid when two claim one kind."""
    found: dict[str, ProviderRow] = {}
    for row in (*_own(), *_foreign()):
        if row.kind in found:
            raise ConfigInvalid(f"Two provider rows are of kind {row.kind!r}; remove one of them.")
        found[row.kind] = row
    return dict(sorted(found.items()))


def _own() -> list[ProviderRow]:
    names = sorted(module.name for module in iter_modules(gateway.providers.__path__, "gateway.providers."))
    modules = [vars(import_module(name)) for name in names]
    return [module["MEMBER"] for module in modules if "MEMBER" in module]


def _foreign() -> list[ProviderRow]:
    return [point.load() for point in entry_points(group=ENTRY_POINTS)]
