"""Alerts while PostgreSQL is away: told all the same, over a killed bookkeeper, and in SQL when it is back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from live.alert_receiver import Receiver, receiver, write_alerts
from live.database import Database, postgres
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("alerts")

RULES = "rules:\n  rate_of_spend: { factor: 5, minimum: 0.0002USD }\n  forecast_from: 0\n  recording_delay: 1s\n"


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Database, Receiver]]:
    folder = tmp_path_factory.mktemp("alerts-pg")
    with receiver() as hook, postgres() as database:
        write_alerts(folder, hook.port, RULES)
        with running(folder, database_url=database.url) as server:
            yield server, database, hook


def test_alerts_need_no_sql(away: tuple[Running, Database, Receiver]) -> None:
    server, database, hook = away
    secret = server.new_key("app", "--budget", "0.0005USD/month")
    mine = json.loads(server.faregate("keys", "show", "app", "--json").stdout)["id"]
    database.stop()
    for number in range(300):
        if number == 5:
            server.kill("bookkeeper")
        if server.chat(secret, max_tokens=50).status == 402:
            break
    wait_for("three thresholds", lambda: {share for share, _ in hook.shares(mine)} == {50, 80, 100})
    (fast,) = wait_for("the rate of spend", lambda: hook.of("rate_of_spend"))[:1]
    assert "SQL did not answer" in fast["note"]
    wait_for("the delay", lambda: hook.of("recording_delay"))
    told = {one["data"]["id"] for one in hook.told}
    assert len(set(hook.shares(mine))) == 3
    database.start()

    def recorded() -> bool:
        listed = server.faregate("alerts", "list", "--json", check=False)
        if listed.returncode:
            return False
        found = json.loads(listed.stdout)
        sent = {one["id"] for one in found for way in one["deliveries"] if way["state"] == "sent"}
        return told <= sent

    wait_for("the alerts in SQL", recorded)
    assert hook.forged == []
