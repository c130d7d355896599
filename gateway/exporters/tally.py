"""What a process counts on the path: plain integers, added to without a lock; Prometheus' shapes are made when asked.

Only the event loop's thread adds. Times are µs, money nano-USD, ratios thousandths: no float is touched per call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


class Distribution:
    """A histogram. `edges` are the inclusive upper bounds of its buckets, in the unit of what is observed."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        self.counts[bisect_left(self.edges, value)] += 1
        self.total += value

    def cumulative(self) -> Iterable[tuple[int | None, int]]:
        """(edge, how many up to it), the last with edge None: all of them."""
        so_far = 0
        for edge, count in zip((*self.edges, None), self.counts, strict=True):
            so_far += count
            yield edge, so_far


class Series:
    """All that is counted of one (endpoint, model, deployment)."""

    __slots__ = ("cost_nusd", "duration_us", "first_token_us", "input_tokens", "outcomes", "output_tokens", "unpriced")

    def __init__(self, times_us: tuple[int, ...]) -> None:
        self.outcomes: dict[tuple[str, int], int] = {}
        self.duration_us = Distribution(times_us)
        self.first_token_us = Distribution(times_us)
        self.cost_nusd = 0
        self.unpriced = 0
        self.input_tokens = 0
        self.output_tokens = 0
