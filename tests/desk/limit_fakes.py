"""Limits of their own in memory: the part of a configuration store, and what counters hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.core.config import KeyDelta, LimitChange
from gateway.core.errors import Conflict, NotFound
from gateway.core.ids import make_id, print_id
from gateway.core.limit_admin import LimitView
from gateway.core.limits import Limit, Suspension
from gateway.core.ports import Clock, Entropy


class Standings:
    """Counters by name, as the bookkeeper knows them; `away`: nobody answers."""

    def __init__(self) -> None:
        self.counters: dict[str, tuple[int, int]] = {}
        self.away = False

    async def of(self, counters: Sequence[str]) -> list[tuple[int, int]] | None:
        return None if self.away else [self.counters.get(name, (0, 0)) for name in counters]


@dataclass(kw_only=True)
class MemoryLimits:
    """core.limit_admin.LimitStore over dictionaries."""

    clock: Clock
    entropy: Entropy
    scoped: dict[str, LimitView] = field(default_factory=dict)
    lifted: dict[str, tuple[str, Suspension]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def _up(self) -> None:
        raise NotImplementedError

    def _commit(self, kind: str, subject: str, actor: str, delta: KeyDelta | None = None) -> int:
        raise NotImplementedError

    def _new_id(self, kind: str) -> str:
        return print_id(kind, make_id(self.clock.now_ms(), self.entropy.bytes(10)))

    def _changed(self, kind: str, change: LimitChange, actor: str) -> int:
        return self._commit(kind, change.id, actor, KeyDelta(0, change.id, None, change))

    def _taken(self, org: str, limit: Limit) -> None:
        for view in self.scoped.values():
            if view.org == org and view.limit.name == limit.name and view.limit.id != limit.id:
                raise Conflict(f"There is a limit named {limit.name!r} already.", param="name")

    async def create_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        self._up()
        own = self._new_id("lim")
        limit = msgspec.structs.replace(limit, id=own, name=limit.name or own)
        self._taken(org, limit)
        view = self.scoped[own] = LimitView(limit, org, self.clock.now_ms(), actor)
        self.owners[own] = org
        return view, self._changed("limit.created", LimitChange(own, limit), actor)

    async def replace_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        before = await self.limit(org, limit.id)
        self._taken(org, limit)
        view = self.scoped[limit.id] = msgspec.structs.replace(before, limit=limit)
        return view, self._changed("limit.updated", LimitChange(limit.id, limit), actor)

    async def remove_limit(self, org: str, limit_id: str, *, actor: str) -> int:
        found = await self.limit(org, limit_id)
        del self.scoped[found.limit.id]
        return self._changed("limit.removed", LimitChange(found.limit.id), actor)

    async def limit(self, org: str, name: str) -> LimitView:
        self._up()
        for view in self.scoped.values():
            if view.org == org and name in (view.limit.id, view.limit.name):
                return view
        raise NotFound(f"There is no limit {name}.")

    async def limits(self, org: str) -> list[LimitView]:
        self._up()
        return sorted((v for v in self.scoped.values() if v.org == org), key=lambda view: view.limit.name)

    async def suspend(self, org: str, suspension: Suspension) -> tuple[Suspension, int]:
        self._up()
        made = msgspec.structs.replace(suspension, id=self._new_id("sus"))
        self.lifted[made.id] = (org, made)
        self.owners[made.id] = org
        return made, self._changed("limits.suspended", LimitChange(made.id, suspension=made), made.actor)

    async def end_suspension(self, org: str, suspension_id: str, *, actor: str) -> int:
        self._up()
        owner, found = self.lifted.get(suspension_id, ("", None))
        if found is None or owner != org:
            raise NotFound(f"There is no suspension {suspension_id}.")
        self.lifted[suspension_id] = (org, msgspec.structs.replace(found, until_ms=self.clock.now_ms()))
        return self._changed("limits.resumed", LimitChange(suspension_id), actor)

    async def suspensions(self, org: str, limit: int = 100) -> list[Suspension]:
        self._up()
        return [one for owner, one in reversed(self.lifted.values()) if owner == org][:limit]

    async def org_of_limit(self, subject: str) -> str | None:
        return self.owners.get(subject)
