"""The worker's wiring: files, sockets and the request path. It must not import FastAPI, SQL or a price source."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path

from gateway import policies
from gateway.api.bodies import BodyRoom
from gateway.api.desk_relay import DeskRelay
from gateway.api.exchange import AsgiApp
from gateway.api.leaving import LeavingPlane
from gateway.api.worker import Fold, Worker
from gateway.bookkeeper.following import FollowedCorrections, Forerunners
from gateway.bookkeeper.standing import STATUS_NAME, read_status
from gateway.cache import nothing
from gateway.channel.client import Subscriber
from gateway.channel.messages import Status
from gateway.core.errors import ConfigInvalid
from gateway.core.ids import make_id
from gateway.core.issued import IssuedIds
from gateway.core.members import discover_members
from gateway.core.ports import Clock, Entropy, Metrics, StatefulSurface
from gateway.core.records import AnyRecord, Settle
from gateway.counters.memory import MemoryEngine
from gateway.dialects.discover import discover as discover_surfaces
from gateway.dialects.discover import discover_translations
from gateway.exporters.prometheus import PrometheusMetrics
from gateway.flow.compose import AsSent
from gateway.flow.endpoints import Endpoints
from gateway.flow.issued import Issued
from gateway.flow.plan import Plans
from gateway.flow.services import PathSettings, Services
from gateway.flow.wires import Wires
from gateway.journal.writer import JournalWriter
from gateway.limits.wants import Wants
from gateway.providers.discover import discover as discover_providers
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy
from gateway.upstream.httptools_client import HttptoolsUpstream
from gateway.upstream.pool import PoolCounts
from gateway.vault.configuration import WorkerConfiguration
from gateway.vault.credentials import Credentials
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.peppers import load_peppers

LOG = logging.getLogger("faregate")
HEARTBEAT_S = 15.0
CONFIGURED_S = 1.0
"""How long a starting worker waits for the newest configuration; what it has is what was good last."""
CONFIGURED_LOOK_S = 0.005


def _path_settings(settings: Settings) -> PathSettings:
    return PathSettings(
        max_reply_bytes=settings.max_reply_bytes,
        first_event_wait_s=settings.first_event_wait_s,
        progress_idle_s=settings.progress_idle_s,
        heartbeat_s=HEARTBEAT_S,
        reserve_wait_s=settings.reserve_wait_s,
        reserve_last_wait_s=settings.reserve_last_wait_s,
        drain_max_s=settings.drain_max_s,
        budget_status=settings.budget_status,
        power=settings.durability == "power",
    )


@dataclass(slots=True)
class WorkerParts:
    """A worker and what `create_app` shares with the desk in one process."""

    worker: Worker
    plane: LeavingPlane
    configuration: WorkerConfiguration
    subscriber: Subscriber

    async def configured(self) -> None:
        """Returns when the bookkeeper has said what is current, or does not answer."""
        for _ in range(int(CONFIGURED_S / CONFIGURED_LOOK_S)):
            if self.subscriber.connected:
                return
            await asyncio.sleep(CONFIGURED_LOOK_S)


def _gauge_connections(metrics: PrometheusMetrics, upstream: HttptoolsUpstream) -> None:
    """Connections to providers, over all pools."""
    for name, meaning, read in (
        ("open", "Connections to providers", lambda pool: pool.open),
        ("idle", "Connections to providers that wait for a call", lambda pool: pool.idle),
        ("waiting", "Calls that wait for a connection to a provider", lambda pool: pool.waiting),
    ):
        metrics.gauge(f"faregate_upstream_connections_{name}", meaning, partial(_summed, upstream, read))


def _gauge_own(metrics: PrometheusMetrics, limits: MemoryEngine) -> None:
    metrics.gauge("faregate_tasks", "Tasks of the worker's event loop", lambda: len(asyncio.all_tasks()))
    metrics.gauge("faregate_open_holds", "Attempts between HOLD and their end", limits.open_holds)
    metrics.watch_refusals(lambda: limits.would_refuse)


def _gauge_bookkeeping(metrics: PrometheusMetrics, status_file: Path, clock: Clock) -> None:
    """What the bookkeeper last wrote of itself, for whoever reads metrics only. NaN as long as there is nothing."""

    def gauge(name: str, meaning: str, read: Callable[[Status], float]) -> None:
        def value() -> float:
            status = read_status(status_file)
            return nan if status is None else read(status)

        metrics.gauge(f"faregate_{name}", meaning, value)

    gauge("recording_delay_seconds", "Age of the newest usage in SQL; 0: all is there", lambda one: one.behind_ms / 1e3)
    gauge("recording_behind_bytes", "Journal that is not in SQL yet", lambda one: one.behind_bytes)
    gauge("dead_letters", "Records that SQL refused: must stay 0", lambda one: one.dead_letters)
    gauge("store_errors", "Failed attempts to reach SQL", lambda one: one.store_errors)
    gauge(
        "bookkeeper_silent_seconds",
        "Since when the bookkeeper says nothing; it should each second",
        lambda one: max(clock.now_ms() - one.ts_ms, 0) / 1e3,
    )
    gauge("alerts_waiting", "Alerts on their way to a channel", lambda one: one.alerts_waiting)

    def counter(name: str, meaning: str, read: Callable[[Status], float]) -> None:
        def value() -> float:
            status = read_status(status_file)
            return 0.0 if status is None else read(status)

        metrics.counter(f"faregate_alerts_{name}", meaning, value)

    counter("made", "Alerts made", lambda one: one.alerts_made)
    counter("sent", "Alerts that a channel has taken", lambda one: one.alerts_sent)
    counter("failed", "Attempts to deliver an alert that failed", lambda one: one.alerts_failed)
    counter("given_up", "Alerts that a channel did not take within a day", lambda one: one.alerts_given_up)


def _summed(upstream: HttptoolsUpstream, read: Callable[[PoolCounts], int]) -> int:
    return sum(read(pool) for pool in upstream.counts())


def _own_journal(settings: Settings, clock: Clock, entropy: Entropy) -> JournalWriter:
    return JournalWriter.create(
        settings.journal_dir,
        make_id(clock.now_ms(), entropy.bytes(10)),
        clock=clock,
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.journal_reserve_bytes,
        sync_ms=settings.journal_sync_ms,
    )


def create_worker(settings: Settings, desk: AsgiApp | None = None) -> WorkerParts:
    """A worker from its files alone: last-good configuration, checkpoint, journals. `desk` None: over its socket."""
    clock, entropy = SystemClock(), SystemEntropy()
    peppers = load_peppers(settings.secrets_dir / "peppers.json")
    others = Forerunners(settings.journal_dir, settings.checkpoint_file)  # before there is a journal of our own
    limits = MemoryEngine(others.books)
    wants = Wants(live=lambda: tuple(limits.books.counters))
    configuration = WorkerConfiguration(
        MemoryKeyRing(peppers, entropy.bytes(32)), Credentials(os.environ), use_rules=wants.use
    )
    try:
        configuration.load_last_good(settings.last_good_file)
    except ConfigInvalid as error:
        LOG.error("%s; waiting for the desk", error.message)
    journal = _own_journal(settings, clock, entropy)
    metrics = PrometheusMetrics()
    _gauge_own(metrics, limits)
    upstream = HttptoolsUpstream()
    _gauge_connections(metrics, upstream)
    _gauge_bookkeeping(metrics, settings.run_dir / STATUS_NAME, clock)
    surfaces = discover_surfaces()
    stateful = {name: one for name, one in surfaces.items() if isinstance(one, StatefulSurface)}
    services = Services(
        clock=clock,
        entropy=entropy,
        configuration=configuration,
        journal=journal,
        limits=limits,
        wants=wants,
        upstream=upstream,
        surfaces=surfaces,
        providers=discover_providers(),
        guards=tuple(discover_members("gateway.policies", policies.__path__, lambda guard: guard.name).values()),
        composer=AsSent(),
        recall=nothing.MEMBER,
        metrics=metrics,
        settings=_path_settings(settings),
        endpoints=Endpoints(str(settings.run_dir)),
        plans=Plans(Wires(discover_translations(surfaces))),
        issued=Issued(IssuedIds(peppers.derived("ids of responses")), stateful),
    )
    relay = desk or DeskRelay(
        upstream, str(settings.desk_socket), surfaces["chat.completions"], settings.max_body_bytes
    )

    def unready() -> str:
        """Why no call is wanted; empty when ready. SQL has no say in it."""
        if plane.stopping:
            return "draining"
        if not configuration.ready:
            return "no configuration yet"
        return "" if journal.ready else "the journal cannot be written"

    bodies = BodyRoom(settings.max_body_bytes, settings.max_bodies_bytes)
    plane = LeavingPlane(services, relay, unready, metrics.render, bodies)
    subscriber = Subscriber(
        settings.bookkeeper_socket,
        f"worker-{os.getpid()}",
        lambda: configuration.revision,
        configuration.apply,
        entropy,
    )
    fold = _fold_of_others(limits, metrics)
    follow = _following(settings, subscriber, {*others.known, journal.journal_id}, fold)
    worker = Worker(plane, journal, clock, (upstream,), follow, limits, others, fold)
    return WorkerParts(worker, plane, configuration, subscriber)


def _following(
    settings: Settings, subscriber: Subscriber, known: Collection[bytes], fold: Fold
) -> Callable[[], Awaitable[None]]:
    """The configuration and the bookkeeper's corrections, as they come; `known` are journals that hold none to come."""
    corrections = FollowedCorrections(settings.journal_dir, known)

    async def follow() -> None:
        await asyncio.gather(subscriber.run(), corrections.run(fold))

    return follow


def _fold_of_others(limits: MemoryEngine, metrics: Metrics) -> Fold:
    """What becomes of other workers' records: counters move, and calls that end are counted where metrics are read."""

    def fold(record: AnyRecord, call_id: bytes) -> None:
        limits.follow(record, call_id)
        if isinstance(record, Settle):
            metrics.call_ended(
                record.endpoint,
                record.model_asked,
                record.deployment,
                record.outcome,
                record.status,
                record.effective_nusd,
                record.input_tokens,
                record.output_tokens,
                record.duration_us,
                record.overhead_us,
                record.ttft_us,
            )

    return fold
