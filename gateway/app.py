"""The only wiring: which implementation stands behind each port, for each role.

`create_worker` must not import FastAPI, SQL or a price source: it starts in a fraction of a second, and a test looks at
`sys.modules`. Imports of other roles therefore stand inside their functions.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import policies
from gateway.api.desk_relay import DeskRelay
from gateway.api.exchange import AsgiApp, Receive, Scope, Send
from gateway.api.plane import DataPlane
from gateway.api.worker import Worker
from gateway.bookkeeper.checkpoint import current_books
from gateway.cache import nothing
from gateway.channel.client import Subscriber
from gateway.core.admin import ConfigStore, Publisher
from gateway.core.config import KeyDelta, Policy
from gateway.core.errors import ConfigInvalid, StoreUnavailable
from gateway.core.ids import make_id
from gateway.core.members import discover_members
from gateway.core.queries import LedgerQueries
from gateway.core.upstream import Upstream
from gateway.counters.memory import MemoryEngine
from gateway.dialects.discover import discover as discover_surfaces
from gateway.exporters.prometheus import PrometheusMetrics
from gateway.flow.compose import AsSent
from gateway.flow.services import PathSettings, Services
from gateway.journal.writer import JournalWriter
from gateway.limits.wants import Wants
from gateway.providers.discover import discover as discover_providers
from gateway.settings import Settings
from gateway.system import (
    SystemClock,
    SystemEntropy,
    lock_data_folder,
)
from gateway.upstream.aiohttp_client import AiohttpUpstream
from gateway.vault.configuration import WorkerConfiguration
from gateway.vault.credentials import Credentials
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.peppers import load_peppers

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gateway.console.web import WebConsole
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.ledger_writer import LedgerWriter

LOG = logging.getLogger("faregate")
HEARTBEAT_S = 15.0
FOLLOW_KEYS_S = 0.5


def _path_settings(settings: Settings) -> PathSettings:
    return PathSettings(
        max_reply_bytes=settings.max_reply_bytes,
        first_event_wait_s=settings.first_event_wait_s,
        heartbeat_s=HEARTBEAT_S,
        reserve_wait_s=settings.reserve_wait_s,
        drain_max_s=settings.drain_max_s,
        budget_status=settings.budget_status,
        power=settings.durability == "power",
    )


@dataclass(slots=True)
class WorkerParts:
    """A worker and what `create_app` shares with the desk in one process."""

    worker: Worker
    configuration: WorkerConfiguration


def create_worker(settings: Settings, desk: AsgiApp | None = None) -> WorkerParts:
    """A worker from its files alone: last-good configuration, checkpoint, journals. `desk` None: over its socket."""
    clock, entropy = SystemClock(), SystemEntropy()
    peppers = load_peppers(settings.secrets_dir / "peppers.json")
    configuration = WorkerConfiguration(MemoryKeyRing(peppers, entropy.bytes(32)), Credentials(os.environ))
    try:
        configuration.load_last_good(settings.last_good_file)
    except ConfigInvalid as error:
        LOG.error("%s; waiting for the desk", error.message)
    limits = MemoryEngine(current_books(settings.journal_dir, settings.checkpoint_file))
    journal = JournalWriter.create(
        settings.journal_dir,
        make_id(clock.now_ms(), entropy.bytes(10)),
        clock=clock,
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.journal_reserve_bytes,
        sync_ms=settings.journal_sync_ms,
    )
    metrics = PrometheusMetrics()
    metrics.gauge("faregate_open_holds", "Attempts between HOLD and their end", limits.open_holds)
    upstream: Upstream = AiohttpUpstream()
    surfaces = discover_surfaces()
    services = Services(
        clock=clock,
        entropy=entropy,
        configuration=configuration,
        journal=journal,
        limits=limits,
        wants=Wants(),
        upstream=upstream,
        surfaces=surfaces,
        providers=discover_providers(),
        guards=tuple(discover_members("gateway.policies", policies.__path__, lambda guard: guard.name).values()),
        composer=AsSent(),
        recall=nothing.MEMBER,
        metrics=metrics,
        settings=_path_settings(settings),
    )
    relay = desk or DeskRelay(
        upstream, str(settings.desk_socket), surfaces["chat.completions"], settings.max_body_bytes
    )

    def unready() -> str:
        """Why no call is wanted; empty when ready. SQL has no say in it."""
        if not configuration.ready:
            return "no configuration yet"
        return "" if journal.ready else "the journal cannot be written"

    plane = DataPlane(services, relay, unready, metrics.render, settings.max_body_bytes)
    subscriber = Subscriber(
        settings.bookkeeper_socket,
        f"worker-{os.getpid()}",
        lambda: configuration.revision,
        configuration.apply,
        entropy,
    )
    worker = Worker(plane, journal, clock, (upstream,), subscriber.run)
    return WorkerParts(worker, configuration)


# ---------------------------------------------------------------- desk


def policy_compiler(settings: Settings) -> Callable[[], Policy]:
    """Reads and compiles `routes.yaml` with the price book; the book's sources are read once."""
    from gateway.pricing.book import PriceBook
    from gateway.routing.compile import compile_policy
    from gateway.vault.policy_files import load_routes

    book = PriceBook()
    rows = discover_providers()

    def compiled() -> Policy:
        file = load_routes(settings.config_dir)
        return compile_policy(file.text, str(file.path), rows, book.sheets_for)

    return compiled


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
    from gateway.bookkeeper.standing import STATUS_NAME, read_status
    from gateway.channel.client import RemotePublisher
    from gateway.desk.app import create_desk_app
    from gateway.desk.parts import DeskParts
    from gateway.store.config_store import SqlConfigStore
    from gateway.store.engine import open_engine
    from gateway.store.queries import SqlLedgerQueries

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
    )

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        following = asyncio.get_running_loop().create_task(_follow_keys(store, keys, clock), name="desk-keys")
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await config_engine.dispose()
            await ledger_engine.dispose()

    return Desk(create_desk_app(parts), parts.local_token, running)


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


