"""When time alone makes room under a limit that is full."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.limits import Want, WindowKind
from gateway.limits.windows import bucket_ms


def frees_ms(want: Want, spent: Sequence[int], reserved: int) -> int | None:
    """The first instant, ms UTC, at which `want` fits if nothing else is taken until then; None: never.

    `spent` are the amounts of `want.counters` in their order, oldest first. What is reserved is taken to stay: it may
    become spent in the newest sub-bucket. A rolling window lets go of one sub-bucket after the other, a calendar
    window of everything at once. A want larger than the whole limit never fits.
    """
    amount, limit = want.take.amount, want.limit
    if want.resets_ms is None or amount > limit.amount:
        return None
    if limit.window.kind is not WindowKind.ROLLING:
        return want.resets_ms
    missing = sum(spent) + reserved + amount - limit.amount
    size_ms = bucket_ms(limit.window.length_s)
    for age in range(len(spent) - 1, -1, -1):
        missing -= spent[len(spent) - 1 - age]
        if missing <= 0:
            return want.resets_ms - age * size_ms
    return want.resets_ms
