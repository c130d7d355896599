"""A configuration store over a migrated database, on SQLite and PostgreSQL, and values to put into it.

A test module takes it with `from store.config_opened import opened, postgres_database, postgres_server, store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from vault.fakes import Chance, Clock, peppers

from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings
from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.store import migrate
from gateway.store.config_reads import CHANGE, KEY, LIMIT
from gateway.store.config_store import SqlConfigStore
from gateway.store.engine import open_engine, reading
from store.stores import Store, postgres_database, postgres_server, store

__all__ = ["Store", "postgres_database", "postgres_server", "store"]

ACTOR = "tester"
MONTH = Window(WindowKind.MONTH)


def limit(amount: int, unit: Unit = Unit.USD, window: Window = MONTH) -> Limit:
    return Limit("", unit, amount, window, ())


def policy(model: str) -> Policy:
    deployment = Deployment(f"openai/{model}", "openai", model)
    provider = ProviderSettings("openai", "openai", "openai_chat", "https://api.openai.com/v1", "env:OPENAI_API_KEY")
    return Policy(0, "", {"openai": provider}, {model: ModelRoute(model, (deployment,))}, (), {})


class Opened:
    """A store over a migrated database, with the clock and peppers a test may use."""

    def __init__(self, where: Store) -> None:
        self.where = where
        self.clock = Clock()
        self.peppers = peppers(3)
        self.engine = open_engine(where.url, where.data_dir, "config")
        self.config = SqlConfigStore(self.engine, self.peppers, Chance(), self.clock, "live")

    async def counts(self) -> tuple[int, ...]:
        async with reading(self.engine) as connection:
            return tuple([len((await connection.execute(select(table))).all()) for table in (KEY, LIMIT, CHANGE)])


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[Opened]:
    await migrate.upgrade(store.url, store.data_dir, "config")
    made = Opened(store)
    yield made
    await made.engine.dispose()
