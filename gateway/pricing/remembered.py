"""Bounds and charges with a memory: which rows apply does not change from call to call until a price does.

The arithmetic is `bound` and `arithmetic`; this only remembers which rows they chose, per sheet, for as long as the
same rows are in effect, and per band between the sheet's cliffs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from gateway.core.call import Head
from gateway.core.charge import Charge, PinnedRate, PriceSheet
from gateway.core.usage import Meter, Usage, prompt_tokens
from gateway.pricing import arithmetic
from gateway.pricing.arithmetic import Rows, SheetOf, chosen_rows
from gateway.pricing.bound import NO_EXTRAS, Bound, Extras, hold_bound
from gateway.pricing.reach import Reach, reach
from gateway.pricing.week import turns_around

DEFAULT_CAPACITY = 4096
CHOICES_MAX = 256
"""Remembered choices of one sheet: tiers and regions are words of callers and providers."""
_NEVER = 1 << 62


class _Sheet:
    """What was chosen of one sheet between `from_ms` and `until_ms`."""

    __slots__ = ("cliffs", "from_ms", "pinned", "reaches", "rows", "sheet", "until_ms")

    def __init__(self, sheet: PriceSheet, at_ms: int) -> None:
        turns = [moment for row in sheet.rows for moment in (row.from_ms, row.to_ms) if moment]
        for week in {row.week for row in sheet.rows if row.week}:
            turns.extend(turns_around(week, at_ms))
        self.sheet = sheet
        self.from_ms = max((moment for moment in turns if moment <= at_ms), default=0)
        self.until_ms = min((moment for moment in turns if moment > at_ms), default=_NEVER)
        self.cliffs = sorted({row.min_input for row in sheet.rows if row.min_input})
        self.rows: dict[tuple[str, str, str, int], Rows] = {}
        self.reaches: dict[tuple[frozenset[str] | None, frozenset[str], str, int], Reach] = {}
        self.pinned: dict[str, tuple[PinnedRate, ...]] = {}


class Prices:
    """`hold_bound`, `charge` and `pinned` with the same results. Remembers `capacity` sheets; full, it begins anew."""

    __slots__ = ("_capacity", "_sheets")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._sheets: dict[int, _Sheet] = {}

    def bound(
        self,
        head: Head,
        sheet: PriceSheet | None,
        at_ms: int,
        region: str = "",
        extras: Extras = NO_EXTRAS,
        implicit_writes: bool = True,
    ) -> Bound:
        return hold_bound(
            head, sheet, at_ms, region=region, extras=extras, implicit_writes=implicit_writes, find=self._reach
        )

    def charge(
        self,
        usage: Usage,
        sheet: PriceSheet | None,
        at_ms: int,
        requested_tier: str = "",
        region: str = "",
        sheet_of: SheetOf | None = None,
    ) -> Charge:
        return arithmetic.charge(usage, sheet, at_ms, requested_tier, region=region, sheet_of=sheet_of, find=self._rows)

    def pinned(self, sheet: PriceSheet, at_ms: int, region: str = "") -> tuple[PinnedRate, ...]:
        pinned = self._known(sheet, at_ms).pinned
        try:
            return pinned[region]
        except KeyError:
            found = pinned[region] = arithmetic.pinned(sheet, at_ms, region)
            return found

    def _known(self, sheet: PriceSheet, at_ms: int) -> _Sheet:
        known = self._sheets.get(id(sheet))
        if known is not None and known.sheet is sheet and known.from_ms <= at_ms < known.until_ms:
            return known
        if len(self._sheets) >= self._capacity:
            self._sheets.clear()
        known = self._sheets[id(sheet)] = _Sheet(sheet, at_ms)
        return known

    def _rows(
        self, sheet: PriceSheet, tier: str, meters: Mapping[Meter, int], at_ms: int, served_region: str, region: str
    ) -> Rows:
        known = self._known(sheet, at_ms)
        band = bisect_left(known.cliffs, prompt_tokens(meters)) if known.cliffs else 0
        key = (tier, served_region, region, band)
        found = known.rows.get(key)
        if found is None:
            if len(known.rows) >= CHOICES_MAX:
                known.rows.clear()
            found = known.rows[key] = chosen_rows(sheet, tier, meters, at_ms, served_region, region)
        return found

    def _reach(
        self,
        sheet: PriceSheet,
        tiers: frozenset[str] | None,
        meters: frozenset[str],
        input_bound: int,
        at_ms: int,
        region: str = "",
    ) -> Reach:
        known = self._known(sheet, at_ms)
        band = bisect_left(known.cliffs, input_bound) if known.cliffs else 0
        key = (tiers, meters, region, band)
        found = known.reaches.get(key)
        if found is None:
            if len(known.reaches) >= CHOICES_MAX:
                known.reaches.clear()
            found = known.reaches[key] = reach(sheet, tiers, meters, input_bound, at_ms, region)
        return found
