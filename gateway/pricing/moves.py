"""What changes between two sheets of one model: every rate that a call could meet, before and after.

The rows are found by the very code that finds them for a call, at every tier, above every cliff, at every moment from
`from_ms` on at which either sheet turns. So a row that comes into effect next month is seen today, and one that merely
is written another way is no change.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import msgspec

from gateway.core.charge import MILLION, PriceRow, PriceSheet
from gateway.core.usage import Meter
from gateway.pricing.rows import row_of, rows_for
from gateway.pricing.week import MINUTE_MS

CONFIRM_ABOVE_PCT = 25
DIVERGENCE_PCT = 1
MOST_MOMENTS = 1000
"""Turns of two sheets that are looked at; no published price has had a hundred. Beyond them nobody knows: a person must
say yes."""
LEAST = "least:"
"""How the name of a least quantity begins, where a meter's stands otherwise: it multiplies what a small call costs."""
UNSEEN = "unseen:"
"""The name of what was not looked at, because prices turn too often."""
UPLIFT = "uplift:"
"""How the name of a factor for a place begins, where a meter's stands otherwise."""
BY_REPLY = " by reply"
"""How it ends for a place that only a reply tells."""


class Move(msgspec.Struct, frozen=True):
    """A rate before and after, exactly, in pico-USD for one unit (None: none). `meter` is `uplift:PLACE` for a factor,
    whose rates are its parts per million, or `least:METER` for a least quantity, in units of the meter. `from_ms` is
    the first moment from which it holds. `billed`: what is charged inside moved, and otherwise than what is owed."""

    tier: str
    meter: str
    above: int
    old: Fraction | None
    new: Fraction | None
    from_ms: int
    old_id: str = ""
    new_id: str = ""
    billed: bool = False

    @property
    def percent(self) -> Fraction | None:
        """By how much it moved, in per cent of the old rate; None where there is no old rate to compare with, or no new
        one, or the old one was 0."""
        if self.old is None or self.new is None or not self.old:
            return None
        return (self.new - self.old) * 100 / self.old

    @property
    def wants_confirmation(self) -> bool:
        """More than 25 % either way, a rate where it was free, or none any more: calls would become unpriced."""
        if self.old is None:
            return False
        percent = self.percent
        return percent is None or abs(percent) > CONFIRM_ABOVE_PCT


def moves(before: PriceSheet | None, after: PriceSheet | None, from_ms: int) -> list[Move]:
    """Every rate that is another one, each pair of rates once, at the first moment it is. A meter has as many as its
    rate has ways to differ: a small move now hides no large one of next month. Empty: calls cost what they did."""
    if before == after or _alike(before, after):
        return []
    found: dict[_Told, Move] = {}
    moments = _moments(before, after, from_ms)
    for at_ms in moments[:MOST_MOMENTS]:
        for tier in _tiers(before, after):
            for above in _cliffs(before, after):
                for move in _at(before, after, tier, above, at_ms):
                    found.setdefault(_told(move, move.above), move)
    listed = [move for move in found.values() if not move.above or _told(move, 0) not in found]
    listed += _uplift_moves(before, after, from_ms)
    if len(moments) > MOST_MOMENTS:
        seen, all_of_them = Fraction(0), Fraction(len(moments) - MOST_MOMENTS)
        listed.append(Move("", f"{UNSEEN}times", 0, seen, all_of_them, moments[MOST_MOMENTS]))
    return sorted(listed, key=_order)


_Told = tuple[str, str, int, bool, Fraction | None, Fraction | None]


def _told(move: Move, above: int) -> _Told:
    """What makes a move another one. Above a cliff the same as below it is said once: the rate has no cliff there."""
    return move.tier, move.meter, above, move.billed, move.old, move.new


def _order(move: Move) -> tuple[bool, str, str, int, bool, int]:
    return move.tier != "standard", move.tier, move.meter, move.above, move.billed, move.from_ms


def _at(before: PriceSheet | None, after: PriceSheet | None, tier: str, above: int, at_ms: int) -> Iterator[Move]:
    old = {} if before is None else rows_for(before, tier, above + 1, at_ms)
    new = {} if after is None else rows_for(after, tier, above + 1, at_ms)
    for meter in sorted({*old, *new, *_BILLED_AS_OTHERS}):
        # A meter that gets, or loses, a row of its own was or will be billed as another one; reasoning as output.
        ours, theirs = _row(old, meter), _row(new, meter)
        if meter not in old and meter not in new and not _is_elsewhere(old, new, ours, theirs):
            continue
        ids = ours.id if ours else "", theirs.id if theirs else ""
        owed, billed = [
            (_rate(old, ours, meter, inside), _rate(new, theirs, meter, inside)) for inside in (False, True)
        ]
        if owed[0] != owed[1]:
            yield Move(tier, meter, above, *owed, at_ms, *ids)
        if billed[0] != billed[1] and not _in_step(owed, billed):
            yield Move(tier, meter, above, *billed, at_ms, *ids, billed=True)
        least = _least(ours), _least(theirs)
        if ours and theirs and least[0] != least[1]:
            yield Move(tier, f"{LEAST}{meter}", above, *least, at_ms, *ids)


