"""Metrics: what is counted, that labels are bounded whatever callers send, and that nothing of a caller is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.ports import Metrics
from gateway.exporters.prometheus import PrometheusMetrics

ENDED: dict[str, Any] = {
    "endpoint": "chat.completions", "model": "fast", "deployment": "p/gpt", "outcome": "ok", "status": 200,
    "effective_nusd": 70, "input_tokens": 10, "output_tokens": 5, "duration_us": 30_000, "overhead_us": 150,
    "ttft_us": 20_000,
}  # fmt: skip


def ended(metrics: Metrics, **changed: Any) -> None:
    metrics.call_ended(**{**ENDED, **changed})


def samples(metrics: PrometheusMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample but the time of creation, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(metrics: PrometheusMetrics, name: str, **labels: str) -> float:
    return samples(metrics).get((name, tuple(sorted(labels.items()))), 0.0)


CALL = {"endpoint": "chat.completions", "model": "fast", "deployment": "p/gpt"}


def test_a_call_is_counted_once_in_everything_it_is_part_of() -> None:
    metrics = PrometheusMetrics()
    ended(metrics)
    ended(metrics, outcome="error", status=502, effective_nusd=0, input_tokens=0, output_tokens=0, ttft_us=-1)
    assert value(metrics, "faregate_calls_total", **CALL, outcome="ok", status="200") == 1
    assert value(metrics, "faregate_calls_total", **CALL, outcome="error", status="502") == 1
    assert value(metrics, "faregate_call_duration_seconds_count", **CALL) == 2
    assert value(metrics, "faregate_first_token_seconds_count", **CALL) == 1
    assert value(metrics, "faregate_first_token_seconds_sum", **CALL) == pytest.approx(0.02)
    assert value(metrics, "faregate_overhead_seconds_sum", endpoint="chat.completions") == pytest.approx(0.0003)
    assert value(metrics, "faregate_cost_usd_total", model="fast", deployment="p/gpt") == pytest.approx(70e-9)
    assert value(metrics, "faregate_tokens_total", model="fast", deployment="p/gpt", direction="input") == 10
    assert value(metrics, "faregate_tokens_total", model="fast", deployment="p/gpt", direction="output") == 5


def test_a_call_without_a_price_is_counted_as_that_and_not_as_free() -> None:
    metrics = PrometheusMetrics()
    ended(metrics, effective_nusd=None)
    assert value(metrics, "faregate_unpriced_calls_total", model="fast") == 1
    assert value(metrics, "faregate_cost_usd_total", model="fast", deployment="p/gpt") == 0


def test_refusals_before_a_key_was_known() -> None:
    metrics = PrometheusMetrics()
    metrics.refused_before_identified("invalid_api_key")
    assert value(metrics, "faregate_refused_before_identified_total", code="invalid_api_key") == 1


def test_holds_and_the_alarm_that_must_stay_zero() -> None:
    metrics = PrometheusMetrics()
    metrics.hold_settled(1000, 70)
    metrics.hold_settled(70, 70)
    metrics.hold_settled(1000, 0)
    assert value(metrics, "faregate_bound_violations_total") == 0
    assert value(metrics, "faregate_hold_overestimate_ratio_count") == 2
    metrics.hold_settled(69, 70)
    assert value(metrics, "faregate_bound_violations_total") == 1


def test_a_gauge_is_read_when_asked_for() -> None:
    metrics = PrometheusMetrics()
    readings = iter((3.0, 4.0))
    metrics.gauge("faregate_open_holds", "Attempts that run", lambda: next(readings))
    assert value(metrics, "faregate_open_holds") == 3
    assert value(metrics, "faregate_open_holds") == 4


def test_a_model_that_nothing_was_planned_for_is_nobodys_label() -> None:
    metrics = PrometheusMetrics()
    for name in ("made-up", 'x"} 1\nfaregate_cost_usd_total 9e9', "sk-secret"):
        ended(metrics, model=name, deployment="", outcome="refused", status=404, effective_nusd=0)
    text = metrics.render().decode()
    assert 'model="unknown"' in text
    for made_up in ("made-up", "9e9", "sk-secret"):
        assert made_up not in text


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["", "p", "q"])), max_size=40))
def test_through_wildcards_callers_cannot_grow_it_without_bound(asked: list[tuple[str, str]]) -> None:
    """What a wildcard lets through is the caller's word, in the model's and in the deployment's label."""
    metrics = PrometheusMetrics(max_series=5)
    for name, provider in asked:
        ended(metrics, model=f"any/{name}", deployment=f"{provider}/{name}" if provider else "", effective_nusd=None)
    known = samples(metrics)
    models = {labels for _, pairs in known for key, labels in pairs if key == "model"}
    deployments = {labels for _, pairs in known for key, labels in pairs if key == "deployment"}
    assert len(models) <= 5 + 2
    assert len(deployments) <= 5 + 3
    counted = sum(number for (name, _), number in known.items() if name == "faregate_calls_total")
    assert counted == len(asked), "and still every call is counted"


def test_two_processes_worth_of_metrics_do_not_share_anything() -> None:
    one, other = PrometheusMetrics(), PrometheusMetrics()
    ended(one)
    assert value(other, "faregate_calls_total", **CALL, outcome="ok", status="200") == 0
