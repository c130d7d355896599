"""Every engine the room has, found as the gateway finds members."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

import pytest

import gateway.counters
from gateway.core.ports import LimitEngine


def members() -> list[Callable[[], LimitEngine]]:
    modules = [import_module(f"gateway.counters.{module.name}") for module in iter_modules(gateway.counters.__path__)]
    return [vars(module)["MEMBER"] for module in modules if "MEMBER" in vars(module)]


@pytest.fixture(params=members(), ids=lambda member: member.name)
def engine(request: pytest.FixtureRequest) -> LimitEngine:
    made: LimitEngine = request.param()
    return made
