"""`faregate keys` against a desk over HTTP."""

from __future__ import annotations

import hashlib
import io
import json

import msgspec
import pytest
from desk.world import World

from cli.conftest import Command


def test_a_secret_is_printed_once_on_a_line_of_its_own(world: World, remote: Command) -> None:
    done = remote(
        "keys", "create", "new", "--team", "search", "--budget", "5USD/month", "--rpm", "60", "--tag", "env=prod"
    )
    assert done.code == 0
    (secret,) = [line for line in done.out.split("\n") if line.startswith("fg_test_")]
    assert world.ring.match(secret, world.clock.ms) is not None
    assert "only time" in done.err
    assert "5 USD per month (UTC); 60 requests in any minute" in done.out
    assert secret not in remote("keys", "show", "new").out
    assert secret not in remote("keys", "list", "--json").out


def test_quiet_prints_the_secret_and_nothing_else(remote: Command) -> None:
    done = remote("keys", "create", "new", "--quiet")
    assert done.err == ""
    assert done.out.startswith("fg_test_")
    assert done.out.count("\n") == 1
    again = remote("keys", "create", "new", "--quiet", "--if-absent")
    assert (again.code, again.out) == (0, "")
    assert "left as it is" in remote("keys", "create", "new", "--if-absent").err
    taken = remote("keys", "create", "new")
    assert (taken.code, taken.out) == (1, "")
    assert "already" in taken.err


def test_json_is_what_the_api_answers(world: World, remote: Command) -> None:
    reply = json.loads(remote("keys", "create", "new", "--json", "--budget", "5USD/month", "--budget", "1USD/day").out)
    assert reply["created"] is True
    assert len(reply["key"]["limits"]) == 2
    shown = json.loads(remote("keys", "show", reply["key"]["id"], "--json").out)
    assert shown == reply["key"]
    assert json.loads(remote("keys", "list", "--team", "support", "--json").out)[0]["name"] == "support-bot"


def test_a_key_is_found_by_name_or_id(world: World, remote: Command) -> None:
    for key in ("search-bot", world.ids["search-bot"]):
        assert world.ids["search-bot"] in remote("keys", "show", key).out
    for nothing in ("nobody", "AAAAAAAAAAAA", world.ids["foreign"], "foreign"):
        done = remote("keys", "show", nothing)
        assert done.code == 1
        assert "keys list" in done.err


def test_pause_resume_rotate_revoke(world: World, remote: Command) -> None:
    assert remote("keys", "pause", "search-bot").out == f"search-bot ({world.ids['search-bot']}) is paused.\n"
    assert remote("keys", "resume", "search-bot").out.endswith("is active.\n")
    old = world.secrets["search-bot"]
    new = remote("keys", "rotate", "search-bot", "--overlap", "0s", "--quiet").out.strip()
    assert world.ring.match(old, world.clock.ms) is None
    assert world.ring.match(new, world.clock.ms) is not None
    assert remote("keys", "revoke", "search-bot").out.endswith("is revoked.\n")
    assert world.ring.match(new, world.clock.ms) is None


def test_a_name_means_the_living_key(world: World, remote: Command) -> None:
    remote("keys", "revoke", "search-bot")
    assert remote("keys", "create", "search-bot", "--quiet").code == 0
    assert "active" in remote("keys", "show", "search-bot").out


def test_update(world: World, remote: Command) -> None:
    done = remote("keys", "update", "search-bot", "--name", "renamed", "--model", "gpt-5", "--expires-in", "30d")
    assert done.code == 0
    record = world.ring.by_id(world.ids["search-bot"])
    assert record is not None
    assert (record.name, record.models) == ("renamed", ("gpt-5",))
    remote("keys", "update", "renamed", "--any-model", "--expires-in", "never")
    record = world.ring.by_id(world.ids["search-bot"])
    assert record is not None
    assert (record.models, record.expires_ms) == ((), 0)
    assert remote("keys", "update", "renamed").code == 2
    assert remote("keys", "update", "renamed", "--any-model", "--model", "x").code == 2


def test_import_hashes_here(world: World, remote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sk-of-another-gateway"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{text}\n"))
    assert remote("keys", "import", "old", "--rpm", "5").code == 0
    found = world.ring.match(text, world.clock.ms)
    assert found is not None
    assert found[0].name == "old"
    other = hashlib.sha256(b"sk-2").hexdigest()
    assert remote("keys", "import", "older", "--sha256", other).code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert remote("keys", "import", "oldest").code == 2


def test_pending_is_told(world: World, remote: Command) -> None:
    world.publisher.reached = False
    done = remote("keys", "pause", "search-bot")
    assert done.code == 0
    assert "not every worker" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "create", "x", "--budget", "5"], "5USD/month"),
        (["keys", "create", "x", "--expires-in", "soon"], "30d"),
        (["keys", "create", "x", "--role", "root"], "role"),
    ],
)
def test_refusals_say_what_would_be_right(remote: Command, arguments: list[str], said: str) -> None:
    done = remote(*arguments)
    assert done.code == 1
    assert said in done.err
    assert done.err.startswith("faregate: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "create"],
        ["keys", "create", "x", "--rpm", "0"],
        ["keys", "create", "x", "--tag", "env"],
        ["keys", "rotate", "search-bot", "--overlap", "long"],
        ["keys", "list", "--org", "elsewhere"],
        ["nothing"],
        ["spend", "--json", "--csv"],
    ],
)
def test_usage_is_exit_code_2(remote: Command, arguments: list[str]) -> None:
    done = remote(*arguments)
    assert done.code == 2
    assert done.out == ""


def test_names_of_others_cannot_steer_a_terminal(world: World, remote: Command) -> None:
    for kept in world.config.kept.values():
        if kept.record.name == "search-bot":
            kept.record = msgspec.structs.replace(kept.record, name="x\x1b[2J\u202e\r\nroot")
    for command in (
        ["keys", "list"],
        ["keys", "show", world.ids["search-bot"]],
        ["keys", "pause", world.ids["search-bot"]],
    ):
        out = remote(*command).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\r" not in out
