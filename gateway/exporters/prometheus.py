"""core.ports.Metrics, and the text of `/metrics` by prometheus_client.

Labels are model and deployment names of the configuration, never a key, user or anything else a caller makes up. Money
as a float is for display only; the ledger has the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.exporters.tally import Distribution, Series

_MILLI = 1e3
_MICRO = 1e6
_NANO = 1e9
_TIMES_US = tuple(10_000 << power for power in range(14))
"""10 ms to 82 s."""
_OVERHEAD_US = tuple(100 << power for power in range(10))
_RATIOS_MILLI = (1000, 1250, 1500, 2000, 3000, 5000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
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
        self._hold_ratio_milli = Distribution(_RATIOS_MILLI)
        self._bound_violations = 0

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """A gauge read when the metrics are asked for."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

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

    def hold_settled(self, bound_nusd: int, effective_nusd: int) -> None:
        if effective_nusd > bound_nusd:
            self._bound_violations += 1
        if effective_nusd > 0:
            self._hold_ratio_milli.add(bound_nusd * 1000 // effective_nusd)

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
        ratio = HistogramMetricFamily("faregate_hold_overestimate_ratio", "Hold divided by cost", labels=[])
        _add(ratio, (), self._hold_ratio_milli, _MILLI)
        violations = CounterMetricFamily(
            "faregate_bound_violations", "Attempts that cost more than their hold: must stay 0", self._bound_violations
        )
        return (calls, duration, first, overhead, *self._by_deployment(), refused, ratio, violations)

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


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: Distribution, unit: float) -> None:
    buckets = [("+Inf" if edge is None else str(edge / unit), count) for edge, count in distribution.cumulative()]
    family.add_metric(labels, buckets, distribution.total / unit)


MEMBER = PrometheusMetrics
