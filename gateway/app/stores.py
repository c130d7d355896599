"""What stands on SQL beside the desk: the schema's check at start, and the bookkeeper's connections."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.core.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

if TYPE_CHECKING:
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.ledger_writer import LedgerWriter

LOG = logging.getLogger("faregate")


async def prepare_store(settings: Settings) -> None:
    """SQLite is migrated here; PostgreSQL only by `faregate db upgrade`, so its schema is checked.

    Raises StoreUnavailable when there is no fitting schema, or when PostgreSQL does not answer a server that has never
    served: one that has starts from its files.
    """
    from gateway.store.engine import PARTS, open_engine
    from gateway.store.migrate import check_schema, status_of, upgrade

    for part in PARTS:
        if not settings.database_url:
            await upgrade(settings.database_url, settings.data_dir, part)
            continue
        engine = open_engine(settings.database_url, settings.data_dir, part)
        try:
            await status_of(engine, part)
        except StoreUnavailable as error:
            if not settings.last_good_file.exists():
                raise
            LOG.warning("starting without SQL: %s", error.message)
            return
        else:
            await check_schema(engine, part)
        finally:
            await engine.dispose()


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[tuple[LedgerWriter, SqlConfigStore]]:
    """What the bookkeeper writes to and the configuration it publishes, on SQL connections of their own."""
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.engine import open_engine
    from gateway.store.ledger_writer import LedgerWriter

    clock, entropy = SystemClock(), SystemEntropy()
    peppers = load_peppers(settings.secrets_dir / "peppers.json", entropy)
    ledger_engine = open_engine(settings.database_url, settings.data_dir, "ledger")
    config_engine = open_engine(settings.database_url, settings.data_dir, "config")
    try:
        yield (
            LedgerWriter(ledger_engine),
            SqlConfigStore(config_engine, peppers, entropy, clock, settings.key_env),
        )
    finally:
        await ledger_engine.dispose()
        await config_engine.dispose()
