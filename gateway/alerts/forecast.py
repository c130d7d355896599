"""What a window will have cost when it ends, if spending goes on as it has."""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.money import divide_half_even


class Forecast(NamedTuple):
    """`projected` is what will be spent at the window's end, in the unit of what is spent; `exhausted_ms` is when the
    limit is reached at this pace."""

    projected: int
    exhausted_ms: int


def forecast(spent: int, amount: int, start_ms: int, now_ms: int, end_ms: int, from_percent: int) -> Forecast | None:
    """The straight line through the window's start and now, where it ends above the limit; None where it does not,
    where the limit is reached already, and in the first `from_percent` of the window (0: always None).

    projected = spent × (end − start) / (now − start): the estimate at completion of earned-value management, actual
    cost / share completed (ANSI/EIA-748; Project Management Institute, EAC = AC / % complete). It knows no weekdays:
    that is what the first part of the window is left out for.
    """
    elapsed_ms, length_ms = now_ms - start_ms, end_ms - start_ms
    if not from_percent or not 0 < elapsed_ms < length_ms or elapsed_ms * 100 < length_ms * from_percent:
        return None
    projected = divide_half_even(spent * length_ms, elapsed_ms)
    if spent <= 0 or spent >= amount or projected <= amount:
        return None
    return Forecast(projected, start_ms + divide_half_even(elapsed_ms * amount, spent))
