"""All limits that are no key's own, so arranged that those of a key are found without looking at the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.config import LimitChange, Policy
from gateway.core.limits import EACH, Limit, Suspension
from gateway.limits.scope import OWNERS, Scope, owns

Place = tuple[str, str]
Scoped = TypeVar("Scoped", Limit, Suspension)
_ANYBODY: Place = ("", "")


class Rules:
    """Limits of files and of SQL with their suspensions, as of one moment. Never changes: another configuration is
    another object.

    `aliases` are the public names that stand for another model: a limit on a model holds for all of its names.
    """

    __slots__ = ("_by_owner", "aliases", "limits", "suspensions")

    def __init__(
        self,
        limits: Iterable[Limit] = (),
        suspensions: Iterable[Suspension] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.aliases: Mapping[str, str] = aliases or {}
        self.limits = tuple(sorted((self._for_models(limit) for limit in limits), key=lambda limit: limit.id))
        self.suspensions = tuple(sorted((self._for_models(one) for one in suspensions), key=lambda one: one.id))
        self._by_owner: dict[Place, list[Limit]] = {}
        for limit in self.limits:
            self._by_owner.setdefault(_place(limit.scope), []).append(limit)

    def __bool__(self) -> bool:
        return bool(self.limits or self.suspensions)

    def _for_models(self, one: Scoped) -> Scoped:
        """A limit or suspension on an alias is one on the model it stands for."""
        scope = tuple((name, self.aliases.get(value, value) if name == "model" else value) for name, value in one.scope)
        return one if scope == one.scope else msgspec.structs.replace(one, scope=scope)

    def of(self, key: KeyRecord) -> list[Limit]:
        """The limits whose owners are this key's, in the order of their ids. What else they ask of a call is open."""
        places = ((dimension, value) for dimension, value in _owners(key))
        found = [limit for place in (_ANYBODY, *places) for limit in self._by_owner.get(place, ())]
        return sorted((limit for limit in found if owns(limit.scope, key)), key=lambda limit: limit.id)

    def suspended(self, key: KeyRecord, now_ms: int) -> list[Suspension]:
        """Suspensions in force whose owners are this key's."""
        return [one for one in self.suspensions if now_ms < one.until_ms and owns(one.scope, key)]


NO_RULES = Rules()


def rules_of(policy: Policy, changes: Iterable[LimitChange]) -> Rules:
    """The rules of a configuration: the files' limits and the state of SQL's."""
    of_sql = [change for change in changes if not change.gone]
    return Rules(
        (*policy.limits, *(change.limit for change in of_sql if change.limit is not None)),
        (change.suspension for change in of_sql if change.suspension is not None),
        {name: route.alias_of for name, route in policy.models.items() if route.alias_of},
    )


def _place(scope: Scope) -> Place:
    """Under which owner a limit is filed: its narrowest one with a value of its own."""
    fixed = {dimension: value for dimension, value in scope if value != EACH}
    for dimension in reversed(OWNERS):
        if dimension in fixed:
            return dimension, fixed[dimension]
    return _ANYBODY


def _owners(key: KeyRecord) -> tuple[Place, ...]:
    return ("org", key.org), ("team", key.team), ("key", key.key_id)
