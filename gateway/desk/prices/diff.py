"""What a change of prices would do: per model and meter, models in use first."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gateway.core.config import Policy
from gateway.core.price_admin import PriceVersion
from gateway.desk.prices.gate import PriceGate, matters
from gateway.desk.prices.shapes import DiffReply, MoveReply
from gateway.desk.prices.told import divergences, sheet_in_force
from gateway.pricing.book import PriceBook
from gateway.pricing.moves import Move, moves

Found = tuple[str, bool, Move]


def diff_of(
    gate: PriceGate,
    policy: Policy | None,
    in_force: PriceVersion | None,
    version: PriceVersion,
    used: Sequence[str],
    kinds: Sequence[str],
    *,
    of_draft: bool,
    now_ms: int,
    limit: int,
) -> DiffReply:
    """The difference between what is in force and an unpublished version, over all models of the kinds."""
    before = PriceBook() if in_force is None else gate.book(in_force)
    after = gate.book(version)
    in_use = frozenset(used)
    found: list[Found] = []
    priced = lost = 0
    for key in _keys(before, after, kinds, in_use):
        kind, _, model = key.partition("/")
        old = sheet_in_force(policy, before, key) if key in in_use else before.sheet(kind, model)
        new = after.sheet(kind, model)
        priced += old is None and new is not None
        lost += old is not None and new is None
        found += [(key, key in in_use, move) for move in moves(old, new, now_ms) if matters(policy, kind, move)]
    found.sort(key=_first)
    nothing = in_force is not None and in_force.sha256 == version.sha256 and not any(used for _, used, _ in found)
    return DiffReply(
        of="nothing" if nothing else "draft" if of_draft else "file",
        against=0 if in_force is None else in_force.number,
        confirm=version.sha256,
        needs_confirmation=any(used and move.wants_confirmation for _, used, move in found),
        data=[MoveReply.of(key, move, used) for key, used, move in found[:limit]],
        truncated=len(found) > limit,
        models_priced=priced,
        models_lost=lost,
        divergences=divergences(after, sorted(in_use), in_use),
    )


def _keys(before: PriceBook, after: PriceBook, kinds: Sequence[str], in_use: frozenset[str]) -> list[str]:
    found = set(in_use)
    for kind in kinds:
        found.update(f"{kind}/{name}" for book in (before, after) for name in book.names(kind))
    return sorted(found)


def _first(one: Found) -> tuple[bool, bool, Fraction, str, str]:
    """Models in use first, of those what wants a yes, then the largest move."""
    key, in_use, move = one
    percent = move.percent
    return (
        not in_use,
        not move.wants_confirmation,
        -abs(percent) if percent is not None else Fraction(0),
        key,
        move.meter,
    )
