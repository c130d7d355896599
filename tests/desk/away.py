"""Ports of a store that is away: every question is answered with StoreUnavailable."""

from __future__ import annotations

from typing import Any

from gateway.core.errors import StoreUnavailable


class Away:
    """Whatever port is wanted: each of its methods fails."""

    def __getattr__(self, name: str) -> Any:
        async def asked(*_: object, **__: object) -> object:
            raise StoreUnavailable(f"{name}: the store is away")

        return asked
