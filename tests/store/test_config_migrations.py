"""The configuration's migrations: up, down and up again, and the same schema as the tables declare."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.engine import Connection

from gateway.store import config_alerts, migrate
from gateway.store.config_tables import ConfigTable
from gateway.store.engine import is_sqlite, open_engine, reading, schema_of, writing
from store.stores import Store, postgres_database, postgres_server, store

__all__ = ["postgres_database", "postgres_server", "store"]
assert {config_alerts.ALERT.name, config_alerts.DELIVERY.name} <= set(ConfigTable.metadata.tables)


def _tables(connection: Connection) -> set[str]:
    schema = None if is_sqlite(connection) else schema_of("config")
    return set(inspect(connection).get_table_names(schema=schema)) - {"alembic_version"}


async def test_up_down_and_up_again(store: Store) -> None:
    engine = open_engine(store.url, store.data_dir, "config")
    for revision, present in (("head", True), ("base", False), ("head", True)):
        run = migrate.upgrade if present else migrate.downgrade
        await run(store.url, store.data_dir, "config", revision)
        async with reading(engine) as connection:
            found = await connection.run_sync(_tables)
        assert found == (set(ConfigTable.metadata.tables) if present else set())
        if present:
            async with writing(engine) as connection:
                org = ConfigTable.metadata.tables["org"]
                await connection.execute(org.insert().values(name="acme", created_ms=1, created_by="tester"))
    await engine.dispose()


def _columns(connection: Connection) -> dict[str, set[tuple[str, bool]]]:
    schema = None if is_sqlite(connection) else schema_of("config")
    seen = inspect(connection)
    return {
        name: {(column["name"], bool(column["nullable"])) for column in seen.get_columns(name, schema=schema)}
        for name in ConfigTable.metadata.tables
    }


def _indexes(connection: Connection) -> dict[str, set[str]]:
    schema = None if is_sqlite(connection) else schema_of("config")
    seen = inspect(connection)
    return {
        name: {str(index["name"]) for index in seen.get_indexes(name, schema=schema)}
        for name in ConfigTable.metadata.tables
    }


async def test_the_migrations_make_what_the_tables_declare(store: Store) -> None:
    await migrate.upgrade(store.url, store.data_dir, "config")
    engine = open_engine(store.url, store.data_dir, "config")
    async with reading(engine) as connection:
        columns = await connection.run_sync(_columns)
        indexes = await connection.run_sync(_indexes)
        if is_sqlite(engine):
            differences = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), ConfigTable.metadata)
            )
            assert differences == []
    await engine.dispose()
    for name, table in ConfigTable.metadata.tables.items():
        assert columns[name] == {(column.name, bool(column.nullable)) for column in table.columns}
        assert {str(index.name) for index in table.indexes} <= indexes[name]
