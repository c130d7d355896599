"""`alerts.yaml` as the desk reads it: mistakes with their lines, and the file that is shipped."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from desk.world import ROUTED
from gateway.alerts.schema import alerts_schema, schema_text
from gateway.core.alerts import AlertKind, AlertPolicy, AlertRules, Channel, ChannelKind, Encryption, Route
from gateway.core.errors import ConfigInvalid
from gateway.desk.alerts.file import with_alerts

POLICIES = Path(__file__).resolve().parents[2] / "policies"
HOOK = "channels:\n  ops: {webhook: https://h.example.com/x, secret: env:S}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chanels: {}\n", "alerts.yaml:1: chanels: 'chanels' is not known here. There are url, channels"),
        ("channels:\n  ops:\n    webhook: https://h.example.com\n", "alerts.yaml:2: channels: ops: has no secret"),
        (f"{HOOK}  b: {{}}\n", "alerts.yaml:3: channels: b: must have one of webhook, slack and email"),
        ("channels:\n  ops: {webhook: https://h.example.com, secret: hunter2}\n",
         "alerts.yaml:2: channels: ops: secret: secrets are only named here, never written. Write env:NAME"),
        ("channels:\n  s: {slack: https://hooks.slack.com/services/T/B/x}\n", "secrets are only named here"),
        ("channels:\n  s: {slack: env:S, smtp: a:25}\n", "smtp does not belong to a channel with slack"),
        ("channels:\n  Ops: {slack: env:S}\n", "'Ops' cannot be a channel's name"),
        ("channels:\n  ops: {webhook: ftp://h, secret: env:S}\n", "webhook: is no URL"),
        ("channels:\n  ops: {webhook: https://u:p@h.example.com/x, secret: env:S}\n", "webhook: is no URL"),
        (f"{HOOK}default: [pos]\n", "alerts.yaml:3: default: there is no channel 'pos'. There are ops"),
        (f"{HOOK}routes:\n  - {{team: a, to: [ops]}}\n  - {{to: [ops]}}\n", "alerts.yaml:5: routes: takes every alert"),
        (f"{HOOK}routes:\n  - {{team: a}}\n", "alerts.yaml:4: routes: names no channel"),
        (f"{HOOK}routes:\n  - {{kinds: [money], to: [ops]}}\n", "there is no kind 'money'. There are threshold"),
        ("channels:\n  m: {email: [a], smtp: s:25, from: a@b}\n", "email: 'a' is no address"),
        ("channels:\n  m: {email: [a@b], smtp: s, from: a@b}\n", "smtp: is no mail server"),
        ("channels:\n  m: {email: [a@b], smtp: s:25, from: a@b, user: u}\n", "has one of user and password"),
        ("channels:\n  m: {email: [a@b], smtp: s:25, from: a@b, encryption: ssl}\n", "Use tls, starttls, none"),
        ("channels:\n  m: {email: [a@b], smtp: s:25, from: a@b, networks: [lan]}\n", "neither loopback, private"),
        ("rules: {thresholds: [0]}\n", "are whole per cents from 1 to 100"),
        ("rules: {quiet: soon}\n", "alerts.yaml:1: rules: quiet: quiet: is no length of time"),
        ("rules:\n  rate_of_spend:\n    minimum: 20EUR\n", "alerts.yaml:3: rules: rate_of_spend: minimum: '20EUR'"),
        ("rules: {forecast_from: 100}\n", "must be a whole number from 0 to 99"),
        ("pause_link_hours: 0\n", "from 1 to 168"),
        ("url: gateway\n", "url: is no URL"),
        ("rules: []\n", "rules: must be a mapping"),
        ("url: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_files_mistake_has_its_line_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "alerts.yaml").write_text(text)
    with pytest.raises(ConfigInvalid) as found:
        with_alerts(ROUTED, tmp_path)
    assert said in found.value.message
    assert "hunter2" not in found.value.message


def test_no_file_and_an_empty_one_change_nothing(tmp_path: Path) -> None:
    assert with_alerts(ROUTED, tmp_path) is ROUTED
    (tmp_path / "alerts.yaml").write_text("channels:\nrules:\n")
    assert with_alerts(ROUTED, tmp_path) is ROUTED


def test_the_shipped_file_and_its_schema_are_valid(tmp_path: Path) -> None:
    """`python -m gateway.alerts.schema > policies/alerts.schema.json` writes the schema."""
    assert (POLICIES / "alerts.schema.json").read_text() == schema_text()
    text = (POLICIES / "alerts.yaml").read_text()
    assert with_alerts(ROUTED, POLICIES) is ROUTED, "everything in it is commented out"
    after_head = text.partition("\n\n")[2].split("\n")
    shown = "\n".join(line.removeprefix("# ") for line in after_head if _is_yaml(line))
    jsonschema.Draft202012Validator(alerts_schema()).validate(yaml.safe_load(shown))
    (tmp_path / "alerts.yaml").write_text(shown)
    sealed = with_alerts(ROUTED, tmp_path)
    assert sealed.hash != ROUTED.hash
    assert sealed.alerts == AlertPolicy(
        channels=(
            Channel("ops", ChannelKind.WEBHOOK, "https://hooks.example.com/faregate", "env:FAREGATE_ALERT_SECRET"),
            Channel("growth", ChannelKind.SLACK, "", "env:SLACK_GROWTH_URL"),
            Channel(
                "finance", ChannelKind.EMAIL, "smtp.example.com:587", "env:SMTP_PASSWORD", ("private",), "",
                ("finance@example.com",), "faregate@example.com", "faregate", Encryption.STARTTLS,
            ),
        ),
        default=("ops",),
        routes=(
            Route(("growth", "finance"), team="growth"),
            Route(("ops",), key_id="k7x2m9q4w1ab"),
            Route(("ops",), kinds=(AlertKind.RECORDING_DELAY, AlertKind.JOURNAL_FAULT)),
        ),
        rules=AlertRules(rate_per_hour_nusd=100 * 10**9),
        url="https://gateway.example.com",
    )  # fmt: skip


def _is_yaml(line: str) -> bool:
    """Commented-out lines of YAML: they have a colon, and no full stop before their own comment."""
    rest = line.removeprefix("# ")
    told = rest.partition(" #")[0]
    return line.startswith("# ") and ":" in told and not rest.startswith("yaml-") and not told.rstrip().endswith(".")


@pytest.mark.parametrize(
    "document",
    [
        {"channels": {"a": {"webhook": "https://h"}}},
        {"channels": {"a": {"slack": "https://hooks"}}},
        {"channels": {"a": {"slack": "env:S", "webhook": "https://h", "secret": "env:S"}}},
        {"rules": {"thresholds": [0]}},
        {"routes": [{"team": "a"}]},
        {"colour": 1},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(document: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(alerts_schema()).validate(document)
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigInvalid):
        with_alerts(ROUTED, tmp_path)
