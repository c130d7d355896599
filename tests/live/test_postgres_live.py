"""The whole server on a real PostgreSQL that goes away and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from live.database import Database, postgres
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("crashes")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Database]]:
    with postgres() as database, running(tmp_path_factory.mktemp("pg"), database_url=database.url) as server:
        yield server, database


def test_sql_away_is_nobodys_business_but_the_desks(both: tuple[Running, Database]) -> None:
    server, database = both
    secret = server.new_key("app")
    small = server.new_key("small", "--budget", "0.0002USD/total")
    gone = server.new_key("gone")
    statuses = [server.chat(small, max_tokens=50).status for _ in range(30)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    server.faregate("keys", "revoke", gone.split("_")[2])
    database.stop()
    assert server.chat(gone).status == 401
    request_ids = [server.chat(secret).headers["x-request-id"] for _ in range(10)]
    assert server.call("GET", "/readyz").status == 200
    away = server.call("GET", f"/v1/requests/{request_ids[0]}", key=secret)
    assert away.status == 503
    server.kill("worker")
    wait_for("a worker without SQL", lambda: server.ready() and server.chat(secret).status == 200)
    assert server.chat(small, max_tokens=50).status == 402
    assert server.chat(gone).status == 401
    database.start()
    for request_id in request_ids:
        wait_for(
            "the record", lambda rid=request_id: server.call("GET", f"/v1/requests/{rid}", key=secret).status == 200
        )
    assert "Green" in server.verified().stdout
    server.new_key("after")


def test_months_from_the_command_line(both: tuple[Running, Database]) -> None:
    server, _ = both
    secret = server.new_key("monthly")
    statuses = [server.chat(secret).status for _ in range(20)]
    assert statuses == [200] * 20
    server.verified()
    listed = json.loads(server.faregate("db", "partitions", "list", "--json").stdout)["partitions"]
    assert {one["table"] for one in listed} == {"call", "attempt", "posting", "ledger_line"}
    assert [one["rows"] for one in listed if one["to_ms"] is None] == [0] * 4, "every call has its month"
    assert len([one for one in listed if one["table"] == "call" and one["from_ms"]]) >= 4
    made = server.faregate("db", "partitions", "create", "--ahead", "5", "--month", "2021-03").stdout.split()
    assert "posting_2021_03" in made
    assert len(made) == 3 * 4
    assert "all there" in server.faregate("db", "partitions", "create", "--ahead", "5").stdout
    shown = server.faregate("db", "partitions", "list").stdout
    assert "call_2021_03" in shown
    assert "2021-04-01" in shown
    assert server.faregate("db", "partitions", "detach", "--before", "2021-05").stdout.split() == [
        f"{table}_2021_03" for table in ("attempt", "posting", "ledger_line", "call")
    ]
    assert "no month" in server.faregate("db", "partitions", "detach", "--before", "2021-05").stderr
    young = server.faregate("db", "partitions", "detach", "--before", "2199-01", check=False)
    assert (young.returncode, "kept for 31 days" in young.stderr) == (1, True)
    bad = server.faregate("db", "partitions", "create", "--month", "March", check=False)
    assert (bad.returncode, "write 2026-05" in bad.stderr) == (2, True)
    assert server.chat(secret).status == 200
    assert "Green" in server.verified().stdout


def test_the_schema_goes_back_one_revision_under_a_running_server(both: tuple[Running, Database]) -> None:
    """For an older version that is started next: nothing stops meanwhile."""
    server, _ = both
    secret = server.new_key("back")
    asked = server.faregate("db", "downgrade", "--to", "0001", check=False)
    assert (asked.returncode, "add --yes" in asked.stderr) == (1, True)
    assert "to be upgraded" in server.faregate("db", "downgrade", "--to", "0001", "--yes").stdout
    request_ids = [server.chat(secret).headers["x-request-id"] for _ in range(20)]
    for request_id in request_ids:
        wait_for("it", lambda rid=request_id: server.call("GET", f"/v1/requests/{rid}", key=secret).status == 200)
    assert "No partitions" in server.faregate("db", "partitions", "list").stdout
    assert "Green" in server.verified().stdout
    assert "up to date" in server.faregate("db", "upgrade").stdout
    assert server.chat(secret).status == 200
    assert "Green" in server.verified().stdout


def test_a_sqlite_ledger_has_no_months_and_is_not_taken_back_under_its_server(server: Running) -> None:
    months = server.faregate("db", "partitions", "list", check=False)
    assert (months.returncode, "FAREGATE_DATABASE_URL" in months.stderr) == (1, True)
    refused = server.faregate("db", "downgrade", "--to", "0001", "--yes", check=False)
    assert (refused.returncode, "owns the data folder" in refused.stderr) == (1, True)
    wrong = server.faregate("db", "downgrade", "--part", "spend", "--to", "base", check=False)
    assert (wrong.returncode, "config or ledger" in wrong.stderr) == (2, True)


def test_a_server_without_a_schema_says_what_to_run(tmp_path, both: tuple[Running, Database]) -> None:
    _, database = both
    url = database.url.replace("/postgres?", "/template1?")
    with pytest.raises(AssertionError, match="faregate db upgrade"), running(tmp_path, DATABASE_URL=url):
        pass
