"""Theil and Sen's slope: the median of the slopes of all pairs, which a few wild samples do not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Slope:
    """Per hour, with a 95 % interval (Sen 1968, from the variance of Kendall's S)."""

    per_hour: float
    low: float
    high: float

    def line(self, unit: str) -> str:
        return f"{self.per_hour:+.2f} {unit}/h (95 %: {self.low:+.2f} to {self.high:+.2f})"


def theil_sen(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Raises ValueError with fewer than three samples of different times."""
    slopes = sorted(
        (values[late] - values[early]) / (times_s[late] - times_s[early]) * 3600
        for early in range(len(values))
        for late in range(early + 1, len(values))
        if times_s[late] != times_s[early]
    )
    if len(slopes) < 3:
        raise ValueError("a slope needs three samples")
    count = len(values)
    half = _Z95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18) / 2
    middle = len(slopes) / 2
    low = slopes[max(0, int(middle - half))]
    high = slopes[min(len(slopes) - 1, int(middle + half))]
    return Slope(slopes[len(slopes) // 2], low, high)
