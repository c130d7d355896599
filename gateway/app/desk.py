"""The desk's wiring: the control plane on SQL, for a server and for one command without a server.

Imports of FastAPI and SQL stand inside the functions, so that importing `gateway.app` costs a worker nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.core.admin import ConfigStore, Publisher
from gateway.core.config import KeyDelta, Policy
from gateway.core.errors import JournalUnreadable, StoreUnavailable
from gateway.core.queries import LedgerQueries
from gateway.ledger.fold import Books
from gateway.providers.discover import discover as discover_providers
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy, lock_data_folder
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.peppers import load_peppers

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.console.web import WebConsole
    from gateway.desk.parts import CorrectionParts
    from gateway.routing.compile import Sheets
    from gateway.store.config_store import SqlConfigStore

LOG = logging.getLogger("faregate")
FOLLOW_KEYS_S = 0.5
FOLLOW_STOP_S = 2.0
STANDINGS_KEPT_NS = 250_000_000
"""How long what was read of the journals answers for: many owners may ask for their budgets at once."""


def policy_compiler(settings: Settings) -> Callable[[], Policy]:
    """Reads and compiles `routes.yaml` with the prices that ship and those of `prices.yaml`: what the files say,
    whatever is in force. The sources are read once."""
    from gateway.desk.prices.gate import load_written
    from gateway.pricing.book import PriceBook
    from gateway.pricing.genai import GenaiPrices
    from gateway.pricing.litellm_map import LitellmMap

    compile_with = _compiler_with(settings)
    genai, litellm = GenaiPrices(), LitellmMap()
    kinds = _priced_kinds()

    def compiled() -> Policy:
        prices = load_written(settings.config_dir, kinds)[0].prices
        book = PriceBook(
            prices.overrides,
            agreements=prices.agreements,
            fallbacks=prices.fallbacks,
            genai=genai,
            litellm=litellm,
        )
        return compile_with(book.sheets_for)

    return compiled


def _compiler_with(settings: Settings) -> Callable[[Sheets], Policy]:
    """Reads and compiles `routes.yaml` with given price sheets."""
    from gateway.routing.compile import compile_policy
    from gateway.vault.policy_files import load_routes

    rows = discover_providers()

    def compiled(sheets: Sheets) -> Policy:
        file = load_routes(settings.config_dir)
        return compile_policy(file.text, str(file.path), rows, sheets)

    return compiled


def _priced_kinds() -> frozenset[str]:
    """The kinds of providers that prices can be written for."""
    from gateway.pricing.vendors import VENDORS

    return frozenset(discover_providers()) | frozenset(VENDORS)


def _local_token(settings: Settings) -> str:
    """Who can read this file is the operator: local commands send it to the desk's socket."""
    from gateway.vault.secret_file import create_private, read_private

    path = settings.secrets_dir / "local.token"
    content = read_private(path)
    if content is None:
        create_private(path, SystemEntropy().bytes(32).hex().encode())
        content = read_private(path)
    return (content or b"").decode().strip()


@dataclass(slots=True)
class Desk:
    """The control plane's application, and what runs beside it while it serves."""

    app: FastAPI
    local_token: str
    running: Callable[[], AbstractAsyncContextManager[None]]


def create_desk(settings: Settings, publisher: Publisher | None = None, *, watch_files: bool = True) -> Desk:
    """The control plane on its own SQL connections. `publisher` None: through the bookkeeper's socket."""
    from gateway.api.routes import ROUTES
    from gateway.app.stores import pause_secret
    from gateway.bookkeeper.standing import STATUS_NAME, read_status
    from gateway.channel.client import RemotePublisher
    from gateway.desk.app import create_desk_app
    from gateway.desk.parts import AlertParts, DeskParts, PriceParts
    from gateway.notify.channels import ChannelNotifier
    from gateway.store.config_alerts import SqlAlertStore
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.engine import open_engine
    from gateway.store.queries import SqlLedgerQueries
    from gateway.store.queries_prices import SqlPriceQueries
    from gateway.upstream.httptools_client import HttptoolsUpstream
    from gateway.vault.credentials import Credentials

    clock, entropy = SystemClock(), SystemEntropy()
    peppers = load_peppers(settings.secrets_dir / "peppers.json", entropy)
    config_engine = open_engine(settings.database_url, settings.data_dir, "config")
    ledger_engine = open_engine(settings.database_url, settings.data_dir, "ledger")
    store = SqlConfigStore(config_engine, peppers, entropy, clock, settings.key_env)
    status_file = settings.run_dir / STATUS_NAME

    def behind_bytes() -> int:
        status = read_status(status_file)
        return status.behind_bytes if status is not None else 0

    queries = SqlLedgerQueries(ledger_engine, behind_bytes)
    keys = MemoryKeyRing(peppers, entropy.bytes(32))
    upstream, credentials = HttptoolsUpstream(), Credentials(os.environ)
    notifier = ChannelNotifier(upstream, lambda reference: credentials.resolve(reference).reveal(), clock)
    parts = DeskParts(
        config=store,
        ledger=queries,
        publisher=publisher or RemotePublisher(settings.bookkeeper_socket),
        keys=keys,
        compile_policy=policy_compiler(settings),
        clock=clock,
        entropy=entropy,
        settings=settings,
        local_token=_local_token(settings),
        console=_console(settings, store, queries, keys),
        data_plane_routes=ROUTES,
        watch_files=watch_files,
        standings=JournalStandings(settings.journal_dir, settings.checkpoint_file, clock),
        alerts=AlertParts(SqlAlertStore(config_engine), notifier, pause_secret(settings)),
        prices=PriceParts(store, SqlPriceQueries(ledger_engine), _compiler_with(settings), _priced_kinds()),
        corrections=_corrections(settings, ledger_engine),
    )

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        stop = asyncio.Event()
        following = asyncio.get_running_loop().create_task(_follow_keys(store, keys, clock, stop), name="desk-keys")
        try:
            yield
        finally:
            # Not cancelled at once: SQLite's thread would answer a statement to a loop that is closed by then.
            stop.set()
            await asyncio.wait({following}, timeout=FOLLOW_STOP_S)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await upstream.close()
            await config_engine.dispose()
            await ledger_engine.dispose()

    return Desk(create_desk_app(parts), parts.local_token, running)


