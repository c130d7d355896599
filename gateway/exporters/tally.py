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

    def quantile(self, share: float) -> int | None:
        """The upper edge of the bucket in which that share of all lies (of what is above all edges the last edge);
        None of nothing."""
        wanted = share * sum(self.counts)
        for edge, count in self.cumulative():
            if count and count >= wanted:
                return self.edges[-1] if edge is None else edge
        return None

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


class Counts:
    """Whole numbers by label. `names_max` bounds how many labels there are; the rest is `other`."""

    __slots__ = ("_names_max", "found")

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self.found: dict[tuple[str, ...], int] = {}

    def add(self, labels: tuple[str, ...], amount: int = 1) -> None:
        if labels not in self.found and len(self.found) >= self._names_max:
            labels = ("other",) * len(labels)
        self.found[labels] = self.found.get(labels, 0) + amount


class OfDeployment:
    """What is counted of the attempts at one deployment: how much was held for what they cost (thousandths)."""

    __slots__ = ("beyond_bound", "compared", "gaps", "hold_ratio_milli", "shrunk", "unknown_members")

    def __init__(self, ratios_milli: tuple[int, ...]) -> None:
        self.hold_ratio_milli = Distribution(ratios_milli)
        self.beyond_bound = 0
        self.shrunk = 0
        self.unknown_members = 0
        self.compared = 0
        self.gaps = 0
