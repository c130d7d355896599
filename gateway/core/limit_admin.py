"""What can be asked and told of limits that are no key's own and that SQL owns: a port beside `core.admin`."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.core.limits import Limit, Suspension


class LimitView(msgspec.Struct, frozen=True):
    """A limit of an org, with who made it. Times are ms UTC."""

    limit: Limit
    org: str
    created_ms: int
    created_by: str


class LimitStore(Protocol):
    """The only writer of limits in SQL. Every method acts within one org; another org's limits do not exist there.

    Writes return the revision they were committed at. Raises Conflict (a name taken), NotFound, StoreUnavailable.
    """

    async def create_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        """A new limit; its id is given here, its name is its id where it has none."""
        ...

    async def replace_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        """Another state of the limit with this id. What was spent stays spent."""
        ...

    async def remove_limit(self, org: str, limit_id: str, *, actor: str) -> int: ...

    async def limit(self, org: str, name: str) -> LimitView:
        """By id, or by name."""
        ...

    async def limits(self, org: str) -> list[LimitView]:
        """By their names."""
        ...

    async def suspend(self, org: str, suspension: Suspension) -> tuple[Suspension, int]:
        """A suspension; its id is given here."""
        ...

    async def end_suspension(self, org: str, suspension_id: str, *, actor: str) -> int:
        """It ends now."""
        ...

    async def suspensions(self, org: str, limit: int = 100) -> list[Suspension]:
        """The newest first, ended ones included."""
        ...

    async def org_of_limit(self, subject: str) -> str | None:
        """Whose limit or suspension an id was given to, removed ones included; None when it is neither's."""
        ...
