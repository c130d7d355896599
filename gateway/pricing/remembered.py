"""Bounds and charges with a memory: which rows apply does not change from call to call until a price does.

The arithmetic is `bound` and `arithmetic`; this only remembers which rows they chose, per sheet, for as long as the
same rows are in effect, and per band between the sheet's cliffs.
"""

from __future__ import annotations

from bisect import bisect_left

from gateway.core.call import Head
from gateway.core.charge import Charge, PinnedRate, PriceRow, PriceSheet
from gateway.core.usage import Usage
from gateway.pricing import arithmetic, rows
from gateway.pricing.bound import Bound, Reach, hold_bound, reach

DEFAULT_CAPACITY = 4096
CHOICES_MAX = 256
"""Remembered choices of one sheet: tiers are words of callers and providers."""
_NEVER = 1 << 62


class _Sheet:
    """What was chosen of one sheet between `from_ms` and `until_ms`."""

    __slots__ = ("cliffs", "from_ms", "pinned", "reaches", "rows", "sheet", "until_ms")

    def __init__(self, sheet: PriceSheet, at_ms: int) -> None:
        turns = [moment for row in sheet.rows for moment in (row.from_ms, row.to_ms) if moment]
        self.sheet = sheet
        self.from_ms = max((moment for moment in turns if moment <= at_ms), default=0)
        self.until_ms = min((moment for moment in turns if moment > at_ms), default=_NEVER)
        self.cliffs = sorted({row.min_input for row in sheet.rows if row.min_input})
        self.rows: dict[tuple[str, int], dict[str, PriceRow]] = {}
        self.reaches: dict[tuple[frozenset[str] | None, frozenset[str], int], Reach] = {}
        self.pinned: tuple[PinnedRate, ...] | None = None


class Prices:
    """`hold_bound`, `charge` and `pinned` with the same results. Remembers `capacity` sheets; full, it begins anew."""

    __slots__ = ("_capacity", "_sheets")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._sheets: dict[int, _Sheet] = {}

    def bound(self, head: Head, sheet: PriceSheet | None, at_ms: int) -> Bound:
        return hold_bound(head, sheet, at_ms, find=self._reach)

    def charge(self, usage: Usage, sheet: PriceSheet | None, at_ms: int, requested_tier: str = "") -> Charge:
        return arithmetic.charge(usage, sheet, at_ms, requested_tier, find=self._rows)

    def pinned(self, sheet: PriceSheet, at_ms: int) -> tuple[PinnedRate, ...]:
        known = self._known(sheet, at_ms)
        if known.pinned is None:
            known.pinned = arithmetic.pinned(sheet, at_ms)
        return known.pinned

    def _known(self, sheet: PriceSheet, at_ms: int) -> _Sheet:
        known = self._sheets.get(id(sheet))
        if known is None or known.sheet is not sheet or not known.from_ms <= at_ms < known.until_ms:
            if len(self._sheets) >= self._capacity:
                self._sheets.clear()
            known = self._sheets[id(sheet)] = _Sheet(sheet, at_ms)
        return known

    def _rows(self, sheet: PriceSheet, tier: str, input_tokens: int, at_ms: int) -> dict[str, PriceRow]:
        known = self._known(sheet, at_ms)
        key = (tier, bisect_left(known.cliffs, input_tokens))
        found = known.rows.get(key)
        if found is None:
            if len(known.rows) >= CHOICES_MAX:
                known.rows.clear()
            found = known.rows[key] = rows.rows_for(sheet, tier, input_tokens, at_ms)
        return found

    def _reach(
        self, sheet: PriceSheet, tiers: frozenset[str] | None, meters: frozenset[str], input_bound: int, at_ms: int
    ) -> Reach:
        known = self._known(sheet, at_ms)
        key = (tiers, meters, bisect_left(known.cliffs, input_bound))
        found = known.reaches.get(key)
        if found is None:
            if len(known.reaches) >= CHOICES_MAX:
                known.reaches.clear()
            found = known.reaches[key] = reach(sheet, tiers, meters, input_bound, at_ms)
        return found
