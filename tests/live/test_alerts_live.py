"""Alerts from real processes: thresholds once whoever is killed, a runaway key found, and stopped by its link."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from live.alert_receiver import Receiver, receiver, write_alerts
from live.running import Reply, Running, running, wait_for

pytestmark = pytest.mark.xdist_group("alerts")

RULES = "rules:\n  rate_of_spend: { factor: 5, minimum: 0.0006USD }\n  forecast_from: 0\n"


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


@pytest.fixture(scope="module")
def alerted(hook: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("alerts")
    write_alerts(folder, hook.port, RULES)
    with running(folder) as live:
        yield live


def key_id(server: Running, name: str) -> str:
    return str(json.loads(server.faregate("keys", "show", name, "--json").stdout)["id"])


def spend_all(server: Running, secret: str, between: Any = None) -> None:
    """Calls until the budget refuses one."""
    for number in range(300):
        if between is not None:
            between(number)
        if server.chat(secret, max_tokens=50).status == 402:
            return
    raise AssertionError("the budget never ended")


def test_each_threshold_of_a_budget_is_told_once_whoever_is_killed(alerted: Running, hook: Receiver) -> None:
    secret = alerted.new_key("spender", "--budget", "0.0005USD/month")
    mine = key_id(alerted, "spender")

    def kill_sometimes(number: int) -> None:
        if number in (3, 9):
            alerted.kill("bookkeeper")

    spend_all(alerted, secret, kill_sometimes)
    wait_for("three thresholds", lambda: {share for share, _ in hook.shares(mine)} == {50, 80, 100})
    alerted.kill("bookkeeper")
    for _ in range(3):
        assert alerted.chat(secret, max_tokens=50).status == 402
    alerted.stop()
    alerted.start()
    other = alerted.new_key("other", "--budget", "0.0005USD/month")
    spend_all(alerted, other)
    theirs = key_id(alerted, "other")
    wait_for("another key's thresholds", lambda: {share for share, _ in hook.shares(theirs)} == {50, 80, 100})
    told = hook.shares(mine)
    assert sorted(set(told)) == sorted(dict(told).items()), "one id for each threshold"
    assert len(set(told)) == 3
    assert hook.forged == []
    hundred = next(one for one in hook.of("threshold") if one["key_id"] == mine and one["severity"] == "critical")
    assert hundred["figures"][1] == {"name": "limit", "amount": 500_000, "unit": "nusd", "usd": "0.0005"}
    assert "is used up" in hundred["title"]


def test_a_raised_budget_tells_only_of_what_is_above(alerted: Running, hook: Receiver) -> None:
    secret = alerted.new_key("raised", "--budget", "0.0005USD/month")
    spend_all(alerted, secret)
    mine = key_id(alerted, "raised")
    wait_for("three thresholds", lambda: len(set(hook.shares(mine))) == 3)
    alerted.faregate("keys", "update", "raised", "--budget", "0.0015USD/month")
    spend_all(alerted, secret)
    wait_for("three more", lambda: len(set(hook.shares(mine))) == 6)
    assert sorted(share for share, _ in set(hook.shares(mine))) == [50, 50, 80, 80, 100, 100]


def test_a_raised_budget_is_told_of_though_the_bookkeeper_is_killed_after_the_raise(
    alerted: Running, hook: Receiver
) -> None:
    secret = alerted.new_key("raised again", "--budget", "0.0005USD/month")
    spend_all(alerted, secret)
    mine = key_id(alerted, "raised again")
    wait_for("three thresholds", lambda: len(set(hook.shares(mine))) == 3)
    alerted.faregate("keys", "update", "raised again", "--budget", "0.0025USD/month")

    def kill_sometimes(number: int) -> None:
        if number in (1, 5):
            alerted.kill("bookkeeper")

    spend_all(alerted, secret, kill_sometimes)
    wait_for("three more", lambda: len(set(hook.shares(mine))) == 6)
    assert sorted(share for share, _ in set(hook.shares(mine))) == [50, 50, 80, 80, 100, 100]


class Runaway(NamedTuple):
    """A key that spent too much, its secret, and what was told of it and of its user."""

    secret: str
    of_key: dict[str, Any]
    of_user: dict[str, Any]


@pytest.fixture(scope="module")
def runaway(alerted: Running, hook: Receiver) -> Runaway:
    secret = alerted.new_key("runaway", "--team", "agents")
    mine = key_id(alerted, "runaway")
    begun = time.monotonic()
    spent = 0
    while spent < 700_000:
        reply = alerted.chat(secret, max_tokens=1000, user="ann")
        assert reply.status == 200
        spent = alerted.call("GET", "/v1/usage", key=secret).json.get("effective_nusd") or spent + 20_000
        if any(one["key_id"] == mine for one in hook.of("rate_of_spend")):
            break
    at_minimum = time.monotonic()

    def found() -> list[dict[str, Any]]:
        return [one for one in hook.of("rate_of_spend") if one["key_id"] == mine]

    wait_for("the runaway key and its user", lambda: {len(one["scope"]) for one in found()} == {3, 4})
    print(f"a runaway key: {at_minimum - begun:.1f} s of spending, told {time.monotonic() - at_minimum:.1f} s later")
    (of_key,) = {one["id"]: one for one in found() if "user" not in one["scope"]}.values()
    (of_user,) = {one["id"]: one for one in found() if "user" in one["scope"]}.values()
    return Runaway(secret, of_key, of_user)


def test_a_runaway_key_is_found_and_stopped_by_its_link(alerted: Running, runaway: Runaway) -> None:
    secret, of_key, of_user = runaway
    assert of_key["team"] == "agents"
    assert of_user["scope"]["user"] == "ann"
    assert of_key["figures"][0]["amount"] >= 600_000
    assert of_key["note"] == "", "SQL was asked what is usual, and answered"
    stop_user, stop_key = (link_of(told) for told in (of_user, of_key))
    page = alerted.call("GET", stop_key)
    assert (page.status, b"Pause the key runaway" in page.body) == (200, True)
    assert alerted.chat(secret, user="ann").status == 200, "looking stops nothing"
    assert alerted.call("POST", stop_user).status == 200
    refused = wait_for("the user's refusal", lambda: refusal(alerted.chat(secret, user="ann")))
    assert refused["limit_name"].startswith("pause-")
    assert alerted.chat(secret, user="bob").status == 200, "another user goes on"
    assert refused["limit_name"] in alerted.faregate("limits", "list").stdout
    alerted.faregate("limits", "remove", refused["limit_name"])
    wait_for("the user's return", lambda: alerted.chat(secret, user="ann").status == 200)
    assert alerted.call("POST", stop_key).status == 200
    wait_for("the key's refusal", lambda: alerted.chat(secret, user="bob").status in (401, 403))
    assert json.loads(alerted.faregate("keys", "show", "runaway", "--json").stdout)["state"] == "paused"
    alerted.faregate("keys", "resume", "runaway")
    assert wait_for("its return", lambda: alerted.chat(secret, user="bob").status == 200)


def link_of(told: dict[str, Any]) -> str:
    """The path and query of an alert's pause link."""
    parts = urllib.parse.urlsplit(told["links"]["pause"])
    assert parts.path == "/alerts/pause"
    return f"{parts.path}?{parts.query}"


