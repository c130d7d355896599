"""The bookkeeper: fold, loader, publisher and their socket, as one thing with a start and a stop.

It runs as a process of its own (`run_bookkeeper`) or inside another (`start`, `stop`).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import msgspec

from gateway.bookkeeper.alerts.evaluation import Alerting, AlertWorld
from gateway.bookkeeper.correcting import Corrector
from gateway.bookkeeper.durable import remove_unfinished, write_whole
from gateway.bookkeeper.folding import Folder, JournalSizes
from gateway.bookkeeper.loading import LedgerStore, Loader
from gateway.bookkeeper.publishing import ConfigPublisher
from gateway.bookkeeper.retention import prune
from gateway.bookkeeper.standing import STATUS_NAME, behind_bytes
from gateway.channel.frames import Connection
from gateway.channel.messages import (
    Adopt,
    Adopted,
    AllLoaded,
    AppendCorrections,
    AskLoaded,
    AskStatus,
    CorrectionsAppended,
    Publish,
    Published,
    Request,
    Status,
    Subscribe,
)
from gateway.channel.server import serve
from gateway.core.admin import ConfigStore
from gateway.core.errors import Conflict, FaregateError
from gateway.core.ports import Clock, Entropy
from gateway.settings import Settings

STOP_S = 4.0
"""How long the last load may take; with the rest a stop is over within 5 s."""
STOP_WITHOUT_SQL_S = 0.5
STATUS_S = 1.0
PRUNE_S = 600.0
RESTART_S = 1.0
LOCK_NAME = "bookkeeper.lock"
LOCK_WAIT_S = 15.0
"""A predecessor that is stopping has 5 s for its last load; two at once would both load, and write the checkpoint."""
LOCK_LOOK_S = 0.02

_log = logging.getLogger(__name__)


class Bookkeeper:
    """`publisher` is the desk's Publisher where both are one process. `alerts` None: nobody is told of anything."""

    def __init__(
        self,
        settings: Settings,
        ledger: LedgerStore,
        config: ConfigStore | None,
        clock: Clock,
        entropy: Entropy,
        alerts: AlertWorld | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sizes = JournalSizes(settings.segment_bytes, settings.journal_reserve_bytes, settings.journal_sync_ms)
        self._started_ms = clock.now_ms()
        self._whole_ms = 0
        """When nothing was seen to lack in SQL last: after an idle night, the first call is not late by that night."""
        publisher = ConfigPublisher(config, settings.last_good_file, clock, settings.workers)
        self.publisher = publisher
        self.loader = Loader(settings.journal_dir, ledger, clock, entropy, lambda: publisher.summed_tags)
        self.corrector = Corrector(settings.journal_dir, ledger, lambda: self.folder, self._sizes, clock, entropy)
        self._alerts = alerts
        self._entropy = entropy
        self.alerting: Alerting | None = None
        self._folder: Folder | None = None
        self._open = AsyncExitStack()
        self._lock = ExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def folder(self) -> Folder:
        """Raises RuntimeError before `start`."""
        if self._folder is None:
            raise RuntimeError("the bookkeeper has not been started")
        return self._folder

    async def start(self) -> None:
        """Closes the journals of the dead, reads the configuration and goes to work; then the socket answers.

        A worker that starts after this finds everything. Waits for a predecessor to end. Raises Conflict when it does
        not, JournalUnreadable, ConfigInvalid.
        """
        self._settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.callback(os.close, await take_lock(self._settings.run_dir / LOCK_NAME))
        try:
            await self._start()
        except BaseException:
            self._lock.close()
            raise

    async def _start(self) -> None:
        self.alerting = self._new_alerting()
        self._folder = self._new_folder()
        try:
            self._folder.catch_up()
            await self._folder.adopt_orphans()
            await self._folder.save()
            await self.publisher.start()
            await self._open.enter_async_context(serve(self._settings.bookkeeper_socket, self._answer))
        except BaseException:
            self._folder.close()
            raise
        self._tasks = [
            asyncio.create_task(self._fold(), name="bookkeeper fold"),
            asyncio.create_task(_again("loader", self.loader.run), name="bookkeeper loader"),
            asyncio.create_task(_again("publisher", self.publisher.run), name="bookkeeper publisher"),
            asyncio.create_task(_again("figures", self._report), name="bookkeeper figures"),
            asyncio.create_task(_again("retention", self._prune), name="bookkeeper retention"),
            asyncio.create_task(_again("corrector", self.corrector.run), name="bookkeeper corrector"),
        ]
        if self.alerting is not None:
            self._tasks.append(asyncio.create_task(_again("alerts", self.alerting.run), name="bookkeeper alerts"))

    async def stop(self, load: bool = True) -> None:
        """Folds and loads what is there, closes journals whose process has gone; over within 5 s, SQL or not.

        Without `load` the rest is left to a successor, who waits for this one's lock.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._open.aclose()
        self.corrector.close()
        if self._folder is None:
            return
        try:
            await self._finish(load)
        finally:
            self._lock.close()

    async def _finish(self, load: bool) -> None:
        folder = self.folder
        folder.catch_up()
        await folder.adopt_orphans()
        await folder.save()
        limit_s = STOP_WITHOUT_SQL_S if self.loader.fault else STOP_S
        if load and not await self.loader.drain(limit_s):
            _log.warning("usage that is not in SQL yet stays in the journals: %s", self.loader.fault or "no time left")
        self._write_status()
        folder.close()
        if self.alerting is not None:
            self.alerting.close()

    def status(self) -> Status:
        now_ms = self._clock.now_ms()
        folder, loader = self.folder, self.loader
        missing = behind_bytes(folder.positions(), loader.positions, self._settings.segment_bytes)
        if not missing:
            self._whole_ms = now_ms
        recorded_ms = max(loader.newest_ms or self._started_ms, self._whole_ms)
        faults = [*folder.faults.values(), *loader.journal_faults.values()]
        return Status(
            ts_ms=now_ms,
            behind_ms=max(now_ms - recorded_ms, 0) if missing else 0,
            behind_bytes=missing,
            loaded_records=loader.records,
            loaded_calls=loader.calls,
            dead_letters=loader.dead_letters,
            anomalies=folder.anomalies,
            open_holds=len(folder.books.holds),
            store_errors=loader.errors,
            store_fault=loader.fault,
            journal_fault=faults[0] if faults else "",
            revision=self.publisher.revision,
            fresh_ms=self.publisher.fresh_ms,
            workers=self.publisher.workers,
            checkpoint_ms=folder.saved_ms,
            **(self.alerting.counts() if self.alerting is not None else {}),
        )

    # ------------------------------------------------------------ the socket

    async def _answer(self, connection: Connection[Request]) -> None:
        while True:
            match await connection.receive():
                case Subscribe() as subscribe:
                    await self.publisher.follow(connection, subscribe)
                case Publish(revision, deltas, policy):
                    await connection.send(Published(await self.publisher.publish(revision, deltas, policy)))
                case Adopt():
                    journals, failed = await self.folder.adopt_orphans()
                    await connection.send(Adopted(journals, failed))
                case AskStatus():
                    await connection.send(self.status())
                case AppendCorrections() as asked:
                    await connection.send(await self._correct(asked))
                case AskLoaded(before_ms):
                    await connection.send(AllLoaded(await self._missing(before_ms)))
                case _:
                    return

    async def _correct(self, asked: AppendCorrections) -> CorrectionsAppended:
        try:
            done = await self.corrector.append(asked.corrections)
        except FaregateError as error:
            return CorrectionsAppended(failed=error.message, status=error.status)
        return CorrectionsAppended(done.appended, done.again, done.stale)

    async def _missing(self, before_ms: int) -> str:
        try:
            return await self.corrector.all_loaded(before_ms)
        except FaregateError as error:
            return error.message

    # ------------------------------------------------------------ tasks

    def _new_folder(self) -> Folder:
        settings = self._settings
        remove_unfinished(settings.checkpoint_file)
        if self.alerting is None:
            return Folder(settings.journal_dir, settings.checkpoint_file, self._clock, self._sizes)
        folder = Folder(
            settings.journal_dir, settings.checkpoint_file, self._clock, self._sizes, watch=self.alerting.seen
        )
        self.alerting.begin(folder.books)
        return folder

    def _new_alerting(self) -> Alerting | None:
        """The books are kept without it, too."""
        if self._alerts is None:
            return None
        publisher = self.publisher
        try:
            return Alerting(
                self._settings,
                self._alerts,
                publisher.snapshot,
                lambda: publisher.revision,
                self.status,
                self._clock,
                self._entropy,
            )
        except Exception:  # noqa: BLE001 - whatever it is, the books are kept
            _log.exception("nobody is told of anything")
            return None

    async def _fold(self) -> None:
        while True:
            try:
                await self.folder.run()
            except Exception:  # noqa: BLE001 - what was half applied must not be saved, whatever stopped it
                _log.exception("the fold has failed; starting it again from the checkpoint")
                await asyncio.sleep(RESTART_S)
                self._folder = self._new_folder()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATUS_S)
            self._write_status()

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_S)
            readers = (self.loader.positions, *self.folder.saved)
            await asyncio.to_thread(
                prune, self._settings.journal_dir, self._settings.journal_keep_days, readers, self._clock
            )

    def _write_status(self) -> None:
        try:
            write_whole(self._status_file, msgspec.json.encode(self.status()))
        except OSError as error:
            _log.error("%s cannot be written: %s", self._status_file, error)

    @property
    def _status_file(self) -> Path:
        return self._settings.run_dir / STATUS_NAME


async def run_bookkeeper(
    settings: Settings,
    ledger: LedgerStore,
    config: ConfigStore | None,
    clock: Clock,
    entropy: Entropy,
    ready: Callable[[], None] = lambda: None,
    alerts: AlertWorld | None = None,
) -> None:
    """The bookkeeper as a process: until SIGTERM or SIGINT, or SIGUSR1 when a successor waits: under load there is
    always more to be written, and as long as this one goes on, nobody hears of a changed key. `ready` is called once a
    worker may start."""
    stopping = asyncio.Event()
    succeeded = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def hand_over() -> None:
        succeeded.set()
        stopping.set()

    loop.add_signal_handler(signal.SIGUSR1, hand_over)
    bookkeeper = Bookkeeper(settings, ledger, config, clock, entropy, alerts)
    await bookkeeper.start()
    ready()
    await stopping.wait()
    await bookkeeper.stop(load=not succeeded.is_set())


async def take_lock(path: Path, wait_s: float = LOCK_WAIT_S) -> int:
    """A descriptor that says who keeps the books of this host, until it is closed. Raises Conflict."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if loop.time() > end_s:
                    raise Conflict(f"Another bookkeeper holds {path}. Stop it, or set FAREGATE_DATA_DIR.") from error
                await asyncio.sleep(LOCK_LOOK_S)
            else:
                return handle
    except BaseException:
        os.close(handle)
        raise


async def _again(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Runs a task that shall never end, once more whenever it does. The cause is logged, never swallowed."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - one part's failure must not end the others
            _log.exception("the bookkeeper's %s has failed; starting it again", name)
        await asyncio.sleep(RESTART_S)
