"""`limits.yaml` as the desk reads it: mistakes with their lines, dates, and the file that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk.world import ROUTED
from gateway.core.errors import ConfigInvalid
from gateway.desk.limits_file import with_limits

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
        ("limits:\n  a:\n    limit: 5USD/day\n    scope: [team]\n", "must be a mapping"),
        ("limits:\n  a:\n    limit: 5USD/day\n    max_values: many\n    scope: {user: each}\n", "limit a: max_values"),
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
    assert len(with_limits(ROUTED, tmp_path).limits) == 8


def _is_yaml(line: str) -> bool:
    rest = line.removeprefix("  # ")
    return rest.startswith("  ") or rest.endswith(":")
