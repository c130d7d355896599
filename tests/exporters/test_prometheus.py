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
    metrics.hold_settled("p/m", 1000, 70)
    metrics.hold_settled("p/m", 70, 70)
    metrics.hold_settled("p/m", 1000, 0)
    assert value(metrics, "faregate_bound_violations_total") == 0
    assert value(metrics, "faregate_hold_overestimate_ratio_count", deployment="p/m") == 2
    metrics.hold_settled("p/other", 69, 70)
    assert value(metrics, "faregate_bound_violations_total") == 1


def test_how_much_is_held_for_what_things_cost_can_be_read_as_quantiles_by_deployment() -> None:
    metrics = PrometheusMetrics()
    for ratio in range(1, 101):
        metrics.hold_settled("p/m", ratio * 1000, 1000)
    metrics.hold_settled("q/m", 10**12, 1)
    name = "faregate_hold_overestimate_ratio_quantile"
    assert 50 <= value(metrics, name, deployment="p/m", quantile="0.5") <= 50 * 1.25
    assert 95 <= value(metrics, name, deployment="p/m", quantile="0.95") <= 95 * 1.25
    assert value(metrics, name, deployment="q/m", quantile="0.5") == 1600, "the last edge: there is no larger one"


def test_what_limits_did_by_their_ids() -> None:
    metrics = PrometheusMetrics(max_series=2)
    metrics.overshot("est", 30)
    metrics.overshot("est", 12)
    metrics.call_changed("est", "downgrade")
    watched = {"a": 3, "b": 1, "c": 2, "d": 5}
    metrics.watch_refusals(lambda: watched)
    assert value(metrics, "faregate_estimate_overshoots_total", limit="est") == 2
    assert value(metrics, "faregate_estimate_overshoot_nusd_total", limit="est") == 42
    assert value(metrics, "faregate_calls_changed_total", limit="est", action="downgrade") == 1
    refused = {labels: n for (name, labels), n in samples(metrics).items() if name == "faregate_would_refuse_total"}
    assert refused == {(("limit", "a"),): 3, (("limit", "b"),): 1, (("limit", "other"),): 7}, "bounded, none lost"


def test_what_providers_told_that_we_do_not_know_or_reckon_otherwise() -> None:
    metrics = PrometheusMetrics()
    metrics.usage_unknown("p/m", 2)
    metrics.usage_unknown("p/m", 1)
    for gap in (False, True, False):
        metrics.cost_compared("p/m", gap)
    metrics.tag_missing("feature", refused=False)
    assert value(metrics, "faregate_unknown_usage_members_total", deployment="p/m") == 3
    assert value(metrics, "faregate_reported_costs_total", deployment="p/m") == 3
    assert value(metrics, "faregate_reported_cost_gaps_total", deployment="p/m") == 1
    assert value(metrics, "faregate_tags_missing_total", tag="feature", outcome="dry_run") == 1


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
        if provider:
            metrics.hold_settled(f"{provider}/{name}", 2, 1)
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
