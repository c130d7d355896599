"""A price 1 000 times too high is published, and a key is blocked by it; then it is corrected, and the key passes.

Real processes: the bookkeeper is killed in the middle, the worker is killed after it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live.database import postgres
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("crashes")

WRONG = """\
prices:
  simulated/sim-small:
    rates: {input: 150 USD / 1M tokens, output: 600 USD / 1M tokens, cache_read: 75 USD / 1M tokens}
"""
RIGHT = WRONG.replace("150 USD", "0.15 USD").replace("600 USD", "0.60 USD").replace("75 USD", "0.075 USD")
THREADS, CALLS_EACH = 8, 270
"""More than two batches of corrections together."""


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose first prices are wrong."""
    folder = tmp_path_factory.mktemp("rerate")
    (folder / "policies").mkdir()
    (folder / "policies" / "prices.yaml").write_text(WRONG)
    if request.param == "sqlite":
        with running(folder) as live:
            yield live
    else:
        with postgres() as database, running(folder, database_url=database.url) as live:
            yield live


def spend(server: Running) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(server.faregate("spend", "--by", "org", "--since", "1d", "--json").stdout)
    return reply["total"]


def spent_of(server: Running, secret: str) -> int:
    (budget,) = server.call("GET", "/v1/usage", key=secret).json["budgets"]
    return int(budget["spent"]["amount"])


def rerate(server: Running, *options: str) -> dict[str, Any]:
    done = server.faregate("prices", "rerate", "--from", "1d", "--json", *options)
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def test_a_price_1000_times_too_high_blocks_and_its_correction_frees(server: Running) -> None:
    rich, poor = server.new_key("rich"), server.new_key("poor", "--budget", "0.5USD/month")
    first = server.chat(poor, max_tokens=20)
    statuses = [first.status]
    while statuses[-1] == 200:
        statuses.append(server.chat(poor, max_tokens=20).status)
    assert statuses[-1] == 402
    assert len(statuses) > 5
    crowd = [threading.Thread(target=many_calls, args=(server, rich)) for _ in range(THREADS)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    calls = len(statuses) - 1 + THREADS * CALLS_EACH
    wait_for("everything in SQL", lambda: spend(server)["calls"] == calls + 1)
    wrong_nusd, blocked_nusd = spend(server)["cost"]["nano_usd"], spent_of(server, poor)

    all_of_it = f"{blocked_nusd // 10**9}.{blocked_nusd % 10**9:09d}USD/month"
    server.faregate("keys", "update", "poor", "--budget", all_of_it)  # nothing is left, at any price

    (server.folder / "policies" / "prices.yaml").write_text(RIGHT)
    wait_for("prices that wait for a yes", lambda: server.faregate("prices", "publish", check=False).returncode == 1)
    server.faregate("prices", "publish", "--confirm")
    assert server.chat(poor, max_tokens=20).status == 402, "a right price alone gives nothing back"
    seen = rerate(server, "--dry-run")
    assert (seen["looked_at"], seen["total"]["postings"]) == (calls, calls)
    assert seen["total"]["effective"]["nano_usd"] * 1000 == -999 * wrong_nusd
    assert {group["model"] for group in seen["groups"]} == {"sim-small"}
    (moved,) = seen["counters"]
    assert moved["amount"]["nano_usd"] * 1000 == -999 * blocked_nusd
    assert spend(server)["cost"]["nano_usd"] == wrong_nusd

    killing = threading.Thread(target=kill_soon, args=(server,))
    killing.start()
    done = rerate(server, "--reason", "a price 1000 times too high")
    ended_s = time.monotonic()
    killing.join()
    wait_for("a call that passes", lambda: server.chat(poor, max_tokens=20).status == 200)
    print(f"\nthe blocked key passes {time.monotonic() - ended_s:.2f} s after the command")
    assert done["total"]["postings"] == calls, "killed in the middle, and each corrected once"
    assert done["left"]["changed_meanwhile"] == 0
    assert rerate(server, "--dry-run")["total"]["postings"] == 0
    assert "Green" in server.verified().stdout

    last_nusd = spent_of(server, poor) - blocked_nusd // 1000
    assert 0 < last_nusd < blocked_nusd // 1000, "the counter has the corrected lines, and one call more"
    assert spend(server)["cost"]["nano_usd"] == wrong_nusd // 1000 + last_nusd
    server.kill("worker")
    wait_for("a new worker", lambda: server.ready() and server.chat(poor, max_tokens=20).status == 200)
    assert last_nusd < spent_of(server, poor) - blocked_nusd // 1000 < 3 * last_nusd
    assert "Green" in server.verified().stdout
    request_id = first.headers["x-request-id"]
    shown = server.call("GET", f"/v1/requests/{request_id}", key=poor).json
    (attempt,) = shown["attempts"]
    (corrected,) = attempt["corrections"]
    assert shown["cost"]["nano_usd"] * -999 == corrected["cost"]["nano_usd"]
    assert sum(line["cost"]["nano_usd"] for line in attempt["lines"]) == shown["cost"]["nano_usd"]
    assert shown["cost"]["usd"] in server.faregate("prices", "explain", request_id).stdout
    (run,) = json.loads(server.faregate("prices", "corrections", "--json").stdout)["data"]
    assert (run["postings"], run["reason"]) == (calls, "a price 1000 times too high")


def many_calls(server: Running, secret: str) -> None:
    for _ in range(CALLS_EACH):
        server.chat(secret, max_tokens=5)


def kill_soon(server: Running) -> None:
    """Kills the bookkeeper as soon as it has begun a journal of corrections."""
    folder = server.data_dir / "journal"
    before = len(list(folder.iterdir()))
    while len(list(folder.iterdir())) == before:
        time.sleep(0.001)
    server.kill("bookkeeper")
