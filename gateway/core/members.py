"""How a room finds its members: each module of its package that exports MEMBER, and what others add by entry point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import walk_packages
from typing import Any

from gateway.core.errors import ConfigInvalid


def discover_members(
    package: str, path: Sequence[str], name_of: Callable[[Any], str], group: str = ""
) -> dict[str, Any]:
    """Members by name, in name order. `group` is the entry point through which third parties join (empty: none).

    Raises ConfigInvalid when two claim one name: which of them would answer must not depend on chance.
    """
    modules = sorted(module.name for module in walk_packages(path, f"{package}."))
    own = [vars(import_module(name)).get("MEMBER") for name in modules]
    foreign = [point.load() for point in entry_points(group=group)] if group else []
    found: dict[str, Any] = {}
    for member in (*own, *foreign):
        if member is None:
            continue
        name = name_of(member)
        if name in found:
            raise ConfigInvalid(f"Two members of {package} are named {name!r}; remove one of them.")
        found[name] = member
    return dict(sorted(found.items()))
