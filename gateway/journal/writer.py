"""The journal of one process: `append` is one `pwrite`, a thread makes groups of records durable.

A record that `append` returned for is in the kernel: kill -9 loses nothing. What a power cut may lose is what the
last `sync_ms` and one fdatasync took; `synced` waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from gateway.core.errors import UsageLogUnavailable
from gateway.core.ids import JOURNAL, print_id
from gateway.core.ports import Clock
from gateway.journal.disk import FAILPOINT, Disk, record_pwrite, sync_directory, write_at
from gateway.journal.folder import CONFIRMED_BYTES
from gateway.journal.log import Log
from gateway.journal.segment import LOCK_NAME, activate, create_reserve, create_segment, segment_path
from gateway.journal.tape import Tape

RETRY_S = 0.25
LONGEST_RETRY_S = 5.0
LAST_TRIES = 3
"""Syncs at closing: one, one in another file if that fails, and one if an append moved files meanwhile."""
REAL_DISK = Disk()


class JournalWriter:
    """core.ports.Journal over files. `append` from any thread, `synced` from an event loop."""

    __slots__ = (
        "_closing",
        "_ended",
        "_lock",
        "_lock_fd",
        "_log",
        "_sync_s",
        "_tape",
        "_thread",
        "_waiters",
        "_wake",
        "append",
        "append_all",
    )

    @classmethod
    def create(
        cls,
        root: Path,
        journal_id: bytes,
        *,
        clock: Clock,
        segment_bytes: int,
        reserve_bytes: int,
        sync_ms: int,
        disk: Disk = REAL_DISK,
    ) -> JournalWriter:
        """A new journal in `root/jrn_…`, locked by this process. Raises UsageLogUnavailable when the disk cannot."""
        directory = root / print_id(JOURNAL, journal_id)
        opened: list[int] = []
        try:
            directory.mkdir(mode=0o700, parents=True)
            try:
                sync_directory(disk, root)
                opened.append(lock_directory(directory, wait=True, create=True))
                disk.pwrite(opened[0], bytes(CONFIRMED_BYTES), 0)
                first = create_segment(disk, segment_path(directory, 1), 1, segment_bytes)
                opened.append(first.fd)
                reserve = create_reserve(disk, directory, reserve_bytes, journal_id, clock.now_ms())
                opened.append(reserve.fd)
                activate(disk, first, journal_id, 1, clock.now_ms())
                disk.fsync(first.fd)
            except OSError:
                for fd in opened:
                    os.close(fd)
                shutil.rmtree(directory, ignore_errors=True)
                raise
        except OSError as error:
            raise UsageLogUnavailable(f"cannot create the journal {directory}: {error}") from error
        tape = Tape(
            directory,
            journal_id,
            first,
            reserve,
            top=1,
            segment_bytes=segment_bytes,
            reserve_bytes=reserve_bytes,
            clock=clock,
            disk=disk,
        )
        return cls(tape, lock_fd=opened[0], last_seq=0, sync_ms=sync_ms)

    def __init__(
        self, tape: Tape, *, lock_fd: int, last_seq: int, sync_ms: int, unsynced: Sequence[bytes] | None = None
    ) -> None:
        """For `create` and adoption, which have made the files. `unsynced` are an adopted journal's last records."""
        self._tape = tape
        self._lock_fd = lock_fd
        self._sync_s = sync_ms / 1000
        self._wake = _Bell()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._ended = False
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        pwrite = record_pwrite(tape.disk, os.environ.get(FAILPOINT, ""))
        self._log = Log(
            tape, last_seq=last_seq, unsynced=unsynced or (), pwrite=pwrite, wake=self._wake.ring, confirm=self._publish
        )
        # The port's `append` is the log's own method: every call makes several, and a delegate costs 3 % of each.
        self.append = self._log.append
        self.append_all = self._log.append_all
        if unsynced is not None and self._log.sync():
            self._publish(last_seq)  # what is missing before this is missing for good: readers need not wait for it
        self._wake.ring()  # the second segment is prepared before anyone asks
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    @property
    def journal_id(self) -> bytes:
        return self._tape.journal_id

    @property
    def directory(self) -> Path:
        return self._tape.directory

    @property
    def ready(self) -> bool:
        return not self._log.refusal

    @property
    def refusal(self) -> str:
        """Why new calls are refused, for people; empty when they are not."""
        return self._log.refusal

    @property
    def last_seq(self) -> int:
        return self._log.last_seq

    @property
    def synced_seq(self) -> int:
        return self._log.synced_seq

    @property
    def ended_in_reserve(self) -> bool:
        """After `stop`: the reserve may hold records that no segment has."""
        return self._log.ended_in_reserve

    async def synced(self, seq: int) -> None:
        """Returns when everything up to `seq` has survived fdatasync. Raises UsageLogUnavailable if closed before."""
        if seq <= self._log.synced_seq:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._ended:
                raise UsageLogUnavailable("the journal was closed before this record was durable")
            self._waiters.append((seq, loop, future))
        self._wake.ring()  # for a sync that ended between the check and the line above
        await future

    def close(self) -> None:
        """Syncs what was appended, closes the files and lets go of the lock. Harmless to repeat."""
        self.stop()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def stop(self) -> None:
        """`close`, but for the lock: whoever adopted the journal still seals it."""
        self._closing.set()
        self._wake.ring()
        self._thread.join()

    # ------------------------------------------------------------ the syncing thread

    def _run(self) -> None:
        try:
            self._sync_until_closed()
        finally:
            if not self._closing.is_set():
                self._log.abandon("its syncing thread has ended")
            self._release(ended=True)

    def _sync_until_closed(self) -> None:
        log = self._log
        failures = 0
        while not self._closing.is_set():
            self._wake.wait(RETRY_S if log.refusal else -1)
            # A group gathers meanwhile; a failing disk is left alone for longer each time.
            self._closing.wait(min(RETRY_S * 2**failures, LONGEST_RETRY_S) if failures else self._sync_s)
            # The first failure is repaired at once, in a new file; the second in a row waits.
            failures = 0 if log.sync() or log.sync() else failures + 1
            self._release()
            log.prepare()
            log.close_done()
            if failures:
                self._wake.ring()
        for _ in range(LAST_TRIES):
            log.sync()
            if log.durable:
                break
        log.close_done()
        log.close()

    def _publish(self, seq: int) -> None:
        """Tells readers up to where everything is durable. Its block is allocated; a smaller number does no harm."""
        with contextlib.suppress(OSError):
            write_at(self._lock_fd, seq.to_bytes(CONFIRMED_BYTES, "little"), 0)

    def _release(self, *, ended: bool = False) -> None:
        synced_seq = self._log.synced_seq
        with self._lock:
            self._ended = ended
            waiters, self._waiters = self._waiters, []
            if not ended:
                self._waiters = [waiter for waiter in waiters if waiter[0] > synced_seq]
        for seq, loop, future in waiters:
            if ended or seq <= synced_seq:
                with contextlib.suppress(RuntimeError):  # its loop has been closed: nobody waits
                    loop.call_soon_threadsafe(_resolve, future, seq <= synced_seq)


class _Bell:
    """A flag that one thread waits for and takes down. A lock does it: an Event hands the interpreter back and forth
    several times a wait, each time at the cost of the thread that serves calls."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._lock.release()

    def wait(self, timeout_s: float) -> None:
        """Until it is rung; -1: without limit."""
        self._lock.acquire(timeout=timeout_s)


def lock_directory(directory: Path, *, wait: bool, create: bool = False) -> int:
    """A descriptor that holds the journal's lock until it is closed or this process ends. Raises OSError.

    With `wait` only for its creator: an adopter that got in between finds no segment and lets go at once.
    """
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(fd)
        raise
    return fd


def _resolve(future: asyncio.Future[None], survived: bool) -> None:
    if future.done():
        return
    if survived:
        future.set_result(None)
    else:
        future.set_exception(UsageLogUnavailable("the journal was closed before this record was durable"))
