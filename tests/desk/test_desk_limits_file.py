"""`limits.yaml` as the desk reads it: mistakes with their lines, dates, and the file that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk.world import ROUTED
from gateway.core.caller import RequiredTags
from gateway.core.errors import ConfigInvalid
from gateway.desk.limits.file import with_limits
from gateway.routing.policy_bytes import decode_policy, encode_policy

HEAD = "limits:\n  a:\n    limit: 5USD/day\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits:\n  a:\n    limit: 5USD\n", "limits.yaml:3: limit a: limit: '5USD' names no window"),
        ("limits:\n  a:\n    limt: 5USD/day\n", "limits.yaml:3: limit a: limt: is no member of a limit"),
        ("limits:\n  a:\n    scope: {}\n", "limits.yaml:2: limit a: limit: is missing"),
        ("limits:\n  lim_1:\n    limit: 5USD/day\n", "limits.yaml:2: limit lim_1: id: ids that begin with lim_"),
        (f"{HEAD}    scope: {{provider: opnai}}\n", "there is no provider 'opnai'. Did you mean 'openai'?"),
        (f"{HEAD}    scope: {{model: gtp}}\n", "there is no model 'gtp'. Did you mean 'gpt'?"),
        (f"{HEAD}    scope: {{deployment: x/y}}\n", "has no provider that is there"),
        (f"{HEAD}    on_exceed: downgrade\n    downgrade_to: gtp\n", "limits.yaml:5: limit a: downgrade_to: there"),
        (f"{HEAD}    on_exceed: downgrade\n    downgrade_to: gpt\n    scope: {{model: gpt}}\n", "is the model that"),
        (f"{HEAD}    on_exceed: downgrade\n", "limits.yaml:2: limit a: downgrade_to: must name the model"),
        (f"{HEAD}    on_exceed: cap_output\n    min_output: few\n", "limit a: min_output: must be a whole number"),
        ("limits:\n  a:\n    limit: 5USD/day\n    scope: [team]\n", "must be a mapping"),
        ("limits:\n  a:\n    limit: 5USD/day\n    max_values: many\n    scope: {user: each}\n", "limit a: max_values"),
        ("tags:\n  rollup: [a]\n", "limits.yaml:2: tags has no 'rollup'. Did you mean 'rollups'?"),
        ("tags:\n  rollups: [a, 'b=c']\n", "limits.yaml:2: tags: rollups: 'b=c' cannot be a tag's name"),
        ("tags:\n  rollups: feature\n", "tags: rollups must be a list"),
        ("tags:\n  required:\n    growth: {tags: []}\n", "limits.yaml:3: tags: required: 'growth' names no tags"),
        ("tags:\n  required:\n    growth: {tags: [a], mode: on}\n", "mode must be text"),
        ("tags:\n  required:\n    growth: {tags: [a], mode: deny}\n", "mode cannot be 'deny'. Use block or dry_run"),
        ("tags:\n  required:\n    '*': {tags: [a]}\n", "'*' is no team. Name one, or each"),
        ("tags:\n  required:\n    growth: {tag: [a]}\n", "has no 'tag'. Did you mean 'tags'?"),
        ("limit:\n  a: {}\n", "unknown section 'limit'. Did you mean 'limits'?"),
        ("limits:\n  a:\n    limit: 5USD/day\n  a:\n    limit: 6USD/day\n", "'a' is there twice"),
        ("limits: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_files_mistake_has_its_line_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(ConfigInvalid) as found:
        with_limits(ROUTED, tmp_path)
    assert said in found.value.message


def test_dates_need_no_quotes_and_a_model_under_a_wildcard_is_one(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text(
        "limits:\n  a:\n    limit: 5USD/day\n    scope: {model: openai/new}\n"
        "    increase: {by: 5USD, until: 2026-12-24}\n    alerts: [50]\n"
    )
    (found,) = with_limits(ROUTED, tmp_path).limits
    assert (found.increase_until_ms, found.alerts) == (1_798_070_400_000, (50,))


def test_tags_are_compiled_into_the_policy(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text(
        "tags:\n  rollups: [feature, env]\n  required:\n    growth: {tags: [feature], mode: block}\n"
        "    each: {tags: [env, env]}\n"
    )
    policy = with_limits(ROUTED, tmp_path)
    assert policy.tags.rollups == ("feature", "env")
    assert policy.tags.required == (RequiredTags("*", ("env",)), RequiredTags("growth", ("feature",), refuses=True))
    assert policy.hash != ROUTED.hash
    assert decode_policy(encode_policy(policy), policy.revision) == policy


def test_limits_that_change_calls_are_read(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text(
        f"{HEAD}    on_exceed: downgrade\n    downgrade_to: openai/new\n    scope: {{model: gpt}}\n"
        "  b:\n    limit: 5USD/day\n    on_exceed: cap_output\n    min_output: 9\n"
    )
    found = with_limits(ROUTED, tmp_path).limits
    assert [(one.on_exceed, one.downgrade_to, one.min_output) for one in found] == [
        ("downgrade", "openai/new", 0),
        ("cap_output", "", 9),
    ]


def test_the_shipped_file_and_its_schema_are_valid(tmp_path: Path) -> None:
    """`python -m gateway.limits.schema > policies/limits.schema.json` writes the schema."""
    import jsonschema
    import yaml

    from gateway.limits.schema import limits_schema, schema_text

    policies = Path(__file__).resolve().parents[2] / "policies"
    assert (policies / "limits.schema.json").read_text() == schema_text()
    text = (policies / "limits.yaml").read_text()
    assert with_limits(ROUTED, policies) is ROUTED, "everything in it is commented out"
    shown = "\n".join(
        line.replace("  # ", "  ", 1) if line.startswith("  # ") and _is_yaml(line) else line
        for line in text.split("\n")
    )
    jsonschema.Draft202012Validator(limits_schema()).validate(yaml.safe_load(shown))
    (tmp_path / "limits.yaml").write_text(shown.replace("gpt-4o-mini", "gpt"))
    assert len(with_limits(ROUTED, tmp_path).limits) == 10


def _is_yaml(line: str) -> bool:
    rest = line.removeprefix("  # ")
    return rest.startswith("  ") or rest.endswith(":")