def refusal(reply: Reply) -> Any:
    return reply.json["error"] if reply.status == 402 else None


def test_people_see_what_was_told_and_what_arrived(alerted: Running, hook: Receiver, runaway: Runaway) -> None:
    of_key = runaway.of_key

    def delivered() -> Any:
        listed = json.loads(alerted.faregate("alerts", "list", "--json").stdout)
        found = [one for one in listed if one["id"] == of_key["id"] and one["deliveries"]]
        return found and found[0]["deliveries"][0]["state"] == "sent" and found[0]

    shown = wait_for("the alert in SQL", delivered)
    assert shown["title"] == of_key["title"]
    assert "token" not in json.dumps(shown), "who may read alerts may not use their links"
    text = alerted.faregate("alerts", "show", of_key["id"]).stdout
    assert of_key["figures"][0]["usd"] in text
    assert "sent" in text
    assert alerted.faregate("alerts", "list").stdout.count("rate_of_spend") >= 2
    alerted.faregate("alerts", "test", "ops")
    assert hook.of("test")[0]["title"].startswith("A test of the channel ops")
    failed = alerted.faregate("alerts", "test", "nowhere", check=False)
    assert failed.returncode == 1
    assert "there are: ops" in failed.stderr
    assert "Valid: ops (webhook)" in alerted.faregate("alerts", "check").stdout
    described = alerted.call("GET", "/openapi.json").json["paths"]
    assert {"/admin/v1/alerts", "/admin/v1/alerts/{id}", "/admin/v1/alerts/test"} <= set(described)
    assert "/alerts/pause" not in described
    metrics = alerted.call("GET", "/metrics", key=alerted.new_key("scraper", "--role", "metrics")).body.decode()
    figures = dict(line.rsplit(" ", 1) for line in metrics.split("\n") if line.startswith("faregate_alerts"))
    assert float(figures["faregate_alerts_sent_total"]) >= 1
    assert float(figures["faregate_alerts_waiting"]) == 0


def test_suspending_limits_is_told(alerted: Running, hook: Receiver) -> None:
    alerted.faregate("limits", "suspend", "--scope", "team=agents", "--for", "1h", "--reason", "incident 7")
    (told,) = wait_for("the suspension", lambda: hook.of("suspension"))
    assert "incident 7" in told["title"]
    assert told["team"] == "agents"


def test_a_mistake_in_the_file_never_replaces_what_is_in_use(alerted: Running, hook: Receiver) -> None:
    path = Path(alerted.environment["FAREGATE_CONFIG_DIR"]) / "alerts.yaml"
    good = path.read_text()
    path.write_text(good.replace("default: [ops]", "default: [pos]"))
    wait_for("the mistake", lambda: alerted.faregate("config", "show", check=False).returncode == 1)
    validated = alerted.faregate("config", "validate", check=False)
    assert "there is no channel 'pos'" in validated.stderr
    before = len(hook.of("suspension"))
    alerted.faregate("limits", "suspend", "--scope", "team=growth", "--for", "1h", "--reason", "incident 8")
    wait_for("the suspension", lambda: len(hook.of("suspension")) > before)
    path.write_text(good)
    wait_for("no mistake", lambda: alerted.faregate("config", "show", check=False).returncode == 0)


def test_what_a_receiver_missed_it_gets_later_with_the_same_id(alerted: Running, hook: Receiver) -> None:
    hook.answer = 503
    alerted.faregate("limits", "suspend", "--scope", "team=late", "--for", "1h", "--reason", "incident 9")

    status = alerted.data_dir / "run" / "bookkeeper.json"

    def failed() -> bool:
        return status.exists() and json.loads(status.read_bytes()).get("alerts_failed", 0) > 0

    wait_for("a failed attempt", failed)
    alerted.kill("bookkeeper")
    hook.answer = 204
    wait_for("the alert", lambda: [one for one in hook.of("suspension") if one["team"] == "late"])
    assert urllib.parse.urlsplit(hook.of("suspension")[0]["links"]["console"]).path == "/ui"
