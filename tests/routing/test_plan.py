"""From a model's name to deployments with settings and prices, within what the key may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from gateway.core.charge import PriceSheet
from gateway.core.errors import ModelNotAllowed, ModelNotFound
from gateway.routing.compile import compile_policy
from gateway.routing.plan import plan
from gateway.routing.resolve import allowed, close_matches, find_route, visible_models
from routing.rows import Row, compiled, key, sheet
from routing.test_routes import GOOD

POLICY = compiled(GOOD)


def test_a_plan_holds_the_settings_and_prices() -> None:
    found = plan(POLICY, key(), "house")
    (step,) = found.deployments
    assert (found.model, found.route.name) == ("house", "house")
    assert step.provider == POLICY.providers["openai"]
    assert step.deployment.model == "ft:gpt-4o:acme"
    assert step.sheet == sheet("openai", "gpt-4o")


def test_a_wildcard_is_substituted_and_priced() -> None:
    found = plan(POLICY, key(), "openai/gpt-4o")
    (step,) = found.deployments
    assert found.route.name == "openai/*"
    assert (step.deployment.id, step.deployment.model) == ("openai/gpt-4o", "gpt-4o")
    assert step.sheet == sheet("openai", "gpt-4o")
    assert plan(POLICY, key(), "openai/unheard-of").deployments[0].sheet is None


@pytest.mark.parametrize(
    "name", ["openai/", "sim-", "gpt-5", "", "openai/a\nb", "openai/" + "x" * 300, "OPENAI/gpt-4o"]
)
def test_what_no_route_covers_is_not_found(name: str) -> None:
    assert find_route(POLICY, name) is None
    with pytest.raises(ModelNotFound) as caught:
        plan(POLICY, key(), name)
    assert caught.value.param == "model"
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("gpt-4o-mni", "gpt-4o-mini"), ("gpt-4o", "openai/gpt-4o"), ("o3", "openai/o3"), ("azure/house", "house")],
)
def test_a_near_miss_is_named(asked: str, meant: str) -> None:
    with pytest.raises(ModelNotFound, match=f"Did you mean {meant}"):
        plan(POLICY, key(), asked)


def test_names_a_key_may_not_use_are_not_suggested() -> None:
    assert close_matches(POLICY, "gpt-4o-mni", ("house",)) == []
    assert close_matches(POLICY, "x" * 100_000) == []


def test_an_empty_configuration_says_so() -> None:
    with pytest.raises(ModelNotFound, match="No model is configured"):
        plan(compiled("models: {}\n"), key(), "gpt-4o")


def test_a_model_outside_the_keys_list_is_refused_at_every_use() -> None:
    narrow = key("gpt-4o-mini", "sim-*")
    assert plan(POLICY, narrow, "sim-small").model == "sim-small"
    with pytest.raises(ModelNotAllowed, match="only gpt-4o-mini, sim-\\*"):
        plan(POLICY, narrow, "openai/gpt-4o")


def test_an_alias_may_be_used_by_its_own_name_or_by_its_models() -> None:
    assert allowed(("gpt-4o-mini",), "faster", "gpt-4o-mini")
    assert plan(POLICY, key("gpt-4o-mini"), "faster").deployments[0].deployment.model == "gpt-4o-mini"
    assert plan(POLICY, key("fast"), "fast").deployments[0].deployment.model == "gpt-4o-mini"
    with pytest.raises(ModelNotAllowed):
        plan(POLICY, key("fast"), "gpt-4o-mini")


def test_visible_models_are_names_sorted_with_priced_wildcards_spelled_out() -> None:
    names = [route.name for route in visible_models(POLICY, key())]
    assert names == sorted(names)
    assert names == [
        "fast", "faster", "gpt-4o-mini", "house", "listed", "openai/gpt-4o", "openai/gpt-4o-mini", "openai/o3",
        "sim-large", "sim-small", "wild",
    ]  # fmt: skip
    assert all(find_route(POLICY, name) for name in names)
    assert [route.name for route in visible_models(POLICY, key("sim-*", "house"))] == [
        "house",
        "sim-large",
        "sim-small",
    ]
    assert visible_models(POLICY, key("nothing")) == []


def test_a_kind_with_one_price_for_every_model_has_it_behind_a_wildcard_too() -> None:
    text = "providers: {own: {kind: free, base_url: 'https://own.example', credential: ''}}\nmodels:\n  own/*: own/*\n"
    policy = compile_policy(text, "f", {"free": Row("free", credential_required=False)}, one_price)
    assert set(policy.sheets) == {"free/*"}
    assert plan(policy, key(), "own/whatever").deployments[0].sheet == sheet("free", "*")
    assert visible_models(policy, key()) == [], "nobody can say which models are there"


def one_price(kind: str, models: Iterable[str] | None) -> Mapping[str, PriceSheet]:
    return {model: sheet(kind, model) for model in (["*"] if models is None else models)}
