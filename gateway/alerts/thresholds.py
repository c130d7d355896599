"""Shares of a limit: each is told once per limit, scope values and window, and again only when the limit was raised
above what was spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.core.money import divide_up

FORECAST = 0
"""The mark of a forecast, beside those of per cents."""
REFUSES = 101
"""The mark of a limit that refuses calls though much of it is left."""


@dataclass(slots=True)
class _Place:
    """One limit, one set of values, one window. `told` has, per share, the amount the limit had when it was told."""

    told: dict[int, int] = field(default_factory=dict)
    amount: int = -1
    spent: int = -1


class Marks:
    """What has been told already. A *place* is `limit id|values|period`; nobody needs it once its period is over.

    Fed with the same marks and the same spending it decides the same, in whatever order places come.
    """

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, place: str) -> bool:
        return place in self._places

    def told(self, place: str, share: int, amount: int) -> None:
        """Takes over a mark that was made before, as when the outbox is read again."""
        found = self._places.setdefault(place, _Place())
        found.told[share] = max(found.told.get(share, -1), amount)

    def told_at(self, place: str, at_ms: int) -> None:
        """Takes over when something that lasts was told. The last word counts, not the greatest: the clock may have
        been set back."""
        self._places.setdefault(place, _Place()).told[FORECAST] = at_ms

    def stood(self, spent: Mapping[str, int]) -> None:
        """After a restart: what was spent of places when the books were written last. What their limit was then is not
        known: it may have been raised, and what is spent from here on must not count as spent before that."""
        for place, nusd in spent.items():
            found = self._places.get(place)
            if found is not None and found.amount < 0:
                found.spent = nusd

    def places(self) -> Iterable[str]:
        return self._places.keys()

    def last_told(self, place: str, share: int) -> int:
        """The amount at which it was told last, -1 if never."""
        found = self._places.get(place)
        return -1 if found is None else found.told.get(share, -1)

    def due(self, place: str, spent: int, amount: int, percents: Iterable[int]) -> list[int]:
        """The shares to tell now that `spent` of `amount` is spent, in ascending order; they are told with this.

        A share is reached at `ceil(amount × per cent / 100)`. When the limit is another one than before, shares that
        are reached by what was spent before count as told: a raise re-arms only what is above.
        """
        if amount <= 0:
            return []
        found = self._places.get(place)
        if found is not None and found.amount != amount:
            before = spent if found.spent < 0 else found.spent
            for share, at in found.told.items():
                if share != FORECAST and at < amount and level_of(share, amount) <= before:
                    found.told[share] = amount
        due = []
        for percent in sorted(set(percents)):
            if spent < level_of(percent, amount):
                break
            if found is None:
                found = self._places[place] = _Place()
            if found.told.get(percent, -1) < amount:
                found.told[percent] = amount
                due.append(percent)
        if found is not None:
            found.amount, found.spent = amount, spent
        return due

    def due_at_once(self, place: str, share: int, amount: int) -> bool:
        """Whether something that is not a share of spending is told for the first time at this amount; it is told with
        this. A raised limit re-arms it."""
        if self.last_told(place, share) >= amount:
            return False
        self.told(place, share, amount)
        return True

    def due_after(self, place: str, now_ms: int, quiet_ms: int) -> bool:
        """Whether something that lasts is told again: not within `quiet_ms` of the last time. It is told with this."""
        if self.is_quiet(place, now_ms, quiet_ms):
            return False
        self.told_at(place, now_ms)
        return True

    def is_quiet(self, place: str, now_ms: int, quiet_ms: int) -> bool:
        """Whether something that lasts was told within `quiet_ms`. A time further ahead was a wrong clock's."""
        last_ms = self.last_told(place, FORECAST)
        return last_ms >= 0 and abs(now_ms - last_ms) < quiet_ms

    def forget(self, places: Iterable[str]) -> None:
        """Their periods are over."""
        for place in places:
            self._places.pop(place, None)


def level_of(percent: int, amount: int) -> int:
    """What must be spent for `percent` of `amount` to be reached, in the amount's unit."""
    return divide_up(amount * percent, 100)