async def _follow_keys(store: SqlConfigStore, keys: MemoryKeyRing, clock: SystemClock) -> None:
    """The desk's own key ring, kept current from SQL: other desks may write too."""
    revision = 0
    while True:
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
        await asyncio.sleep(FOLLOW_KEYS_S)


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


class NoWorkers:
    """core.admin.Publisher where nothing is served: the next worker reads everything at its start."""

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        return True


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


# ---------------------------------------------------------------- all in one process


def create_app(settings: Settings) -> FastAPI:
    """One FastAPI application with the data plane in front of it: for tests, embedding and small installations.

    Its lifespan owns the data folder and runs desk, bookkeeper and worker in this process. `faregate serve` runs the
    same parts in processes of their own, where a crash of one does not touch the others. Raises at start what
    `lock_data_folder` and `prepare_store` raise.
    """
    for folder in (settings.data_dir, settings.run_dir, settings.journal_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    desk = create_desk(settings)
    app = desk.app
    desk_stack = app.build_middleware_stack()
    desk_lifespan = app.router.lifespan_context
    planes: list[DataPlane] = []

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and planes:
            await planes[-1](scope, receive, send)
        else:
            await desk_stack(scope, receive, send)

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[None]:
        from gateway.bookkeeper.bookkeeper import Bookkeeper

        lock = lock_data_folder(settings)
        try:
            await prepare_store(settings)
            async with open_books(settings) as (ledger, config), desk.running():
                bookkeeper = Bookkeeper(settings, ledger, config, SystemClock(), SystemEntropy())
                await bookkeeper.start()
                worker = create_worker(settings, desk_stack).worker
                await worker.start()
                planes.append(worker.plane)
                try:
                    async with desk_lifespan(served):
                        yield
                finally:
                    planes.pop()
                    await worker.stop()
                    await bookkeeper.stop()
        finally:
            os.close(lock)

    app.router.lifespan_context = lifespan
    app.middleware_stack = dispatch
    return app
