"""How many values of what callers send have counters: bounded per limit, and never by evicting one that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.core.errors import RateLimited
from gateway.core.limits import EACH, Limit
from gateway.limits.headers import iso
from gateway.limits.scope import counted_value, is_unbounded, mark_of, scope_words, split_values
from gateway.limits.windows import Span

_NEVER_MS = 1 << 62
PROOF_MS = 10_000
"""A value whose call came to nothing has no counter. This long after, its place is free again: whatever does count is
in a counter by then."""
RECOUNT_MS = 1000
"""Callers can fill places as fast as they like: the counters are looked through no more often than this."""


@dataclass(slots=True)
class _Group:
    """Values of one limit within one owner: each with the moment its newest counter stops counting.

    `unproven` are those that were let in and not yet seen to have a counter, with the moment they were let in.
    """

    ends_ms: dict[str, int] = field(default_factory=dict)
    next_end_ms: int = _NEVER_MS
    unproven: dict[str, int] = field(default_factory=dict)

    def put(self, value: str, end_ms: int) -> None:
        self.ends_ms[value] = end_ms
        self.next_end_ms = min(self.next_end_ms, end_ms)

    def drop_ended(self, now_ms: int) -> None:
        if now_ms >= self.next_end_ms:
            self._keep(lambda value: now_ms < self.ends_ms[value])

    def drop_uncounted(self, counted: set[str], now_ms: int) -> bool:
        """Frees the places of values that came to nothing. Whether there were any."""
        gone = {value for value, at_ms in self.unproven.items() if value not in counted and now_ms - at_ms >= PROOF_MS}
        self.unproven = {value: at for value, at in self.unproven.items() if value not in counted | gone}
        if gone:
            self._keep(lambda value: value not in gone)
        return bool(gone)

    def _keep(self, is_kept: Callable[[str], bool]) -> None:
        self.ends_ms = {value: end_ms for value, end_ms in self.ends_ms.items() if is_kept(value)}
        self.unproven = {value: at_ms for value, at_ms in self.unproven.items() if value in self.ends_ms}
        self.next_end_ms = min(self.ends_ms.values(), default=_NEVER_MS)


class Values:
    """The live values of every limit that has `max_values`.

    They are counted apart for what configuration bounds (each key, each team): nobody can use up another's. `live`
    names the counters that exist: after a restart their values are not free again, and a value that has none after a
    while gives its place back. `forget` is called then: what is remembered of calls may let such values in.
    """

    __slots__ = ("_forget", "_groups", "_live", "_recounted_ms", "_seeds")

    def __init__(self, live: Callable[[], Iterable[str]], forget: Callable[[], None]) -> None:
        self._live = live
        self._forget = forget
        self._seeds: dict[tuple[str, str], set[str]] | None = None
        self._groups: dict[tuple[str, str, str], _Group] = {}
        self._recounted_ms = 0

    def keep(self, limits: Iterable[Limit]) -> None:
        """Forgets limits that are no more, or count something else under their id."""
        kept = {(limit.id, mark_of(limit)) for limit in limits}
        groups = {place: group for place, group in self._groups.items() if place[:2] in kept}
        if len(groups) < len(self._groups):
            self._groups, self._seeds = groups, None  # one that comes back finds the counters there are then

    def admit(self, limit: Limit, values: tuple[str, ...], span: Span, now_ms: int, enforced: bool) -> bool:
        """Whether a counter for these values may be opened or exists. Raises RateLimited when not and the limit is
        enforced: a call that could not be counted is not let in."""
        known, made_up = split_values(limit, counted_value(values))
        place = limit.id, mark_of(limit), known
        group = self._groups.get(place)
        if group is None:
            group = self._groups[place] = self._seeded(limit, known, span)
        if made_up not in group.ends_ms:
            group.drop_ended(now_ms)
            if len(group.ends_ms) >= limit.max_values and not self._freed(group, limit, known, span, now_ms):
                if enforced:
                    raise _too_many(limit, values, group.next_end_ms)
                return False
            group.unproven[made_up] = now_ms
        group.put(made_up, _NEVER_MS if span.end_ms is None else span.end_ms)
        return True

    def _freed(self, group: _Group, limit: Limit, known: str, span: Span, now_ms: int) -> bool:
        """Whether a value that never was counted gave its place back."""
        if not group.unproven or 0 <= now_ms - self._recounted_ms < RECOUNT_MS:
            return False
        self._recounted_ms = now_ms
        self._seeds = None
        if not group.drop_uncounted(self._counted(limit, known, span), now_ms):
            return False
        self._forget()
        return len(group.ends_ms) < limit.max_values

    def _seeded(self, limit: Limit, known: str, span: Span) -> _Group:
        """A group with the values that have counters in this window already."""
        group = _Group()
        for made_up in self._counted(limit, known, span):
            group.put(made_up, _NEVER_MS if span.end_ms is None else span.end_ms)
        return group

    def _counted(self, limit: Limit, known: str, span: Span) -> set[str]:
        """What of a limit's made-up values has counters in this window, within one owner."""
        if self._seeds is None:
            self._seeds = {}
            for name in self._live():
                limit_id, _, rest = name.partition("|")
                text, _, window_id = rest.rpartition("|")
                self._seeds.setdefault((limit_id, window_id), set()).add(text)
        found, mark = set(), mark_of(limit)
        for window_id in span.ids:
            for text in self._seeds.get((limit.id, f"{window_id}{mark}"), ()):
                its_known, made_up = split_values(limit, text)
                if its_known == known:
                    found.add(made_up)
        return found


def _too_many(limit: Limit, values: tuple[str, ...], frees_ms: int) -> RateLimited:
    pairs = list(zip([name for name, _ in limit.scope], values, strict=True))
    counted = [name for name, wanted in limit.scope if wanted == EACH and is_unbounded(name)]
    within = scope_words(pair for pair in pairs if pair[0] not in counted)
    asked = scope_words(pair for pair in pairs if pair[0] in counted)[:200]
    advice = "An operator can raise its max_values."
    if frees_ms < _NEVER_MS:
        advice = f"Places are free again from {iso(frees_ms)}; an operator can raise its max_values."
    named = {"limit_name": limit.name} if limit.name else {}
    return RateLimited(
        f"The limit {limit.name or limit.id} counts at most {limit.max_values} different values of "
        f"{' and '.join(counted)} for {within}, and all are taken: {asked} would be one more. {advice}",
        headers={"x-should-retry": "false"},
        extra={
            "limit_id": limit.id,
            **named,
            "scope": asked,
            "max_values": limit.max_values,
            "resets_at": None if frees_ms >= _NEVER_MS else -(-frees_ms // 1000),
            "resets_at_iso": None if frees_ms >= _NEVER_MS else iso(frees_ms),
        },
    )
