"""`faregate limits` against a desk over HTTP."""

from __future__ import annotations

import json
import shlex

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


def test_the_templates_can_be_pasted(remote: Command) -> None:
    lines = [line for line in remote("limits", "templates").out.split("\n") if line.startswith("faregate ")]
    assert len(lines) == 6
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
        (["add", "x", "5USD/day", "--on-exceed", "downgrade"], 1, "not there yet"),
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
