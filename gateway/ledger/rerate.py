"""Corrections: what an attempt would cost by other prices, as one more posting of it. Pure.

A correction takes back the lines in force, each with its own rate, and puts others in their place; its amounts are the
sums of its lines. So the sum over all postings of an attempt is what it costs now, and over all their lines too, no
matter in which order they are read; every line stays quantity × rate. Counters get the difference of what they were
posted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from gateway.core.charge import Charge, CostState, Line
from gateway.core.corrections import PostedAttempt
from gateway.core.limits import Take, Unit
from gateway.core.records import Correct
from gateway.core.usage import Meter, Usage, UsagePart, UsageSource
from gateway.ledger.callers_own import is_callers_own

RERATE = "rerate"
"""The kind of postings that state an attempt by other prices."""
_SIZES = {Meter.REQUEST_LOW: "low", Meter.REQUEST_MEDIUM: "medium", Meter.REQUEST_HIGH: "high"}
_FEES = frozenset({Meter.REQUEST, *_SIZES})
_OWN_RUNS = frozenset({"", "message", "response", "session", "tools", "image", "svg"})
"""Labels that readers of usage give to runs of the call's own model."""


class Run(msgspec.Struct, frozen=True):
    """What the corrections of one command have in common."""

    correction_id: bytes
    actor: str
    reason: str


class Left(StrEnum):
    """Why an attempt is left as it is."""

    NOTHING_USED = "nothing_used"
    """It was answered from a cache, or nobody knows what it used."""
    SEVERAL_RUNS = "several_runs"
    """Several models' runs are behind it, and the ledger does not know which one a line is of."""
    NOT_IN_DETAIL = "not_in_detail"
    """An older version recorded it, without where it was computed, and that changes the price."""
    CALLERS_OWN = "callers_own"
    """The provider billed it to the caller, at whatever price."""
    NO_PRICE = "no_price"
    """No price is known now, for all of it. What was charged was charged."""


def usage_of(attempt: PostedAttempt, is_model: Callable[[str], bool]) -> Usage | Left:
    """The usage that the lines in force were made of.

    A fee per request is the price's, not the usage's, but for how much of the web it searched: what was told of that
    counts, else what its line says. Reasoning that was
    priced apart is output again: whether it has a rate of its own is the new prices' affair. What a least quantity has
    made of a smaller one stays. A part is the run of the call's model, or of the model that its label names if
    `is_model` says that there is one.
    """
    if not attempt.lines or attempt.source in (UsageSource.CACHE, UsageSource.NONE):
        return Left.NOTHING_USED
    if is_callers_own(attempt.lines):
        return Left.CALLERS_OWN
    whole: dict[Meter, int] = {}
    runs: list[tuple[str, dict[Meter, int]]] = []
    size = ""
    for line in attempt.lines:
        meter = Meter(line.meter)
        if meter in _FEES:
            size = size or _SIZES.get(meter, "")
            continue
        meter = Meter.OUTPUT if meter is Meter.REASONING else meter
        if not runs or runs[-1][0] != line.part or (line.part and meter in runs[-1][1]):
            runs.append((line.part, {}))
        for into in (whole, runs[-1][1]):
            into[meter] = into.get(meter, 0) + line.quantity
    parts: list[UsagePart] = []
    if any(label for label, _ in runs):
        for label, meters in runs:
            if label not in _OWN_RUNS and not is_model(label):
                return Left.SEVERAL_RUNS
            parts.append(UsagePart(label, "" if label in _OWN_RUNS else label, meters))
    return Usage(
        meters=whole,
        source=UsageSource(attempt.source),
        reasoning_tokens=attempt.reasoning_tokens,
        served_tier=attempt.served_tier,
        region=attempt.region,
        search_size=attempt.search_size or size,
        parts=tuple(parts),
    )


def correction(
    attempt: PostedAttempt, charge: Charge, run: Run, ts_ms: int, *, priced_calls: int = 0
) -> Correct | Left | None:
    """The record that makes `charge` what the attempt costs; None where it is what it costs already."""
    if charge.effective_nusd is None or charge.list_nusd is None or charge.billed_nusd is None:
        return Left.NO_PRICE
    if _same(attempt, charge):
        return None
    back = nothing_back if attempt.effective_nusd is None else taken_back
    lines = (*map(back, attempt.lines), *charge.lines)
    return Correct(
        ts_ms=ts_ms,
        attempt_id=attempt.attempt_id,
        revision=attempt.revision + 1,
        takes=moved_takes(attempt.takes, charge.effective_nusd),
        reason=run.reason,
        kind=RERATE,
        lines=lines,
        state=charge.state.value,
        source=attempt.source,
        list_nusd=charge.list_nusd - (attempt.list_nusd or 0),
        effective_nusd=charge.effective_nusd - (attempt.effective_nusd or 0),
        billed_nusd=charge.billed_nusd - (attempt.billed_nusd or 0),
        priced_calls=priced_calls,
        correction_id=run.correction_id,
        actor=run.actor,
    )


def gives_price(attempt: PostedAttempt, charge: Charge) -> bool:
    """Whether the attempt has no price so far, and gets one."""
    return attempt.state == CostState.UNPRICED and charge.state is not CostState.UNPRICED


def taken_back(line: Line) -> Line:
    """The line that undoes another: the same rate, the quantity and the amounts negative."""
    return Line(
        meter=line.meter,
        quantity=-line.quantity,
        rate_pico=line.rate_pico,
        per=line.per,
        list_nusd=-(line.list_nusd or 0),
        effective_nusd=-(line.effective_nusd or 0),
        row_id=line.row_id,
        own_billed_nusd=None if line.own_billed_nusd is None else -line.own_billed_nusd,
        uplift_ppm=line.uplift_ppm,
        part=line.part,
        currency=line.currency,
        native_nano=None if line.native_nano is None else -line.native_nano,
    )


def nothing_back(line: Line) -> Line:
    """The line that takes back a quantity of an attempt without a price. Its amounts are 0, also where this one line
    had a price: the posting was counted with none, so there is no money to undo."""
    return Line(line.meter, -line.quantity, None, line.per, 0, 0, line.row_id, part=line.part)


def net_takes(takes: Iterable[Take]) -> tuple[Take, ...]:
    """The sum of each counter, in the order in which they first come."""
    found: dict[str, Take] = {}
    for take in takes:
        known = found.get(take.counter)
        amount = take.amount + (0 if known is None else known.amount)
        found[take.counter] = Take(take.counter, take.limit_id, take.unit, amount, take.expires_ms)
    return tuple(found.values())


def moved_takes(posted: Iterable[Take], effective_nusd: int) -> tuple[Take, ...]:
    """By how much each counter of money moves, so that it has been posted `effective_nusd` in all."""
    return tuple(
        Take(take.counter, take.limit_id, take.unit, effective_nusd - take.amount, take.expires_ms)
        for take in posted
        if take.unit is Unit.USD and take.amount != effective_nusd
    )


def _same(attempt: PostedAttempt, charge: Charge) -> bool:
    amounts = (attempt.list_nusd, attempt.effective_nusd, attempt.billed_nusd)
    if amounts != (charge.list_nusd, charge.effective_nusd, charge.billed_nusd) or attempt.state != charge.state:
        return False
    return [_amounts(line) for line in attempt.lines] == [_amounts(line) for line in charge.lines]


def _amounts(line: Line) -> tuple[object, ...]:
    """What a line says of money. Another row's id, or another spelling of the same rate, is no reason to correct."""
    return line.meter, line.part, line.quantity, line.list_nusd, line.effective_nusd, line.billed_nusd
