"""Attempts that the provider billed to the caller: at list price what they would have cost, and nobody's money here.

Their lines say so in `part`, so that reports, a request's detail and a re-rating know them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.charge import Line, PinnedRate
from gateway.core.limits import Take, Unit
from gateway.core.records import AttemptEnd

PART = "caller"
"""The part of such lines; behind it, with a colon, that of the model run they are of."""
TAG = ("billing", "caller")
"""What their holds and calls are tagged with."""


def is_callers_own(lines: Iterable[Line]) -> bool:
    return any(line.part.partition(":")[0] == PART for line in lines)


def free_rates(rates: Iterable[PinnedRate]) -> tuple[PinnedRate, ...]:
    """The rates that an estimate of such an attempt is priced with."""
    return tuple([_free(rate) for rate in rates])


def billed_to_caller(end: AttemptEnd) -> AttemptEnd:
    """The end with its list price, an effective cost of 0, and no money posted. What has no price keeps having none."""
    return msgspec.structs.replace(
        end,
        lines=tuple([_line(line) for line in end.lines]),
        effective_nusd=None if end.effective_nusd is None else 0,
        billed_nusd=None,
        posted=tuple([_take(take) for take in end.posted]),
    )


def _free(rate: PinnedRate) -> PinnedRate:
    list_pico = rate.rate_pico if rate.list_pico is None else rate.list_pico
    return msgspec.structs.replace(rate, rate_pico=0, list_pico=list_pico, billed_pico=0)


def _line(line: Line) -> Line:
    part = f"{PART}:{line.part}" if line.part else PART
    if line.effective_nusd is None:
        return msgspec.structs.replace(line, part=part)
    native = None if line.native_nano is None else 0
    return msgspec.structs.replace(
        line, rate_pico=0, effective_nusd=0, own_billed_nusd=None, native_nano=native, part=part
    )


def _take(take: Take) -> Take:
    if take.unit is not Unit.USD:
        return take
    return Take(take.counter, take.limit_id, take.unit, 0, take.expires_ms)
