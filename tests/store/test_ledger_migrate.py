"""Schemas: created, checked, taken back, on SQLite and PostgreSQL; models and migrations say the same."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import ConfigInvalid, StoreUnavailable
from gateway.store import migrate
from gateway.store.engine import is_sqlite, open_engine, reading, schema_of, writing
from gateway.store.ledger_tables import REFUSAL_STAT, LedgerTable
from store.stores import Proxy, Store, postgres_database, postgres_server, proxy, store

_EXPECTED = re.compile(r"alembic_version|\b(call|attempt|posting|ledger_line)_(\d{4}_\d{2}|default)")
"""What the database has and the classes do not: partitions."""

__all__ = ["postgres_database", "postgres_server", "proxy", "store"]


async def test_upgrade_is_idempotent_and_says_where_it_is(store: Store) -> None:
    assert await migrate.status(store.url, store.data_dir, "ledger") == migrate.SchemaStatus(
        "ledger", None, migrate.head("ledger")
    )
    first = await migrate.upgrade(store.url, store.data_dir, "ledger")
    assert first.up_to_date
    assert await migrate.upgrade(store.url, store.data_dir, "ledger") == first


async def test_models_and_migrations_agree(store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")

    def differences(connection: Connection) -> list[Any]:
        metadata = LedgerTable.metadata
        if not is_sqlite(connection):
            connection.execute(text(f"SET LOCAL search_path TO {schema_of('ledger')}"))
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        # Reflection does not go through the schema map; the search path stands in for it here, and only here.
        return [one for one in compare_metadata(context, metadata) if not _EXPECTED.search(str(one))]

    async with reading(engine) as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    if is_sqlite(engine):
        assert found == []
    else:  # each partition has it instead: tests/store/test_months.py
        assert sorted((what, key.name) for what, key in found) == [
            ("add_constraint", f"{table}_delivery") for table in ("attempt", "call", "posting")
        ]


async def test_downgrade_leaves_nothing_and_upgrade_builds_it_again(store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    assert (await migrate.downgrade(store.url, store.data_dir, "ledger", "base")).current is None
    engine = open_engine(store.url, store.data_dir, "ledger")
    async with reading(engine) as connection:
        where = (
            "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite_%'"
            if is_sqlite(engine)
            else "SELECT count(*) FROM pg_tables WHERE schemaname = 'faregate_ledger' AND tablename NOT LIKE 'al%'"
        )
        assert (await connection.execute(text(where))).scalar_one() == 0
    await engine.dispose()
    assert (await migrate.upgrade(store.url, store.data_dir, "ledger")).up_to_date


async def test_runs_at_once_do_not_disturb_each_other(store: Store) -> None:
    ran = await asyncio.gather(*(migrate.upgrade(store.url, store.data_dir, "ledger") for _ in range(4)))
    assert all(one.up_to_date for one in ran)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "never created; run: faregate db upgrade"),
        ("-2", "this version needs .*; run: faregate db upgrade"),
        ("-1", ""),
        ("+0", ""),
        ("+1", ""),
        ("+2", "written by a newer version"),
        ("cafe", "none of Faregate's revisions"),
    ],
)
async def test_start_refuses_a_schema_more_than_one_revision_away(store: Store, found: str | None, says: str) -> None:
    head = int(migrate.head("ledger"))
    engine = open_engine(store.url, store.data_dir, "ledger")
    if found is not None:
        await migrate.upgrade(store.url, store.data_dir, "ledger")
        revision = found if found.isalpha() else f"{head + int(found):04d}"
        schema = "" if is_sqlite(engine) else "faregate_ledger."
        async with writing(engine) as connection:
            await connection.execute(text(f"UPDATE {schema}alembic_version SET version_num = :r"), {"r": revision})
    if says and not (found == "-2" and head - 2 < 0):
        with pytest.raises(StoreUnavailable, match=says):
            await migrate.check_schema(engine, "ledger")
    elif not says and head + int(found or 0) >= 0:
        await migrate.check_schema(engine, "ledger")
    if found == "+1":
        with pytest.raises(StoreUnavailable, match="newer version"):
            await migrate.upgrade(store.url, store.data_dir, "ledger")
    await engine.dispose()


@pytest.mark.parametrize("part", ["config", "ledger"])
def test_revisions_count_up_by_one_and_have_a_way_back(part: Any) -> None:
    names = sorted(path.name for path in (migrate.MIGRATIONS / part).glob("[0-9]*.py"))
    assert [name[:4] for name in names] == [f"{number:04d}" for number in range(1, len(names) + 1)]
    for name in names:
        source = (migrate.MIGRATIONS / part / name).read_text()
        assert f'revision = "{name[:4]}"' in source
        assert "pass" not in source.rpartition("def downgrade")[2], f"{name} cannot be taken back"


async def test_the_database_file_is_private_and_durable(tmp_path: Path) -> None:
    await migrate.upgrade("", tmp_path, "ledger")
    engine = open_engine("", tmp_path, "ledger")
    async with reading(engine) as connection:
        pragmas = {
            word: (await connection.execute(text(f"PRAGMA {word}"))).scalar_one()
            for word in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("ledger.db*")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5_000}
    assert set(modes.values()) == {0o600}
    await engine.dispose()


async def test_both_stores_refuse_a_value_of_the_wrong_type(store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "ledger")
    engine = open_engine(store.url, store.data_dir, "ledger")
    row = {"hour_ms": 1, "code": "x", "count": "many"}
    with pytest.raises(DBAPIError):
        async with writing(engine) as connection:
            await connection.execute(insert(REFUSAL_STAT).values(row))
    await engine.dispose()


async def test_two_parts_share_a_database_without_meeting(postgres_database: str, tmp_path: Path) -> None:
    await migrate.upgrade(postgres_database, tmp_path, "ledger")
    assert (await migrate.status(postgres_database, tmp_path, "config")).current is None
    await migrate.downgrade(postgres_database, tmp_path, "ledger", "base")


async def test_nothing_is_prepared_or_set_beyond_a_transaction(postgres_database: str, tmp_path: Path) -> None:
    """What PgBouncer in transaction mode needs: no named statement stays behind, nothing depends on the session."""
    await migrate.upgrade(postgres_database, tmp_path, "ledger")
    engine = open_engine(postgres_database, tmp_path, "ledger")
    for number in range(3):
        async with writing(engine) as connection:
            await connection.execute(insert(REFUSAL_STAT).values(hour_ms=number, code="x", count=1))
            left = await connection.execute(text("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))
            assert left.scalar_one() == 0
            path = (await connection.execute(text("SHOW search_path"))).scalar_one()
            assert "faregate" not in path
    await engine.dispose()


# ---------------------------------------------------------------- SQL that is not there


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody:secret-word@127.0.0.1:1/none",
        "postgresql://nobody:secret-word@host.invalid/none",
        "postgresql://nobody:secret-word@127.0.0.1:1/none?connect_timeout=1&application_name=faregate&sslmode=disable",
    ],
)
async def test_no_server_is_store_unavailable_and_never_tells_the_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await migrate.status(url, tmp_path, "ledger")
    assert "secret-word" not in caught.value.message


async def test_a_stopped_server_is_store_unavailable_and_comes_back(
    postgres_database: str, proxy: Proxy, tmp_path: Path
) -> None:
    url = proxy.url(postgres_database)
    await migrate.upgrade(url, tmp_path, "ledger")
    engine = open_engine(url, tmp_path, "ledger")
    await migrate.status_of(engine, "ledger")
    proxy.cut()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await migrate.status_of(engine, "ledger")
    proxy.mend()
    assert (await migrate.status_of(engine, "ledger")).up_to_date
    await engine.dispose()


async def test_a_wrong_database_is_store_unavailable(postgres_server: str, tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    url = make_url(postgres_server).set(database="no_such_database").render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailable, match="no_such_database"):
        await migrate.status(url, tmp_path, "ledger")


async def test_a_locked_sqlite_file_is_store_unavailable(tmp_path: Path) -> None:
    await migrate.upgrade("", tmp_path, "ledger")
    engine, other = (open_engine("", tmp_path, "ledger") for _ in range(2))
    async with writing(engine) as connection:
        await connection.execute(text("SELECT 1"))
        async with other.connect() as hurried:
            await hurried.exec_driver_sql("PRAGMA busy_timeout=50")
        with pytest.raises(StoreUnavailable, match="locked"):
            async with writing(other):
                raise AssertionError("two writers at once")
    await engine.dispose()
    await other.dispose()


@pytest.mark.parametrize("url", ["mysql://u@h/d", "not a url", "postgresql://h/d?connect_timeout=soon"])
def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigInvalid, match="FAREGATE_DATABASE_URL"):
        open_engine(url, tmp_path, "ledger")
