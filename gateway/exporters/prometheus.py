"""core.ports.Metrics on prometheus_client, and the text of `/metrics`.

Labels are model and deployment names of the configuration, never a key, user or anything else a caller makes up. Money
as a float is for display only; the ledger has the integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_OVERHEAD_S = (0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512)
_RATIOS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)
_NANO = 1e9
_MICRO = 1e6


class _Series:
    """The children of one (endpoint, model, deployment), looked up once."""

    __slots__ = ("cost", "duration", "first_token", "input", "output", "overhead")

    def __init__(self, owner: PrometheusMetrics, endpoint: str, model: str, deployment: str) -> None:
        self.duration = owner.duration.labels(endpoint, model, deployment)
        self.overhead = owner.overhead.labels(endpoint)
        self.first_token = owner.first_token.labels(endpoint, model, deployment)
        self.cost = owner.cost.labels(model, deployment)
        self.input = owner.tokens.labels(model, deployment, "input")
        self.output = owner.tokens.labels(model, deployment, "output")


class PrometheusMetrics:
    """Counters of one process. `max_series` bounds what a wildcard's models can create; the rest is `other`."""

    name: ClassVar[str] = "prometheus"

    def __init__(self, max_series: int = 500) -> None:
        self.registry = registry = CollectorRegistry()
        names = ["endpoint", "model", "deployment"]
        self.calls = Counter("faregate_calls", "Calls ended", [*names, "outcome", "status"], registry=registry)
        self.duration = Histogram(
            "faregate_call_duration_seconds", "Whole duration of a call", names, buckets=_SECONDS, registry=registry
        )
        self.overhead = Histogram(
            "faregate_overhead_seconds", "The gateway's own share", ["endpoint"], buckets=_OVERHEAD_S, registry=registry
        )
        self.first_token = Histogram(
            "faregate_first_token_seconds", "Time to the first token", names, buckets=_SECONDS, registry=registry
        )
        self.cost = Counter("faregate_cost_usd", "Effective cost", ["model", "deployment"], registry=registry)
        self.unpriced = Counter("faregate_unpriced_calls", "Calls without a price", ["model"], registry=registry)
        self.tokens = Counter("faregate_tokens", "Tokens", ["model", "deployment", "direction"], registry=registry)
        self.refused = Counter(
            "faregate_refused_before_identified", "Refusals before a key was known", ["code"], registry=registry
        )
        self.hold_ratio = Histogram(
            "faregate_hold_overestimate_ratio", "Hold divided by cost", buckets=_RATIOS, registry=registry
        )
        self.bound_violations = Counter(
            "faregate_bound_violations", "Attempts that cost more than their hold: must stay 0", registry=registry
        )
        self._max_series = max_series
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._outcomes: dict[tuple[str, str, str, str, int], Counter] = {}

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
        if not deployment:
            model = "unknown"
        series = self._series.get((endpoint, model, deployment))
        if series is None:
            if deployment and len(self._series) >= self._max_series:
                model, deployment = "other", f"{deployment.partition('/')[0]}/other"
            series = self._series.get((endpoint, model, deployment)) or _Series(self, endpoint, model, deployment)
            self._series[(endpoint, model, deployment)] = series
        key = (endpoint, model, deployment, outcome, status)
        counter = self._outcomes.get(key)
        if counter is None:
            counter = self._outcomes[key] = self.calls.labels(endpoint, model, deployment, outcome, str(status))
        counter.inc()
        series.duration.observe(duration_us / _MICRO)
        series.overhead.observe(overhead_us / _MICRO)
        if ttft_us >= 0:
            series.first_token.observe(ttft_us / _MICRO)
        if not deployment:
            return
        if effective_nusd is None:
            self.unpriced.labels(model).inc()
        elif effective_nusd > 0:
            series.cost.inc(effective_nusd / _NANO)
        if input_tokens:
            series.input.inc(input_tokens)
        if output_tokens:
            series.output.inc(output_tokens)

    def refused_before_identified(self, code: str) -> None:
        self.refused.labels(code).inc()

    def hold_settled(self, bound_nusd: int, effective_nusd: int) -> None:
        if effective_nusd > bound_nusd:
            self.bound_violations.inc()
        if effective_nusd > 0:
            self.hold_ratio.observe(bound_nusd / effective_nusd)

    def render(self) -> bytes:
        """The body of `/metrics` in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text


MEMBER = PrometheusMetrics
