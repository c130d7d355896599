"""What stands on SQL beside the desk: the schema's check at start, and the bookkeeper's connections."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.core.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

if TYPE_CHECKING:
    from gateway.bookkeeper.alerts.evaluation import AlertWorld
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


def pause_secret(settings: Settings) -> bytes:
    """What signs pause links: made once, read by the bookkeeper that sends them and the desk that takes them."""
    from gateway.vault.secret_file import create_private, read_private

    path = settings.secrets_dir / "alerts.key"
    content = read_private(path)
    if content is None:
        create_private(path, SystemEntropy().bytes(32))
        content = read_private(path)
    return content or b""


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[tuple[LedgerWriter, SqlConfigStore, AlertWorld]]:
    """What the bookkeeper writes to, the configuration it publishes and what it alerts through, on SQL connections and
    connections to receivers of their own."""
    from gateway.bookkeeper.alerts.evaluation import AlertWorld
    from gateway.notify.channels import ChannelNotifier
    from gateway.store.config_alerts import SqlAlertStore
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.engine import open_engine
    from gateway.store.ledger_writer import LedgerWriter
    from gateway.store.queries import SqlLedgerQueries
    from gateway.upstream.httptools_client import HttptoolsUpstream
    from gateway.vault.credentials import Credentials

    clock, entropy = SystemClock(), SystemEntropy()
    peppers = load_peppers(settings.secrets_dir / "peppers.json", entropy)
    ledger_engine = open_engine(settings.database_url, settings.data_dir, "ledger")
    config_engine = open_engine(settings.database_url, settings.data_dir, "config")
    upstream, credentials = HttptoolsUpstream(), Credentials(os.environ)
    try:
        yield (
            LedgerWriter(ledger_engine),
            SqlConfigStore(config_engine, peppers, entropy, clock, settings.key_env),
            AlertWorld(
                ChannelNotifier(upstream, lambda reference: credentials.resolve(reference).reveal(), clock),
                pause_secret(settings),
                SqlAlertStore(config_engine),
                SqlLedgerQueries(ledger_engine),
            ),
        )
    finally:
        await upstream.close()
        await ledger_engine.dispose()
        await config_engine.dispose()
