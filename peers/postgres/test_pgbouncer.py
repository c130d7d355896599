"""Faregate through a real PgBouncer in transaction mode with three server connections for everybody."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from live.database import Database
from live.running import Running, running, wait_for
from servers import Bouncer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def serving(pooled: Bouncer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`faregate db upgrade` and `faregate serve`, both with PgBouncer's address as their only one."""
    with running(tmp_path_factory.mktemp("pooled"), database_url=pooled.url()) as live:
        yield live


async def test_this_pooler_breaks_who_keeps_prepared_statements(pooled: Bouncer) -> None:
    """The trap is sharp: a client that is not careful fails here. It prepares a statement, others then take the server
    connections that are free, and it is given one that does not know the statement."""
    careless, *others = [await asyncpg.connect(pooled.url()) for _ in range(3)]

    async def ask() -> None:
        async with careless.transaction():
            await careless.fetchval("SELECT $1::int", 1)

    async def ask_beside_others() -> None:
        for other in others:  # the connection used last is given first
            await other.execute("BEGIN")
            await ask()

    try:
        await ask()
        with pytest.raises(asyncpg.PostgresError, match="prepared statement"):
            await ask_beside_others()
    finally:
        for client in (careless, *others):
            client.terminate()


def test_every_command_and_a_whole_server(serving: Running) -> None:
    secret = serving.new_key("app", "--budget", "5USD/month")
    gone = serving.new_key("gone")
    ids = [serving.chat(secret).headers["x-request-id"] for _ in range(200)]
    serving.faregate("keys", "revoke", gone.split("_")[2])
    wait_for("the revocation", lambda: serving.chat(gone).status == 401)
    assert "Green" in serving.verified().stdout
    for request_id in ids[::20]:
        assert serving.call("GET", f"/v1/requests/{request_id}", key=secret).status == 200
    assert secret.split("_")[2] in serving.faregate("spend", "--by", "key", "--since", "1h").stdout
    assert "up to date" in serving.faregate("db", "status").stdout
    assert "call_default" in serving.faregate("db", "partitions", "list").stdout
    assert "posting_" in serving.faregate("db", "partitions", "create", "--ahead", "5").stdout


def test_the_schema_goes_back_and_forth_under_a_running_server(serving: Running) -> None:
    """Migrations take locks of their transaction only, so a pooler is no obstacle."""
    secret = serving.new_key("through")
    assert serving.chat(secret).status == 200
    assert "0001" in serving.faregate("db", "downgrade", "--to", "0001", "--yes").stdout
    assert [serving.chat(secret).status for _ in range(20)] == [200] * 20
    assert "Green" in serving.verified().stdout
    assert "up to date" in serving.faregate("db", "upgrade").stdout
    assert [serving.chat(secret).status for _ in range(20)] == [200] * 20
    assert "Green" in serving.verified().stdout


def test_a_pooler_that_dies_costs_nobody_a_call(serving: Running, pooled: Bouncer) -> None:
    secret = serving.new_key("steady")
    statuses: list[int] = []
    for _ in range(4):
        statuses += [serving.chat(secret).status for _ in range(25)]
        pooled.kill()
        statuses += [serving.chat(secret).status for _ in range(25)]
        assert serving.call("GET", "/readyz").status == 200
        pooled.start()
    assert statuses == [200] * 200
    assert "Green" in serving.verified().stdout


def test_a_server_that_restarts_behind_the_pooler(serving: Running, server: Database) -> None:
    secret = serving.new_key("behind")
    for _ in range(3):
        assert [serving.chat(secret).status for _ in range(25)] == [200] * 25
        server.stop()
        assert [serving.chat(secret).status for _ in range(25)] == [200] * 25
        server.start()
    assert "Green" in serving.verified().stdout


def test_nothing_is_left_on_anybodys_connection(serving: Running, server: Database, pooled: Bouncer) -> None:
    """After all of that: no advisory lock, no prepared statement, no temporary table, no setting."""
    secret = serving.new_key("last")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        serving.chat(secret)
    asyncio.run(_look(server, pooled))
    assert "prepared statement" not in pooled.log


async def _look(server: Database, pooled: Bouncer) -> None:
    direct = await asyncpg.connect(server.url)
    try:
        locks = await direct.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        assert locks == 0
        schemas = await direct.fetchval("SELECT count(*) FROM pg_class WHERE relpersistence = 't'")
        assert schemas == 0
    finally:
        await direct.close()
    client = await asyncpg.connect(pooled.url(), statement_cache_size=0)
    try:
        for _ in range(50):  # whichever of the server connections it gets
            async with client.transaction():
                named = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
                assert await client.fetchval(named) == 0
                assert "faregate" not in await client.fetchval("SHOW search_path")
                assert await client.fetchval("SHOW lock_timeout") == "0"
    finally:
        await client.close()


def test_the_store_suite_through_the_pooler(pooled: Bouncer) -> None:
    """Migrations, loading, faults, months, queries and configuration: every test of the room, in its own database."""
    run_suite(pooled.url(), "tests/store", "tests/bookkeeper/test_loading.py")
    assert "prepared statement" not in pooled.log


def run_suite(url: str, *paths: str) -> None:
    environment = {**os.environ, "FAREGATE_TEST_POSTGRES_URL": url}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    print(done.stdout.strip().split("\n")[-1])
