"""By which of a call's values the ledger keeps sums by the day: its end user, its session, its declared tags.

Callers make such values up, so their number is bounded: of a dimension, team and day MOST_VALUES have sums of their
own, in the order in which they come, and all that come after are counted together, as `OTHER`. Which it was is written
with the attempt and with the call (`summed_by`): a later correction finds the same sums again, whatever is declared by
then, and verification can prove them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.queries import OTHER_VALUE as OTHER
from gateway.core.queries import SESSION, TAG_PREFIX, USER
from gateway.core.records import Hold, Settle
from gateway.store.ledger_rows import HOUR_MS, json_text, name
from gateway.store.ledger_tables import ROLLUP_VALUE

DAY_MS = 24 * HOUR_MS
MOST_VALUES = 10_000
REMEMBERED_VALUES = 100_000
"""Of all places together: some 10 MiB. Beyond it the place that was asked of longest ago is read again when needed."""

_DECODE = msgspec.json.Decoder(dict[str, str]).decode


class Place(NamedTuple):
    """Where values are read together: one dimension on one day. They are counted for each team apart."""

    org: str
    dimension: str
    day_ms: int


Placed = dict[str, set[str]]
"""By team, the values that have sums of their own."""


class ValuePlaces:
    """Which values have sums of their own, as SQL has them and as the batch at hand adds them.

    It may be forgotten at any time. On several hosts each has its own: then up to MOST_VALUES a host have places.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._known: dict[Place, Placed] = {}

    def forget(self) -> None:
        """After a batch that was not written: what it added is not in SQL."""
        self._known.clear()

    async def grouping(
        self, connection: AsyncConnection, records: Iterable[Hold | Settle], tags: Collection[str]
    ) -> Grouping:
        """For one batch. Reads the places that it needs and that are not remembered."""
        declared = frozenset(tags)
        wanted = _places_of(records, declared)
        mine: dict[Place, Placed] = {}
        for place in sorted(wanted):
            known = self._known.get(place)
            if known is None:
                stored = await _stored(connection, place)
                known = self._known.setdefault(
                    place, stored
                )  # another load may have read it meanwhile, and placed some
            mine[place] = known
        for place, known in mine.items():
            self._known.pop(place, None)
            self._known[place] = known  # those asked for last are dropped last
        sizes = {place: sum(map(len, teams.values())) for place, teams in self._known.items()}
        kept = sum(sizes.values())
        for place in [one for one in self._known if one not in wanted]:
            if kept <= REMEMBERED_VALUES:
                break
            del self._known[place]
            kept -= sizes[place]
        return Grouping(mine, declared, self._most)


_Said = tuple[str, str, int, str, str, tuple[tuple[str, str], ...]]
"""All of a record that decides by what it is summed."""


class Grouping:
    """What the records of one batch are summed by. `places` None: nothing is."""

    __slots__ = ("_declared", "_most", "_places", "_told")

    def __init__(
        self, places: dict[Place, Placed] | None = None, declared: frozenset[str] = frozenset(), most: int = MOST_VALUES
    ) -> None:
        self._places = places
        self._declared = declared
        self._most = most
        self._told: dict[_Said, str | None] = {}

    def summed_by(self, record: Hold | Settle) -> str | None:
        """The column's JSON: value by dimension. None where there are none."""
        if self._places is None or not (record.user or record.session or record.tags):
            return None
        said = (
            name(record.org),
            name(record.team),
            day_of(record.started_ms),
            record.user,
            record.session,
            record.tags,
        )
        if said in self._told:
            return self._told[said]
        org, team, day_ms = said[:3]
        placed = {
            dimension: _placed(self._places.get(Place(org, dimension, day_ms)), team, name(value), self._most)
            for dimension, value in _values_of(record, self._declared)
        }
        told = self._told[said] = json_text(placed) if placed else None
        return told


NO_GROUPING = Grouping()


def read_summed_by(column: str | None) -> dict[str, str]:
    """Value by dimension, from the column."""
    return _DECODE(column) if column else {}


def day_of(time_ms: int) -> int:
    return time_ms - time_ms % DAY_MS


def _values_of(record: Hold | Settle, declared: frozenset[str]) -> list[tuple[str, str]]:
    """(dimension, value) of all that a record is to be summed by."""
    found = [(f"{TAG_PREFIX}{tag}", value) for tag, value in record.tags if value and tag in declared]
    if record.user:
        found.append((USER, record.user))
    if record.session:
        found.append((SESSION, record.session))
    return found


def _places_of(records: Iterable[Hold | Settle], declared: frozenset[str]) -> set[Place]:
    return {
        Place(name(record.org), dimension, day_of(record.started_ms))
        for record in records
        for dimension, _ in _values_of(record, declared)
    }


def _placed(known: Placed | None, team: str, value: str, most: int) -> str:
    """The value under which one is counted: itself, or `OTHER`. `known` None: nobody has looked, as the end of a call
    says what its beginning did not."""
    if known is None:
        return OTHER
    own = known.setdefault(team, set())
    if value in own:
        return value
    if len(own) >= most:
        return OTHER
    own.add(value)
    return value


async def _stored(connection: AsyncConnection, place: Place) -> Placed:
    table = ROLLUP_VALUE.c
    query = select(table.team, table.value).distinct()
    query = query.where(*(table[word] == value for word, value in zip(Place._fields, place, strict=True)))
    found: Placed = {}
    for row in await connection.execute(query):
        if row.value != OTHER:
            found.setdefault(row.team, set()).add(row.value)
    return found
