"""A provider's own word for what a call cost, beside ours."""

from __future__ import annotations

from gateway.core.money import divide_half_even

GAP_PPM = 10_000
"""A gap of more than 1 % is flagged."""
_MILLION = 1_000_000


def gap_ppm(effective_nusd: int | None, reported_nusd: int | None) -> int | None:
    """By how many millionths of ours the provider's figure differs, to the nearest; None where one of them is not
    known, or both are 0. Where only ours is 0, theirs is all of it: 1 000 000."""
    if effective_nusd is None or reported_nusd is None:
        return None
    if not effective_nusd:
        return _MILLION if reported_nusd else None
    return divide_half_even((reported_nusd - effective_nusd) * _MILLION, effective_nusd)


def is_gap(effective_nusd: int | None, reported_nusd: int | None) -> bool:
    """Whether the two differ by more than 1 % of ours. Exact: no rounding decides."""
    if effective_nusd is None or reported_nusd is None:
        return False
    return abs(reported_nusd - effective_nusd) * _MILLION > GAP_PPM * abs(effective_nusd)