def _corrections(settings: Settings, ledger_engine: AsyncEngine) -> CorrectionParts:
    from gateway.channel.correcting import RemoteCorrecting
    from gateway.desk.parts import CorrectionParts
    from gateway.store.period_store import SqlPeriods
    from gateway.store.queries_rerate import SqlRerateQueries

    bookkeeper = RemoteCorrecting(settings.bookkeeper_socket)
    return CorrectionParts(SqlRerateQueries(ledger_engine), SqlPeriods(ledger_engine), bookkeeper)


def _console(settings: Settings, store: ConfigStore, queries: LedgerQueries, keys: MemoryKeyRing) -> WebConsole:
    from gateway.console.parts import ConsoleParts
    from gateway.console.web import WebConsole
    from gateway.vault.sessions import Sessions, load_session_secret
    from gateway.vault.throttle import SignInThrottle

    clock, entropy = SystemClock(), SystemEntropy()
    secret = load_session_secret(settings.secrets_dir / "session.key", entropy)
    return WebConsole(
        ConsoleParts(
            config=store,
            ledger=queries,
            ring=keys,
            sessions=Sessions(secret, keys.by_id, clock, entropy, settings.session_hours * 3_600_000),
            throttle=SignInThrottle(clock),
            clock=clock,
            entropy=entropy,
            settings=settings,
        )
    )


async def _follow_keys(store: SqlConfigStore, keys: MemoryKeyRing, clock: SystemClock, stop: asyncio.Event) -> None:
    """The desk's own key ring, kept current from SQL until `stop`: other desks may write too."""
    revision = 0
    while not stop.is_set():
        try:
            if not revision:
                snapshot = await store.snapshot()
                records = await store.key_records()
                revision = snapshot.revision if snapshot is not None else 0
                keys.load(records, revision, clock.now_ms())
            else:
                revision, deltas, _ = await store.changes_since(revision)
                keys.apply(deltas, clock.now_ms())
        except StoreUnavailable as error:
            LOG.debug("the desk's keys are not current: %s", error.message)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), FOLLOW_KEYS_S)


@asynccontextmanager
async def open_local(settings: Settings) -> AsyncIterator[tuple[FastAPI, str]]:
    """The desk for one command without a server, under the data folder's lock. Raises Conflict when a server has it."""
    from gateway.store.engine import PARTS
    from gateway.store.migrate import upgrade

    lock = lock_data_folder(settings)
    try:
        if not settings.database_url:
            for part in PARTS:
                await upgrade(settings.database_url, settings.data_dir, part)
        desk = create_desk(settings, NoWorkers(), watch_files=False)
        async with desk.running():
            yield desk.app, desk.local_token
    finally:
        os.close(lock)


class JournalStandings:
    """gateway.desk.parts.Standings from the checkpoint and the journals themselves: with and without a server."""

    def __init__(self, journal_dir: Path, checkpoint_file: Path, clock: SystemClock) -> None:
        self._journal_dir = journal_dir
        self._checkpoint_file = checkpoint_file
        self._clock = clock
        self._turn = asyncio.Lock()
        self._books = Books()
        self._read_ns = -STANDINGS_KEPT_NS

    async def of(self, counters: Sequence[str]) -> list[tuple[int, int]] | None:
        from gateway.bookkeeper.checkpoint import current_books

        async with self._turn:
            if self._clock.monotonic_ns() - self._read_ns >= STANDINGS_KEPT_NS:
                try:
                    self._books = await asyncio.to_thread(current_books, self._journal_dir, self._checkpoint_file)
                except JournalUnreadable as error:
                    LOG.warning("what is spent of the limits is not known: %s", error.message)
                    return None
                self._read_ns = self._clock.monotonic_ns()
            return [self._books.standing(name) for name in counters]


class NoWorkers:
    """core.admin.Publisher where nothing is served: the next worker reads everything at its start."""

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        return True
