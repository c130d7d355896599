"""Configuration to the workers: what the desk hands over at once, and what polling SQL finds (the repair).

A worker is pushed every change after the revision it has, in commit order, and says when it serves by it. The newest
configuration is also kept in a file, so that a worker can start while SQL is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from gateway.bookkeeper.durable import DiskThread
from gateway.channel.frames import Connection
from gateway.channel.messages import Acknowledge, Push, Request, Subscribe
from gateway.core.admin import ConfigStore
from gateway.core.caller import KeyRecord
from gateway.core.config import KeyDelta, LimitChange, Policy, Snapshot, Update
from gateway.core.errors import ConfigInvalid, FaregateError, StoreUnavailable
from gateway.core.ports import Clock
from gateway.vault.last_good import read_last_good, write_last_good

POLL_S = 0.25
HEARTBEAT_S = 1.0
ACKNOWLEDGE_S = 1.0
GRACE_MS = 2_000
"""After a start, workers that still have to reconnect are counted as not having acknowledged."""
HISTORY = 1_000
"""Changes kept in memory; a worker further behind is served from SQL."""
DELTAS_AT_ONCE = 5_000

_log = logging.getLogger(__name__)


class _Worker:
    """One connected worker: what was sent to it and what it has acknowledged."""

    def __init__(self, subscribe: Subscribe) -> None:
        self.name = subscribe.worker
        self.sent = subscribe.revision
        self.acknowledged = subscribe.revision
        self.wake = asyncio.Event()


class ConfigPublisher:
    """core.admin.Publisher, the subscriptions behind it, and the last-good file.

    `store` None (a process without configuration in SQL) serves what the file holds. `expected_workers` is how many
    must acknowledge right after a start.
    """

    def __init__(self, store: ConfigStore | None, last_good: Path, clock: Clock, expected_workers: int = 1) -> None:
        self._store = store
        self._file = last_good
        self._clock = clock
        self._expected = expected_workers
        self._started_ms = clock.now_ms()
        self._keys: dict[str, KeyRecord] = {}
        self._limits: dict[str, LimitChange] | None = {}  # None: started from a file that does not know them
        self._policy: Policy | None = None
        self._history: deque[Update] = deque(maxlen=HISTORY)
        self._changing = asyncio.Lock()
        self._workers: set[_Worker] = set()
        self._moved = asyncio.Condition()
        self._unwritten = asyncio.Event()
        self._overtaken = False
        self.revision = 0
        self.fresh_ms = 0

    @property
    def summed_tags(self) -> tuple[str, ...]:
        """The tags that the ledger is to keep sums of."""
        return () if self._policy is None else self._policy.tags.rollups

    @property
    def workers(self) -> int:
        return len(self._workers)

    async def start(self) -> None:
        """Reads the present configuration from SQL, or from the file while SQL is away."""
        self._started_ms = now_ms = self._clock.now_ms()
        if self._store is None:
            self._take(self._from_file())
            return
        try:
            self._take(await self._store.snapshot())
            self.fresh_ms = now_ms
            self._unwritten.set()
        except StoreUnavailable as error:
            _log.warning("configuration: %s; starting from %s", error.message, self._file)
            self._take(self._from_file())

    async def run(self) -> None:
        """Polls SQL and keeps the file; ends by being cancelled, with the file written."""
        writing = asyncio.create_task(self._keep_file())
        try:
            while True:
                try:
                    async with self._changing:
                        await self._poll()
                except StoreUnavailable as error:
                    _log.debug("configuration: %s", error.message)
                except FaregateError as error:
                    _log.error("configuration cannot be read: %s", error.message)
                await asyncio.sleep(POLL_S)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            self._write_file()

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        """See the port. False also when a worker has gone without acknowledging: it may still be serving."""
        needed = {worker.name for worker in self._workers}
        try:
            async with self._changing:
                if revision > self.revision:
                    new = tuple(delta for delta in deltas if delta.revision > self.revision)
                    if _is_next(self.revision, revision, new, policy):
                        self._apply(Update(revision, self.fresh_ms, policy, new))
                    else:
                        await self._poll()
        except StoreUnavailable as error:
            _log.warning("revision %d is not handed on yet: %s", revision, error.message)
            return False
        if self.revision < revision:
            return False
        try:
            async with asyncio.timeout(ACKNOWLEDGE_S), self._moved:
                await self._moved.wait_for(lambda: self._have(revision, needed))
        except TimeoutError:
            return False
        return True

    async def follow(self, connection: Connection[Request], subscribe: Subscribe) -> None:
        """Serves one worker's subscription until it goes away (ChannelBroken)."""
        worker = _Worker(subscribe)
        self._workers.add(worker)
        sending = asyncio.create_task(self._send(connection, worker))
        hearing = asyncio.create_task(self._hear(connection, worker))
        try:
            async with self._moved:
                self._moved.notify_all()
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._workers.discard(worker)
            sending.cancel()
            hearing.cancel()
            ended = await asyncio.gather(sending, hearing, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    # ------------------------------------------------------------ changes

    async def _poll(self) -> None:
        """Reads what has changed. Under the lock. Raises StoreUnavailable."""
        if self._store is None:
            return
        asked_ms = self._clock.now_ms()
        newest, deltas, policy = await self._store.changes_since(self.revision)
        if newest < self.revision:
            # Workers cannot go back: what they serve is not what SQL has, so it is left to grow stale.
            if not self._overtaken:
                _log.error(
                    "configuration in SQL is at revision %d, what is served at %d: an older database was restored. "
                    "Restart Faregate to serve by it",
                    newest,
                    self.revision,
                )
            self._overtaken = True
            return
        self._overtaken = False
        self.fresh_ms = asked_ms
        if newest > self.revision:
            self._apply(Update(newest, asked_ms, policy, deltas))

    def _apply(self, update: Update) -> None:
        for delta in update.keys:
            if delta.change is not None:
                self._apply_limit(delta.change)
            elif delta.key is None:
                self._keys.pop(delta.key_id, None)
            else:
                self._keys[delta.key_id] = delta.key
        if update.policy is not None:
            self._policy = update.policy
        if not self._history:
            self._history.append(Update(self.revision, 0))  # what it reaches back to
        self._history.append(update)
        self.revision = update.revision
        self._unwritten.set()
        for worker in self._workers:
            worker.wake.set()

    def _apply_limit(self, change: LimitChange) -> None:
        if self._limits is None:
            return
        if change.gone:
            self._limits.pop(change.id, None)
        else:
            self._limits[change.id] = change

    def _take(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self._policy = snapshot.policy
            self._keys = {key.key_id: key for key in snapshot.keys}
            known = snapshot.limits
            self._limits = None if known is None else {change.id: change for change in known}
            self.revision = snapshot.revision

    async def _since(self, revision: int) -> tuple[Update, ...] | None:
        """The changes after a revision, or None when only SQL knows them and does not answer."""
        if revision >= self.revision:
            return ()
        if self._history and self._history[0].revision <= revision:
            return tuple(update for update in self._history if update.revision > revision)
        if self._store is None:
            return None
        try:
            newest, deltas, policy = await self._store.changes_since(revision)
        except StoreUnavailable:
            return None
        return (Update(newest, self.fresh_ms, policy, deltas),)

    # ------------------------------------------------------------ workers

    async def _send(self, connection: Connection[Request], worker: _Worker) -> None:
        while True:
            worker.wake.clear()
            updates = await self._since(worker.sent)
            for update in updates or ():
                for part in _parts(update, worker.sent):
                    await connection.send(Push(part))
                worker.sent = max(worker.sent, update.revision)
            if not updates:
                await connection.send(Push(Update(worker.sent, self.fresh_ms)))
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await worker.wake.wait()
            except TimeoutError:
                continue

    async def _hear(self, connection: Connection[Request], worker: _Worker) -> None:
        while True:
            message = await connection.receive()
            if isinstance(message, Acknowledge) and message.revision > worker.acknowledged:
                async with self._moved:
                    worker.acknowledged = message.revision
                    self._moved.notify_all()

    def _have(self, revision: int, needed: set[str]) -> bool:
        """Whether every worker that was or is connected serves by a revision."""
        ready = {worker.name for worker in self._workers if worker.acknowledged >= revision}
        if self._clock.now_ms() - self._started_ms < GRACE_MS and len(ready) < self._expected:
            return False
        return needed <= ready and all(worker.acknowledged >= revision for worker in self._workers)

    # ------------------------------------------------------------ the last-good file

    async def _keep_file(self) -> None:
        disk = DiskThread("last good")
        try:
            await self._write_again(disk)
        finally:
            disk.close()

    async def _write_again(self, disk: DiskThread) -> None:
        while True:
            await self._unwritten.wait()
            self._unwritten.clear()
            snapshot = self.snapshot()
            try:
                if snapshot is not None:
                    await disk.run(write_last_good, self._file, snapshot)
            except asyncio.CancelledError:
                self._unwritten.set()  # whether it was begun is not known: the last write of all is to come
                raise
            except OSError as error:
                _log.error("%s cannot be written: %s", self._file, error)
                self._unwritten.set()
                await asyncio.sleep(HEARTBEAT_S)

    def _write_file(self) -> None:
        snapshot = self.snapshot()
        if self._unwritten.is_set() and snapshot is not None:
            self._unwritten.clear()
            try:
                write_last_good(self._file, snapshot)
            except OSError as error:
                _log.error("%s cannot be written: %s", self._file, error)

    def snapshot(self) -> Snapshot | None:
        """The present configuration; None before the first policy."""
        if self._policy is None:
            return None
        limits = None if self._limits is None else tuple(self._limits.values())
        return Snapshot(self.revision, self._policy, tuple(self._keys.values()), limits)

    def _from_file(self) -> Snapshot | None:
        try:
            return read_last_good(self._file)
        except ConfigInvalid as error:
            _log.error("%s", error.message)
            return None


def _is_next(known: int, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
    """Whether the changes are all of those between two revisions."""
    if revision - known > len(deltas) + 1:
        return False
    covered = {delta.revision for delta in deltas}
    if policy is not None:
        covered.add(policy.revision)
    return covered >= set(range(known + 1, revision + 1))


def _parts(update: Update, since: int) -> list[Update]:
    """An update in frames of bounded size; until the last one the worker's revision is that of the last key sent."""
    keys = update.keys
    if len(keys) <= DELTAS_AT_ONCE:
        return [update]
    parts = []
    for start in range(0, len(keys), DELTAS_AT_ONCE):
        chunk = keys[start : start + DELTAS_AT_ONCE]
        last = start + DELTAS_AT_ONCE >= len(keys)
        # Two keys may share a revision, which is not over before its last one.
        revision = update.revision if last else max(since, chunk[-1].revision - 1)
        parts.append(Update(revision, update.fresh_ms, update.policy if last else None, chunk))
    return parts
