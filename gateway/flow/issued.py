"""Ids of what providers keep: named for the organisation that gets them, and led back to the provider that issued them.

A surface whose replies name such state is bound to its caller for each planned provider, so that whatever it says is
said in the caller's names. A call that goes on from such state is planned only where that state is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec

from gateway.core.call import Head
from gateway.core.errors import BadRequest, PreviousResponseNotFound, ResponseNotFound
from gateway.core.issued import IssuedIds
from gateway.core.ports import Composed, StatefulSurface, Surface
from gateway.flow.state import Passage, Target
from gateway.providers.row import RESPONSES

NO_IDS = IssuedIds(())
REMEMBERED = 4096


class Issued:
    """The surfaces whose replies name state, by name, and how that is named. By default there are none, and no state
    is gone on from."""

    __slots__ = ("_bound", "ids", "surfaces")

    def __init__(self, ids: IssuedIds = NO_IDS, surfaces: Mapping[str, StatefulSurface] | None = None) -> None:
        self.ids = ids
        self.surfaces = dict(surfaces or {})
        self._bound: dict[tuple[str, int], tuple[tuple[Target, ...], tuple[Target, ...]]] = {}

    @property
    def asked(self) -> Surface | None:
        """The surface under which what is asked of kept state is recorded; None where there is no such state."""
        surface = self.surfaces.get(RESPONSES)
        return None if surface is None else surface.kept("", "", str)

    def gone_on(self, passage: Passage, composed: Composed) -> Composed:
        """The call with the provider's own id of the reply it goes on from, whose provider is noted in the passage.
        Raises PreviousResponseNotFound for an id that was not issued to its organisation."""
        name = composed.head.previous_id
        if not name:
            return composed
        surface = self.surfaces.get(passage.surface.name)
        found = self.ids.find(name, passage.caller.key.org, passage.policy.providers) if surface is not None else None
        if found is None or surface is None:
            raise PreviousResponseNotFound(
                f"Previous response with id {name[:100]!r} not found.", param="previous_response_id"
            )
        upstream_id, passage.kept_at = found
        return msgspec.structs.replace(composed, body=surface.with_previous(composed.body, upstream_id))

    def found(self, passage: Passage, name: str) -> tuple[str, str]:
        """(the provider's id, its provider) of an id that was issued to the call's organisation. Raises
        ResponseNotFound."""
        found = self.ids.find(name, passage.caller.key.org, passage.policy.providers)
        if found is None:
            raise ResponseNotFound(f"Response with id {name[:100]!r} not found.")
        return found

    def kept(self, passage: Passage, provider: str, upstream_id: str, path: str) -> Surface:
        """What is asked of a response that `provider` keeps, said in the caller's names."""
        surface = self.surfaces[RESPONSES]
        return surface.kept(upstream_id, path, partial(self.ids.name, org=passage.caller.key.org, provider=provider))

    def bound(self, passage: Passage, head: Head, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """The targets as this call may use them: those where its state is, speaking in its caller's names. Raises
        BadRequest where that leaves none."""
        surface = self.surfaces.get(passage.surface.name)
        if surface is None:
            return targets
        if passage.kept_at:
            targets = tuple(
                [
                    one
                    for one in targets
                    if one.provider.name == passage.kept_at and one.wire is passage.surface and one.row.keeps_responses
                ]
            )
            if not targets:
                raise BadRequest(
                    f"The model {head.model} is not served where the previous response is kept. Use a model of the "
                    "same provider, or send the whole input.",
                    param="previous_response_id",
                )
            found = self.ids.find(head.previous_id, passage.caller.key.org, (passage.kept_at,))
            previous = "" if found is None else found[0]
            return tuple([self._naming(passage, surface, one, previous) for one in targets])
        key = (passage.caller.key.org, id(targets))
        known = self._bound.get(key)
        if known is not None and known[0] is targets:
            return known[1]
        made = tuple([self._naming(passage, surface, one) for one in targets])
        if len(self._bound) >= REMEMBERED:
            self._bound.clear()
        self._bound[key] = (targets, made)  # a plan is the same object until the policy changes
        return made

    def _naming(self, passage: Passage, surface: StatefulSurface, target: Target, previous: str = "") -> Target:
        if target.wire is not passage.surface:
            return target
        name = partial(self.ids.name, org=passage.caller.key.org, provider=target.provider.name)
        return msgspec.structs.replace(target, wire=surface.naming(name, previous))
