"""How many values of what callers send have counters: bounded per limit, and never by evicting one that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.core.errors import RateLimited
from gateway.core.limits import EACH, Limit
from gateway.limits.refusal import iso
from gateway.limits.scope import is_unbounded, scope_words, shown_values, split_values
from gateway.limits.windows import Span

_NEVER_MS = 1 << 62


@dataclass(slots=True)
class _Group:
    """Values of one limit within one owner: each with the moment its newest counter stops counting."""

    ends_ms: dict[str, int] = field(default_factory=dict)
    next_end_ms: int = _NEVER_MS

    def put(self, value: str, end_ms: int) -> None:
        self.ends_ms[value] = end_ms
        self.next_end_ms = min(self.next_end_ms, end_ms)

    def drop_ended(self, now_ms: int) -> None:
        if now_ms >= self.next_end_ms:
            self.ends_ms = {value: end_ms for value, end_ms in self.ends_ms.items() if now_ms < end_ms}
            self.next_end_ms = min(self.ends_ms.values(), default=_NEVER_MS)


class Values:
    """The live values of every limit that has `max_values`.

    They are counted apart for what configuration bounds (each key, each team): nobody can use up another's. `live`
    names the counters that exist when the first value is seen: after a restart they are not free again.
    """

    __slots__ = ("_groups", "_live", "_seeds")

    def __init__(self, live: Callable[[], Iterable[str]]) -> None:
        self._live = live
        self._seeds: dict[str, set[tuple[str, str]]] | None = None
        self._groups: dict[tuple[str, str], _Group] = {}

    def keep(self, limit_ids: set[str]) -> None:
        """Forgets limits that are no more."""
        self._groups = {place: group for place, group in self._groups.items() if place[0] in limit_ids}

    def admit(self, limit: Limit, values: tuple[str, ...], span: Span, now_ms: int, enforced: bool) -> bool:
        """Whether a counter for these values may be opened or exists. Raises RateLimited when not and the limit is
        enforced: a call that could not be counted is not let in."""
        known, made_up = split_values(limit, values)
        group = self._groups.get((limit.id, known))
        if group is None:
            group = self._groups[limit.id, known] = self._seeded(limit, known, span)
        end_ms = _NEVER_MS if span.end_ms is None else span.end_ms
        if made_up not in group.ends_ms:
            group.drop_ended(now_ms)
            if len(group.ends_ms) >= limit.max_values:
                if enforced:
                    raise _too_many(limit, values, group.next_end_ms)
                return False
        group.put(made_up, end_ms)
        return True

    def _seeded(self, limit: Limit, known: str, span: Span) -> _Group:
        """A group with the values that have counters in this window already."""
        if self._seeds is None:
            self._seeds = {}
            for name in self._live():
                limit_id, _, rest = name.partition("|")
                self._seeds.setdefault(limit_id, set()).add((rest.rpartition("|")[0], rest.rpartition("|")[2]))
        group = _Group()
        ids = frozenset(span.ids)
        for text, window_id in self._seeds.get(limit.id, ()):
            values = tuple(shown_values(text))
            if window_id in ids and len(values) == len(limit.scope):
                its_known, made_up = split_values(limit, values)
                if its_known == known:
                    group.put(made_up, _NEVER_MS if span.end_ms is None else span.end_ms)
        return group


def _too_many(limit: Limit, values: tuple[str, ...], frees_ms: int) -> RateLimited:
    pairs = list(zip([name for name, _ in limit.scope], values, strict=True))
    counted = [name for name, wanted in limit.scope if wanted == EACH and is_unbounded(name)]
    within = scope_words(pair for pair in pairs if pair[0] not in counted)
    asked = scope_words(pair for pair in pairs if pair[0] in counted)[:200]
    until = "" if frees_ms >= _NEVER_MS else f" Places are free again from {iso(frees_ms)};"
    return RateLimited(
        f"The limit {limit.name or limit.id} counts at most {limit.max_values} different values of "
        f"{' and '.join(counted)} for {within}, and all are taken: {asked} would be one more.{until} an operator can "
        "raise its max_values.",
        headers={"x-should-retry": "false"},
        extra={
            "limit_id": limit.id,
            "scope": asked,
            "max_values": limit.max_values,
            "resets_at": None if frees_ms >= _NEVER_MS else -(-frees_ms // 1000),
        },
    )
