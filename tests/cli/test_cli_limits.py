"""`faregate limits` against a desk over HTTP."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from desk.world import World

from cli.conftest import Command


def test_a_limit_is_added_listed_changed_and_removed(world: World, remote: Command) -> None:
    done = remote("limits", "add", "users", "5USD/month", "--scope", "key=search-bot", "--scope", "user=each")
    key_id = world.ids["search-bot"]
    assert done.out == f"users holds: 5 USD per month (UTC) for org:default key:{key_id} each user.\n"
    (view,) = world.config.scoped.values()
    assert view.limit.scope == (("org", "default"), ("key", key_id), ("user", "*"))
    listed = remote("limits", "list").out
    assert "5 USD per month (UTC)" in listed
    assert "each user" in listed
    assert remote("limits", "set", "users", "--limit", "6USD/month", "--alert", "50", "--alert", "80").code == 0
    shown = remote("limits", "show", "users").out
    assert "50 %, 80 %" in shown
    assert "6 USD per month" in shown
    assert json.loads(remote("limits", "show", "users", "--json").out)["amount_usd"] == "6"
    assert remote("limits", "remove", "users").out == f"{view.limit.id} is removed.\n"
    assert "keys' own" in remote("limits", "list").out


def test_increase_suspend_resume(world: World, remote: Command) -> None:
    remote("limits", "add", "team", "5USD/month", "--scope", "team=search")
    assert "until 2026-11-25" in remote("limits", "increase", "team", "2USD", "--for", "24h").out
    assert remote("limits", "increase", "team", "none").out.startswith("team is what it was: 5 USD")
    assert remote("limits", "increase", "team", "2USD").code == 1
    done = remote("limits", "suspend", "--scope", "team=search", "--for", "1h", "--reason", "incident 7")
    assert done.out.startswith("Every limit refuses nothing of org:default team:search until 2026-11-24T23:14:03Z")
    (suspension,) = world.config.lifted
    assert "incident 7" in remote("limits", "suspensions").out
    assert remote("limits", "resume", suspension).out == f"{suspension} is over.\n"
    one = remote("limits", "suspend", "--limit", "team", "--for", "15m", "--reason", "the month's end", "--json")
    assert (
        json.loads(one.out)["suspension"]["limit_id"]
        == json.loads(remote("limits", "show", "team", "--json").out)["id"]
    )


def test_explain(world: World, remote: Command) -> None:
    remote("limits", "add", "users", "5USD/month", "--scope", "team=search", "--scope", "user=each")
    (view,) = world.config.scoped.values()
    world.standings.counters[f"{view.limit.id}|default,search,ann|2026-11"] = (1_250_000_000, 10**9)
    unnamed = remote("limits", "explain", "search-bot")
    assert "give user" in unnamed.out
    named = remote("limits", "explain", "search-bot", "--user", "ann").out
    (row,) = [line for line in named.split("\n") if line.startswith("users")]
    assert row.split("  ")[-2:] == ["enforced, binds", "sql"]
    assert [word for word in row.split() if word in ("1.25", "1", "2.75")] == ["1.25", "1", "2.75"]
    remote("limits", "increase", "users", "2USD", "--for", "24h")
    more = remote("limits", "explain", "search-bot", "--user", "ann").out
    assert "users: 5 USD per month (UTC), and 2 USD more until 2026-11-25T22:14:03Z" in more
    assert " 4.75 " in more
    world.standings.away = True
    assert "not known" in remote("limits", "explain", "search-bot").err


def test_what_changes_calls_is_told(world: World, remote: Command) -> None:
    remote("limits", "add", "short", "5USD/day", "--on-exceed", "cap_output", "--min-output", "9")
    remote(
        "limits",
        "add",
        "small",
        "5USD/day",
        "--on-exceed",
        "downgrade",
        "--downgrade-to",
        "gpt",
        "--scope",
        "tag:env=prod",
    )
    listed = remote("limits", "list").out
    assert "cap_output to 9 tokens at least" in listed
    assert "downgrade to gpt" in listed
    shown = remote("limits", "explain", "search-bot", "--tag", "env=prod").out
    assert "enforced by downgrade to gpt" in shown
    assert "give tag:env:prod" in remote("limits", "explain", "search-bot").out
    assert "downgrade to gpt" not in remote("limits", "explain", "search-bot", "--tag", "env=dev", "--tag", "a=b").out
    assert "name=value" in remote("limits", "explain", "search-bot", "--tag", "env").err


def test_the_templates_can_be_pasted(remote: Command) -> None:
    lines = [line for line in remote("limits", "templates").out.split("\n") if line.startswith("faregate ")]
    assert len(lines) == 8
    for line in lines:
        if "model=" not in line:
            done = remote(*shlex.split(line)[1:])
            assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "x", "5USD"], 1, "5USD/month"),
        (["add", "x", "5USD/day", "--scope", "team"], 2, "team=growth"),
        (["add", "x", "5USD/day", "--scope", "team=a", "--scope", "team=b"], 2, "twice"),
        (["add", "x", "5USD/day", "--scope", "key=nobody"], 1, "keys list"),
        (["add", "x", "5USD/day", "--on-exceed", "downgrade"], 1, "must name the model"),
        (["add", "x", "5USD/day", "--min-output", "9"], 1, "is for on_exceed: cap_output"),
        (["set", "x"], 2, "Nothing to change"),
        (["show", "nothing"], 1, "no limit"),
        (["suspend", "--for", "1h", "--reason", "because"], 1, "Name a scope or a limit"),
    ],
)
def test_refusals_of_limits_say_what_would_be_right(
    remote: Command, arguments: list[str], code: int, said: str
) -> None:
    done = remote("limits", *arguments)
    assert (done.code, done.err.startswith("faregate: ")) == (code, True)
    assert said in done.err
    assert "Traceback" not in done.err


def test_the_schema_of_each_file_can_be_printed(faregate: Command) -> None:
    assert json.loads(faregate("config", "schema", "limits").out)["title"] == "Faregate limits"
    assert json.loads(faregate("config", "schema").out)["title"] == "Faregate routes"
    assert faregate("config", "schema", "nothing").code == 2


def test_an_error_of_a_command_without_a_server_is_told_once(tmp_path: Path) -> None:
    """In a process of its own: pytest's handlers would take what a bare process prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    environment |= {
        "FAREGATE_DATA_DIR": str(tmp_path / "data"),
        "FAREGATE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "limits", "list"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("SQL did not answer") == 1
    assert done.stderr.startswith("faregate: SQL did not answer")