def _is_elsewhere(
    old: dict[str, PriceRow], new: dict[str, PriceRow], ours: PriceRow | None, theirs: PriceRow | None
) -> bool:
    """Whether a meter without a row on either side is billed as another one, or not at all any more."""
    if not old or not new:
        return False  # a tier that comes or goes is told by its own rows
    return (ours and ours.meter) != (theirs and theirs.meter)


def _in_step(owed: tuple[Fraction | None, Fraction | None], billed: tuple[Fraction | None, Fraction | None]) -> bool:
    """Whether what is charged inside moved by the very factor by which what is owed did."""
    if owed[0] == owed[1]:
        return False
    if None in owed or None in billed:
        return True
    return owed[0] * billed[1] == owed[1] * billed[0]  # type: ignore[operator]


def _alike(before: PriceSheet | None, after: PriceSheet | None) -> bool:
    """Whether two sheets differ in nothing but which release of a source said so: a row's id is its content."""
    if before is None or after is None or before.uplifts != after.uplifts:
        return False
    return [(row.id, row.to_ms) for row in before.rows] == [(row.id, row.to_ms) for row in after.rows]


_BILLED_AS_OTHERS = (Meter.CACHE_READ, Meter.CACHE_WRITE, Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H)
_SIZED_FEES = (Meter.REQUEST_LOW, Meter.REQUEST_MEDIUM, Meter.REQUEST_HIGH)


def _row(chosen: dict[str, PriceRow], meter: str) -> PriceRow | None:
    """The row by which a meter is billed: its own, or what `pricing.arithmetic` takes instead."""
    if meter in _SIZED_FEES:
        fee = chosen.get(Meter.REQUEST)
        return chosen.get(meter, fee) if fee else None
    found = row_of(chosen, meter)
    return chosen.get(Meter.OUTPUT) if found is None and meter == Meter.REASONING else found


def _rate(chosen: dict[str, PriceRow], row: PriceRow | None, meter: str, billed: bool) -> Fraction | None:
    """None: there is no price. Without a row for it a request has no fee, which costs nothing and is known."""
    if row is None:
        return Fraction(0) if chosen and meter in (Meter.REQUEST, *_SIZED_FEES) else None
    own = None if row.terms is None or not billed else row.terms.billed_pico
    return Fraction(row.rate_pico if own is None else own, row.per)


def _least(row: PriceRow | None) -> Fraction:
    return Fraction(1 if row is None or row.terms is None else max(1, row.terms.min_quantity))


def _uplift_moves(before: PriceSheet | None, after: PriceSheet | None, from_ms: int) -> Iterator[Move]:
    old, new = _uplifts(before), _uplifts(after)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name) and before is not None and after is not None:
            yield Move("", f"{UPLIFT}{name}", 0, old.get(name), new.get(name), from_ms)


def _uplifts(sheet: PriceSheet | None) -> dict[str, Fraction]:
    if sheet is None:
        return {}
    return {
        f"{uplift.region}{BY_REPLY if uplift.by_reply else ''}": Fraction(uplift.ppm, MILLION)
        for uplift in sheet.uplifts
    }


def _tiers(*sheets: PriceSheet | None) -> list[str]:
    return sorted({row.tier for sheet in sheets if sheet is not None for row in sheet.rows})


def _cliffs(*sheets: PriceSheet | None) -> list[int]:
    return sorted({0, *(row.min_input for sheet in sheets if sheet is not None for row in sheet.rows)})


def _moments(before: PriceSheet | None, after: PriceSheet | None, from_ms: int) -> list[int]:
    """`from_ms` and each later moment at which a row of either begins or ends, and of each week that prices know, every
    turn once."""
    rows = [row for sheet in (before, after) if sheet is not None for row in sheet.rows]
    turns = {moment for row in rows for moment in (row.from_ms, row.to_ms) if moment > from_ms}
    edges = {minute for row in rows for span in row.week for minute in span}
    found = {from_ms, *turns}
    for start_ms in tuple(found) if edges else ():
        into = _minute_of_week(start_ms)
        found.update(start_ms + ((edge - into) % _WEEK) * MINUTE_MS for edge in edges)
    return sorted(found)


_WEEK = 7 * 24 * 60
_MONDAY_MINUTE = 4 * 24 * 60


def _minute_of_week(at_ms: int) -> int:
    return (at_ms // MINUTE_MS - _MONDAY_MINUTE) % _WEEK


def opinions_differ(opinions: dict[str, tuple[Fraction, Fraction]]) -> dict[str, Fraction]:
    """Of two sources' rates by meter (`PriceBook.opinions`): by how many per cent the second differs, where that is
    more than one."""
    found: dict[str, Fraction] = {}
    for meter, (first, second) in opinions.items():
        if not first:
            continue
        percent = (second - first) * 100 / first
        if abs(percent) > DIVERGENCE_PCT:
            found[meter] = percent
    return found
