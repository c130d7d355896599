"""core.ports.Metrics, and the text of `/metrics` by prometheus_client.

Labels are model and deployment names of the configuration, never a key, user or anything else a caller makes up. Money
as a float is for display only; the ledger has the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.exporters.tally import Counts, Distribution, OfDeployment, Series

_MILLI = 1e3
_MICRO = 1e6
_NANO = 1e9
_TIMES_US = tuple(10_000 << power for power in range(14))
"""10 ms to 82 s."""
_OVERHEAD_US = tuple(100 << power for power in range(10))
_RATIOS_MILLI = tuple(sorted({*(1000 * 5**n // 4**n for n in range(18)), *(50_000 << n for n in range(6))}))
"""From 1 in steps of a quarter to 44, then doubling to 1600: a quantile is told to within a quarter."""
_QUANTILES = (0.5, 0.95)
_NAMES = ("endpoint", "model", "deployment")


class PrometheusMetrics(Collector):
    """Counters of one process. `max_series` bounds what a wildcard's models can create; the rest is `other`."""

    name: ClassVar[str] = "prometheus"

    def __init__(self, max_series: int = 500) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._max_series = max_series
        self._series: dict[tuple[str, str, str], Series] = {}
        self._overhead_us: dict[str, Distribution] = {}
        self._refused: dict[str, int] = {}
        self._deployments: dict[str, OfDeployment] = {}
        self._overshoots = Counts(max_series)
        self._overshot_nusd = Counts(max_series)
        self._changed = Counts(max_series)
        self._untagged = Counts(max_series)
        self._would_refuse: Callable[[], Mapping[str, int]] = dict

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A gauge read when the metrics are asked for."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def counter(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A counter that somebody else counts, read when the metrics are asked for."""
        self.registry.register(_CountedElsewhere(name, meaning, read))

    def call_ended(
        self,
        endpoint: str,
        model: str,
        deployment: str,
        outcome: str,
        status: int,
        effective_nusd: int | None,
        input_tokens: int,
        output_tokens: int,
        duration_us: int,
        overhead_us: int,
        ttft_us: int,
    ) -> None:
        """Counts a settled call. A model that no deployment was planned for is `unknown`: its name is the caller's.

        Through a wildcard it is the caller's too, and part of the deployment's: beyond `max_series` both are `other`.
        """
        series = self._series.get((endpoint, model if deployment else "unknown", deployment))
        if series is None:
            series = self._new_series(endpoint, model if deployment else "unknown", deployment)
        key = (outcome, status)
        series.outcomes[key] = series.outcomes.get(key, 0) + 1
        series.duration_us.add(duration_us)
        overhead = self._overhead_us.get(endpoint)
        if overhead is None:
            overhead = self._overhead_us[endpoint] = Distribution(_OVERHEAD_US)
        overhead.add(overhead_us)
        if ttft_us >= 0:
            series.first_token_us.add(ttft_us)
        if not deployment:
            return
        if effective_nusd is None:
            series.unpriced += 1
        else:
            series.cost_nusd += effective_nusd
        series.input_tokens += input_tokens
        series.output_tokens += output_tokens

    def _new_series(self, endpoint: str, model: str, deployment: str) -> Series:
        if deployment and len(self._series) >= self._max_series:
            model, deployment = "other", f"{deployment.partition('/')[0]}/other"
        series = self._series.get((endpoint, model, deployment))
        if series is None:
            series = self._series[endpoint, model, deployment] = Series(_TIMES_US)
        return series

    def refused_before_identified(self, code: str) -> None:
        self._refused[code] = self._refused.get(code, 0) + 1

    def hold_settled(self, deployment: str, bound_nusd: int, effective_nusd: int) -> None:
        found = self._deployments.get(deployment) or self._deployment(deployment)
        if effective_nusd > bound_nusd:
            found.beyond_bound += 1
        if effective_nusd > 0:
            found.hold_ratio_milli.add(bound_nusd * 1000 // effective_nusd)

    def hold_shrunk(self, deployment: str) -> None:
        self._deployment(deployment).shrunk += 1

    def overshot(self, limit_id: str, nusd: int) -> None:
        self._overshoots.add((limit_id,))
        self._overshot_nusd.add((limit_id,), nusd)

    def call_changed(self, limit_id: str, action: str) -> None:
        self._changed.add((limit_id, action))

    def usage_unknown(self, deployment: str, members: int) -> None:
        self._deployment(deployment).unknown_members += members

    def cost_compared(self, deployment: str, gap: bool) -> None:
        found = self._deployment(deployment)
        found.compared += 1
        found.gaps += gap

    def tag_missing(self, tag: str, refused: bool) -> None:
        self._untagged.add((tag, "refused" if refused else "dry_run"))

    def watch_refusals(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Where the engine counts, by limit id, what limits that only watch would have refused."""
        self._would_refuse = read

    def _deployment(self, name: str) -> OfDeployment:
        """A wildcard's deployments are named by callers: beyond `max_series` they are `PROVIDER/other`."""
        if name not in self._deployments and len(self._deployments) >= self._max_series:
            name = f"{name.partition('/')[0]}/other"
        found = self._deployments.get(name)
        if found is None:
            found = self._deployments[name] = OfDeployment(_RATIOS_MILLI)
        return found

    def render(self) -> bytes:
        """The body of `/metrics` in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text

    # ------------------------------------------------------------ when asked

    def collect(self) -> Iterable[Metric]:
        """prometheus_client's Collector: every family from the counts as they are now."""
        calls = CounterMetricFamily("faregate_calls", "Calls ended", labels=[*_NAMES, "outcome", "status"])
        duration = HistogramMetricFamily("faregate_call_duration_seconds", "Whole duration of a call", labels=_NAMES)
        first = HistogramMetricFamily("faregate_first_token_seconds", "Time to the first token", labels=_NAMES)
        for labels, series in self._series.items():
            for (outcome, status), count in series.outcomes.items():
                calls.add_metric([*labels, outcome, str(status)], count)
            _add(duration, labels, series.duration_us, _MICRO)
            if any(series.first_token_us.counts):
                _add(first, labels, series.first_token_us, _MICRO)
        overhead = HistogramMetricFamily("faregate_overhead_seconds", "The gateway's own share", labels=["endpoint"])
        for endpoint, spent in self._overhead_us.items():
            _add(overhead, (endpoint,), spent, _MICRO)
        refused = CounterMetricFamily(
            "faregate_refused_before_identified", "Refusals before a key was known", labels=["code"]
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        return (
            calls,
            duration,
            first,
            overhead,
            *self._by_deployment(),
            refused,
            *self._of_holds(),
            *self._of_limits(),
        )

    def _by_deployment(self) -> Iterable[Metric]:
        """Cost and tokens, which are not told apart by endpoint."""
        cost = CounterMetricFamily("faregate_cost_usd", "Effective cost", labels=["model", "deployment"])
        tokens = CounterMetricFamily("faregate_tokens", "Tokens", labels=["model", "deployment", "direction"])
        unpriced = CounterMetricFamily("faregate_unpriced_calls", "Calls without a price", labels=["model"])
        sums: dict[tuple[str, str], list[int]] = {}
        missing: dict[str, int] = {}
        for (_, model, deployment), series in self._series.items():
            total = sums.setdefault((model, deployment), [0, 0, 0])
            for place, amount in enumerate((series.cost_nusd, series.input_tokens, series.output_tokens)):
                total[place] += amount
            if series.unpriced:
                missing[model] = missing.get(model, 0) + series.unpriced
        for (model, deployment), (cost_nusd, input_tokens, output_tokens) in sums.items():
            if deployment:
                cost.add_metric([model, deployment], cost_nusd / _NANO)
                tokens.add_metric([model, deployment, "input"], input_tokens)
                tokens.add_metric([model, deployment, "output"], output_tokens)
        for model, count in missing.items():
            unpriced.add_metric([model], count)
        return cost, tokens, unpriced

    def _of_holds(self) -> Iterable[Metric]:
        """What attempts were held for and what they cost, by deployment."""
        place = ["deployment"]
        ratio = HistogramMetricFamily("faregate_hold_overestimate_ratio", "Hold divided by cost", labels=place)
        shares = GaugeMetricFamily(
            "faregate_hold_overestimate_ratio_quantile", "Hold divided by cost", labels=[*place, "quantile"]
        )
        shrunk = CounterMetricFamily("faregate_holds_shrunk", "Holds made smaller while they ran", labels=place)
        unknown = CounterMetricFamily("faregate_unknown_usage_members", "Members of usages nobody reads", labels=place)
        compared = CounterMetricFamily("faregate_reported_costs", "Costs that providers told", labels=place)
        gaps = CounterMetricFamily("faregate_reported_cost_gaps", "Of these, over 1 % from ours", labels=place)
        for name, of in self._deployments.items():
            if any(of.hold_ratio_milli.counts):
                _add(ratio, (name,), of.hold_ratio_milli, _MILLI)
            for share in _QUANTILES:
                edge = of.hold_ratio_milli.quantile(share)
                if edge is not None:
                    shares.add_metric([name, str(share)], edge / _MILLI)
            for family, count in ((shrunk, of.shrunk), (unknown, of.unknown_members), (compared, of.compared)):
                if count:
                    family.add_metric([name], count)
            if of.compared:
                gaps.add_metric([name], of.gaps)
        beyond = sum(of.beyond_bound for of in self._deployments.values())
        violations = CounterMetricFamily(
            "faregate_bound_violations", "Attempts that cost more than their hold: must stay 0", beyond
        )
        return ratio, shares, shrunk, unknown, compared, gaps, violations

    def _of_limits(self) -> Iterable[Metric]:
        """What limits did, by their ids."""
        watched = Counts(self._max_series)
        for limit_id, count in self._would_refuse().items():
            watched.add((limit_id,), count)
        families = [
            ("faregate_estimate_overshoots", "Attempts that took an estimate limit beyond its amount", ["limit"]),
            ("faregate_estimate_overshoot_nusd", "By how much, nano-USD", ["limit"]),
            ("faregate_would_refuse", "Granted calls that a limit in dry run or alert would refuse", ["limit"]),
            ("faregate_calls_changed", "Calls that a limit changed instead of refusing", ["limit", "action"]),
            ("faregate_tags_missing", "Calls without a tag their team must send", ["tag", "outcome"]),
        ]
        counts = (self._overshoots, self._overshot_nusd, watched, self._changed, self._untagged)
        made = []
        for (name, meaning, labels), of in zip(families, counts, strict=True):
            family = CounterMetricFamily(name, meaning, labels=labels)
            for values, count in of.found.items():
                family.add_metric(list(values), count)
            made.append(family)
        return made


class _CountedElsewhere(Collector):
    def __init__(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        self._counter = name, meaning
        self._read = read

    def collect(self) -> Iterable[Metric]:
        name, meaning = self._counter
        return (CounterMetricFamily(name, meaning, self._read()),)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: Distribution, unit: float) -> None:
    buckets = [("+Inf" if edge is None else str(edge / unit), count) for edge, count in distribution.cumulative()]
    family.add_metric(labels, buckets, distribution.total / unit)


MEMBER = PrometheusMetrics
