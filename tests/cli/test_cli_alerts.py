"""`faregate alerts check`: the file and its secrets, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Command

FILE = """\
channels:
  ops: { webhook: https://hooks.example.com/x, secret: env:ALERTS_CHECKED }
  chat: { slack: env:ALERTS_CHAT }
default: [ops]
routes:
  - { team: growth, to: [chat] }
"""


def test_it_says_what_there_is_and_which_secret_is_missing(
    faregate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alerts.yaml").write_text(FILE)
    monkeypatch.setenv("ALERTS_CHECKED", "whsec_hunter2")
    monkeypatch.delenv("ALERTS_CHAT", raising=False)
    done = faregate("alerts", "check", str(tmp_path))
    assert done.code == 1
    assert done.out == "Valid: ops (webhook), chat (slack); by default to ops, 1 route.\n"
    assert "channel chat: credential env:ALERTS_CHAT: the environment variable ALERTS_CHAT is not set" in done.err
    assert "hunter2" not in done.out + done.err
    monkeypatch.setenv("ALERTS_CHAT", "https://hooks.slack.com/services/x")
    assert faregate("alerts", "check", str(tmp_path)).code == 0
    found = json.loads(faregate("alerts", "check", str(tmp_path), "--json").out)
    assert found == {
        "channels": {"ops": "webhook", "chat": "slack"}, "default": ["ops"], "routes": 1, "missing": [],
    }  # fmt: skip


def test_a_mistake_has_its_line(faregate: Command, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(FILE.replace("default: [ops]", "default: [pos]"))
    done = faregate("alerts", "check", str(tmp_path))
    assert done.code == 1
    assert "alerts.yaml:4: default: there is no channel 'pos'. There are chat, ops" in done.err


def test_without_a_file_nobody_is_told(faregate: Command, tmp_path: Path) -> None:
    done = faregate("alerts", "check", str(tmp_path))
    assert (done.code, done.out) == (0, "Valid: no channel; by default to nobody, 0 routes.\n")


def test_the_schema_is_printed(faregate: Command) -> None:
    assert json.loads(faregate("config", "schema", "alerts").out)["title"] == "Faregate alerts"
