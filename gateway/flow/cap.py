"""What limits that do not simply refuse make of a call they have no room for: less output, or another model.

A cap is proven as a hold is: the very bound of the request with the smaller limit in it, which is at most what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from gateway.core.call import Head
from gateway.core.limits import Blocked, HoldKind, OnExceed, Unit, Want
from gateway.core.ports import Composed
from gateway.flow.services import Services
from gateway.flow.state import Passage, Target


class Cap(msgspec.Struct, frozen=True):
    """A call as it goes on with `tokens` of output a choice at most; `limit_ids` are the limits that ask for it."""

    composed: Composed
    tokens: int
    limit_ids: tuple[str, ...]


def downgrades_in_the_way(services: Services, wants: Sequence[Want]) -> tuple[tuple[str, str], ...]:
    """(limit id, public model to go on with) of the limits that have no room and say so."""
    limits = [one.want.limit for one in _blocked(services, wants)]
    return tuple([(limit.id, limit.downgrade_to) for limit in limits if limit.on_exceed is OnExceed.DOWNGRADE])


def caps_in_the_way(
    passage: Passage, services: Services, composed: Composed, target: Target, wants: Sequence[Want], now_ms: int
) -> Iterator[Cap]:
    """Caps to try, the most output first: into what all limits in the way have left now, then the least that is worth a
    call, which may fit once running calls have ended. Nothing where none of those limits caps, or the output cannot be
    limited."""
    blocked = _blocked(services, wants)
    capping = [one.want.limit for one in blocked if one.want.limit.on_exceed is OnExceed.CAP_OUTPUT]
    if not capping:
        return
    top = _most_output(composed.head, target)
    least = max(limit.min_output for limit in capping)
    body = None
    if least < top:
        body = target.wire.with_output_limit(composed.body, top, target.row.quirks)
    if body is None:
        return
    head = msgspec.structs.replace(composed.head, text_bytes=len(body))  # no smaller limit is written longer
    search = _Search(services, head, target, blocked, now_ms)
    tokens = search.largest(least, top)
    for size in dict.fromkeys((tokens, least) if tokens else (least,)):
        capped = target.wire.with_output_limit(composed.body, size, target.row.quirks)
        if capped is None:
            return
        its_head = msgspec.structs.replace(head, max_output_tokens=size, text_bytes=len(capped))
        made = msgspec.structs.replace(composed, body=capped, head=its_head)
        yield Cap(made, size, tuple([limit.id for limit in capping]))


def _blocked(services: Services, wants: Sequence[Want]) -> list[Blocked]:
    """Every enforced limit that has no room for its want."""
    enforced = [want for want in wants if want.enforced]
    return [found for want in enforced if (found := services.limits.check((want,))) is not None]


def _most_output(head: Head, target: Target) -> int:
    """The tokens a choice may have now; 0 where a smaller limit would bound nothing: there is no output, the model
    thinks beyond its limit, or nobody knows what it costs."""
    sheet = target.sheet
    if sheet is None or sheet.output_beyond or sheet.unbounded or not head.output_expected:
        return 0
    model_max = sheet.max_output_tokens or sheet.context_window
    if head.max_output_tokens is None:
        return model_max
    return min(head.max_output_tokens, model_max) if model_max else head.max_output_tokens


class _Search:
    """The largest output whose proven bound fits what is left of every limit in the way. Of one that holds an estimate
    that is not asked: whoever takes the cap checks again."""

    def __init__(self, services: Services, head: Head, target: Target, blocked: Sequence[Blocked], now_ms: int) -> None:
        self._services = services
        self._head = head
        self._target = target
        self._now_ms = now_ms
        self._rooms = [
            (one.want.limit.unit, one.want.limit.amount - one.spent - one.reserved)
            for one in blocked
            if one.want.limit.hold is HoldKind.BOUND
        ]

    def largest(self, least: int, beyond: int) -> int:
        """From `least` on and below `beyond`; 0 when not even the least fits. A bound never falls as output grows."""
        if not self._fits(least):
            return 0
        fits, too_much = least, beyond
        while too_much - fits > 1:
            middle = (fits + too_much) // 2
            if self._fits(middle):
                fits = middle
            else:
                too_much = middle
        return fits

    def _fits(self, tokens: int) -> bool:
        head = msgspec.structs.replace(self._head, max_output_tokens=tokens)
        target = self._target
        bound = self._services.prices.bound(
            head,
            target.sheet,
            self._now_ms,
            target.provider.region,
            implicit_writes=not target.row.quirks.writes_marked_only,
        )
        if bound.nusd is None:
            return False
        return all((bound.nusd if unit is Unit.USD else bound.tokens) <= room for unit, room in self._rooms)
