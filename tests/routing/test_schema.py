"""The published schema is the generated one, the shipped file is valid, and schema and parser agree."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from gateway.pricing.book import PriceBook
from gateway.providers.discover import discover
from gateway.routing.compile import check_policy, compile_policy
from gateway.routing.plan import plan
from gateway.routing.resolve import visible_models
from gateway.routing.schema import routes_schema, schema_text
from routing.rows import ROWS, key, sheets
from routing.test_routes import GOOD, MISTAKES

POLICIES = Path(__file__).resolve().parents[2] / "policies"

BEYOND_A_SCHEMA = {
    "address without a key", "alias circle", "alias named like a model", "alias of a wildcard", "alias of itself",
    "alias of nothing", "alias with a star", "auth scheme", "duplicate key", "duplicate model", "duplicate section",
    "header of ours", "header twice", "header with a secret", "kind needs an address", "loopback", "loopback by name",
    "mapped address", "merge key", "metadata service", "network that is none", "network with host bits",
    "no credential", "no kind", "not a number", "private address", "public only", "sexagesimal", "star in price",
    "star in the middle", "star without wildcard", "two stars", "unknown dialect", "unknown kind", "unknown provider",
    "version for nothing", "version missing",
}  # fmt: skip
"""Mistakes that need other names, secrets' meaning or YAML itself to be seen."""


def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(routes_schema())
    return jsonschema.Draft202012Validator(routes_schema())


def test_the_published_schema_is_the_generated_one() -> None:
    """`python -m gateway.routing.schema > policies/routes.schema.json` writes it."""
    assert (POLICIES / "routes.schema.json").read_text() == schema_text()
    assert msgspec.json.decode(schema_text()) == routes_schema()


def test_the_shipped_file_is_valid_for_schema_and_compiler() -> None:
    text = (POLICIES / "routes.yaml").read_text()
    validator().validate(yaml.safe_load(text))
    policy, problems = check_policy(text, "policies/routes.yaml", ROWS, sheets)
    assert problems == []
    assert policy is not None
    assert {"openai", "simulated"} <= set(policy.providers)


def test_the_shipped_file_compiles_with_the_real_rows_and_prices() -> None:
    text = (POLICIES / "routes.yaml").read_text()
    policy = compile_policy(text, "policies/routes.yaml", discover(), PriceBook().sheets_for)
    for name in ("gpt-4o-mini", "fast", "openai/gpt-4o", "simulated/sim-small"):
        (step,) = plan(policy, key(), name).deployments
        assert step.sheet is not None, name
    assert "openai/gpt-4o" in {route.name for route in visible_models(policy, key())}


def test_a_good_file_is_valid() -> None:
    validator().validate(yaml.safe_load(GOOD))


@pytest.mark.parametrize("case", sorted(MISTAKES))
def test_schema_and_parser_agree_where_a_schema_can_tell(case: str) -> None:
    text = MISTAKES[case][0]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    assert validator().is_valid(value) == (case in BEYOND_A_SCHEMA)
