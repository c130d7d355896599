"""Runs `gateway.annex` in an interpreter of its own: `python -I …/gateway/annex/launch.py`.

That environment has litellm and not Faregate. It is lent the package `gateway` from where this file lies and nothing
else from there: with the folder on `sys.path`, every dependency of the gateway would be found too, in versions that
litellm's own would then have to get along with. So the two are never of different versions.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path


def lend(package: Path) -> None:
    """Makes `gateway` importable from `package`, without its parent folder."""
    name = package.name
    found = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if found is None or found.loader is None:
        raise ImportError(f"{package} is no package")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)


if __name__ == "__main__":
    lend(Path(__file__).resolve().parent.parent)
    runpy.run_module("gateway.annex", run_name="__main__", alter_sys=True)
