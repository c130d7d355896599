"""The whole server on a real PostgreSQL that goes away and comes back."""

from __future__ import annotations

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


def test_a_server_without_a_schema_says_what_to_run(tmp_path, both: tuple[Running, Database]) -> None:
    _, database = both
    url = database.url.replace("/postgres?", "/template1?")
    with pytest.raises(AssertionError, match="faregate db upgrade"), running(tmp_path, DATABASE_URL=url):
        pass
