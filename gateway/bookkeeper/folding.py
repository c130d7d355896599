"""Journals into the checkpoint, and the journals of the dead closed. Needs no SQL and never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.bookkeeper.checkpoint import Checkpoint, JournalState, books_of, read_checkpoint, write_checkpoint
from gateway.bookkeeper.durable import DiskThread
from gateway.core.errors import FaregateError, JournalUnreadable, UsageLogUnavailable
from gateway.core.ports import Clock
from gateway.core.records import Entry, Handover, Hold
from gateway.journal.adoption import AdoptedJournal, adopt
from gateway.journal.folder import JournalFolder, list_journals
from gateway.journal.reader import JournalTail, Position
from gateway.ledger.adopt import closing_records
from gateway.ledger.fold import Books

RECORDS_AT_ONCE = 2_000
LIST_S = 0.25
SHORTEST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.05
SAVE_S = 1.0
ADOPT_S = 0.5

_LISTING = b""
"""The key of a fault that is of no journal in particular."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalSizes:
    """How a journal that is taken over is written on; the settings of the same names."""

    segment_bytes: int
    reserve_bytes: int
    sync_ms: int


def _unwatched(entries: Sequence[Entry], books: Books) -> None:
    return


class Folder:
    """The books of this host, always as far as the journals are. Run it as a task.

    `watch` is shown every batch of entries once the books have them, before a checkpoint has them; after a restart some
    are shown again. It must not raise.
    """

    def __init__(
        self,
        journal_root: Path,
        checkpoint_file: Path,
        clock: Clock,
        sizes: JournalSizes,
        watch: Callable[[Sequence[Entry], Books], None] = _unwatched,
    ) -> None:
        """Reads the checkpoint. Raises JournalUnreadable when there is none and the journals are not complete."""
        self._watch = watch
        self._root = journal_root
        self._file = checkpoint_file
        self._clock = clock
        self._sizes = sizes
        checkpoint = read_checkpoint(checkpoint_file)
        self.books: Books = books_of(checkpoint, journal_root)
        self._positions: dict[bytes, Position] = checkpoint.positions() if checkpoint is not None else {}
        self._journal_of: dict[bytes, bytes] = {
            call_id: state.journal_id
            for state in (checkpoint.journals if checkpoint is not None else ())
            for call_id in state.open_calls
        }
        self._handed_over: set[bytes] = {
            state.journal_id for state in (checkpoint.journals if checkpoint is not None else ()) if state.handed_over
        }
        self.saved: tuple[dict[bytes, Position], dict[bytes, Position]] = (dict(self._positions), {})
        """Positions in the checkpoint and in the one before it: what retention may count on."""
        self._tails: dict[bytes, JournalTail] = {}
        self._done: set[bytes] = set()
        self._listed_ns = 0
        self._saving = asyncio.Lock()
        self._disk = DiskThread("checkpoint")
        self._unsaved = checkpoint is None
        self.saved_ms = checkpoint.written_ms if checkpoint is not None else 0
        self.anomalies = 0
        self.faults: dict[bytes, str] = {}

    def positions(self) -> dict[bytes, Position]:
        """How far each journal is folded."""
        return {**self._positions, **{journal_id: tail.position for journal_id, tail in self._tails.items()}}

    async def run(self) -> None:
        """Folds, saves and adopts until it is cancelled; what was folded by then is saved.

        After any other exception this folder is not to be used again: a new one goes on from the checkpoint.
        """
        pause_s = SHORTEST_PAUSE_S
        saved_ns = adopted_ns = self._clock.monotonic_ns()
        try:
            while True:
                folded = self.step()
                now_ns = self._clock.monotonic_ns()
                if now_ns - adopted_ns > ADOPT_S * 1e9:
                    adopted_ns = now_ns
                    await self.adopt_orphans()
                if now_ns - saved_ns > SAVE_S * 1e9:
                    saved_ns = now_ns
                    await self.save()
                pause_s = SHORTEST_PAUSE_S if folded else min(pause_s * 1.5, LONGEST_PAUSE_S)
                await asyncio.sleep(0 if folded >= RECORDS_AT_ONCE else pause_s)
        except asyncio.CancelledError:
            self._disk.close()
            self._unsaved = True  # one that was being written may not have been begun
            self.save_now()
            raise
        finally:
            self.close()

    def step(self) -> int:
        """Folds what is there, up to about RECORDS_AT_ONCE a journal; how many records that was."""
        now_ns = self._clock.monotonic_ns()
        if not self._listed_ns or now_ns - self._listed_ns > LIST_S * 1e9:
            self._listed_ns = now_ns
            self._follow_new()
        folded = 0
        for journal_id, tail in list(self._tails.items()):
            entries = self._poll(journal_id, tail)
            folded += len(entries)
            self._apply(entries)
            if tail.finished:
                self._leave(journal_id)
        return folded

    def catch_up(self) -> None:
        """Folds everything that is there, also of journals begun just now, without pausing."""
        self._listed_ns = 0
        while self.step():
            continue

    async def save(self) -> None:
        """Writes the checkpoint if anything has changed. An error of the disk is logged and tried again next time."""
        async with self._saving:
            if not self._unsaved:
                return
            checkpoint = self._checkpoint()
            try:
                await self._disk.run(write_checkpoint, self._file, checkpoint)
            except OSError as error:
                self._unsaved = True
                _log.error("the checkpoint cannot be written: %s", error)
                return
            self._saved(checkpoint)

    async def adopt_orphans(self) -> tuple[tuple[str, ...], str]:
        """Closes every journal whose process is gone: (their names, what went wrong or empty).

        When this returns, the books and the checkpoint have everything these journals will ever hold.
        """
        async with self._saving:
            return self.adopt_now()

    def adopt_now(self) -> tuple[tuple[str, ...], str]:
        """The same where nothing else can be saving."""
        adopted: list[str] = []
        failed = ""
        for journal in self._list():
            if journal.sealed_seq is not None:
                continue
            try:
                if self._adopt(journal):
                    adopted.append(journal.path.name)
            except (FaregateError, OSError) as error:
                failed = f"{journal.path.name}: {error}"
                _log.error("a dead process's journal cannot be closed yet: %s", failed)
        return tuple(adopted), failed

    def close(self) -> None:
        self._disk.close()
        for tail in self._tails.values():
            tail.close()
        self._positions = self.positions()
        self._tails.clear()
        self._done.clear()
        self._listed_ns = 0

    # ------------------------------------------------------------ folding

    def _list(self) -> list[JournalFolder]:
        try:
            journals = list_journals(self._root)
            self.faults.pop(_LISTING, None)
        except JournalUnreadable as error:
            if _LISTING not in self.faults:
                _log.error("journals cannot be listed: %s", error.message)
            self.faults[_LISTING] = error.message
            return []
        return journals

    def _follow_new(self) -> None:
        journals = self._list()
        if _LISTING in self.faults:
            return
        for journal in journals:
            if journal.journal_id not in self._tails and journal.journal_id not in self._done:
                self._tail_of(journal)
        there = {journal.journal_id for journal in journals}
        for journal_id in [known for known in self._positions if known not in there]:
            del self._positions[journal_id]  # retention has deleted it: nobody will ask again
            self._done.discard(journal_id)
            self._handed_over.discard(journal_id)
            self._unsaved = True

    def _tail_of(self, journal: JournalFolder) -> JournalTail:
        tail = self._tails.get(journal.journal_id)
        if tail is None:
            position = self._positions.get(journal.journal_id, Position())
            tail = JournalTail(journal.path, position, limit=RECORDS_AT_ONCE)
            self._tails[journal.journal_id] = tail
        return tail

    def _leave(self, journal_id: bytes) -> None:
        tail = self._tails.pop(journal_id)
        self._positions[journal_id] = tail.position
        tail.close()
        self._done.add(journal_id)

    def _poll(self, journal_id: bytes, tail: JournalTail) -> list[Entry]:
        try:
            entries = tail.poll()
            self.faults.pop(journal_id, None)
        except FileNotFoundError:
            self._leave(journal_id)
            return []
        except JournalUnreadable as error:
            if self.faults.get(journal_id) != error.message:
                _log.error("this journal cannot be folded further: %s", error.message)
            self.faults[journal_id] = error.message
            return []
        for damage in tail.drain_damage():
            self.anomalies += 1
            _log.error("records %d to %d of %s are lost", damage.first_seq, damage.last_seq, journal_id.hex())
        return entries

    def _apply(self, entries: list[Entry]) -> None:
        if not entries:
            return
        books, journal_of = self.books, self._journal_of
        for entry in entries:
            books.apply(entry.record, entry.call_id)
            kind = type(entry.record)
            if kind is Hold:
                journal_of[entry.call_id] = entry.journal_id
            elif kind is Handover:
                self._handed_over.add(entry.journal_id)
        self._unsaved = True
        self._watch(entries, books)
        for anomaly in books.drain_anomalies():
            self.anomalies += 1
            _log.error(
                "%s: record %s of call %s, attempt %s",
                anomaly.kind,
                anomaly.detail,
                anomaly.call_id.hex(),
                anomaly.attempt_id.hex(),
            )

    # ------------------------------------------------------------ adoption

    def _adopt(self, journal: JournalFolder) -> bool:
        adopted = adopt(
            journal.path,
            clock=self._clock,
            segment_bytes=self._sizes.segment_bytes,
            reserve_bytes=self._sizes.reserve_bytes,
            sync_ms=self._sizes.sync_ms,
        )
        if adopted is None:
            return False
        with _released_on_error(adopted):
            tail = self._tail_of(journal)
            self._fold_to(journal.journal_id, tail, adopted.last_seq)
            closing = closing_records(self._books_of(journal.journal_id), self._clock.now_ms())
            for call_id, record in closing:
                adopted.writer.append(record, call_id)
            self._fold_to(journal.journal_id, tail, adopted.writer.last_seq)
            checkpoint = self._checkpoint()
            write_checkpoint(self._file, checkpoint)
            self._saved(checkpoint)
            adopted.seal()
        _log.info("%s of a process that is gone: %d records closed it", journal.path.name, len(closing))
        return True

    def _fold_to(self, journal_id: bytes, tail: JournalTail, seq: int) -> None:
        while tail.position.seq < seq:
            before = tail.position
            entries = self._poll(journal_id, tail)
            if not entries and tail.position == before:
                fault = self.faults.get(journal_id, f"its records after {tail.position.seq} cannot be read")
                raise JournalUnreadable(fault)
            self._apply(entries)

    def _books_of(self, journal_id: bytes) -> Books:
        """The open calls and holds of one journal, which is all that closing it wants to know."""
        part = Books()
        mine = {call_id for call_id, owner in self._journal_of.items() if owner == journal_id}
        part.calls = {call_id: call for call_id, call in self.books.calls.items() if call_id in mine}
        part.holds = {attempt_id: hold for attempt_id, hold in self.books.holds.items() if hold.call_id in mine}
        return part

    # ------------------------------------------------------------ the checkpoint

    def _checkpoint(self) -> Checkpoint:
        """As of now. What changes while it is being written is unsaved again."""
        self._unsaved = False
        open_calls = self.books.calls.keys() | {hold.call_id for hold in self.books.holds.values()}
        self._journal_of = {call: owner for call, owner in self._journal_of.items() if call in open_calls}
        calls: dict[bytes, list[bytes]] = {}
        for call_id, owner in self._journal_of.items():
            calls.setdefault(owner, []).append(call_id)
        states = (
            JournalState(journal_id, position, tuple(calls.get(journal_id, ())), journal_id in self._handed_over)
            for journal_id, position in self.positions().items()
        )
        return Checkpoint(self._clock.now_ms(), self.books.dump(), tuple(states))

    def _saved(self, checkpoint: Checkpoint) -> None:
        self.saved = (checkpoint.positions(), self.saved[0])
        self.saved_ms = checkpoint.written_ms

    def save_now(self) -> None:
        """`save` without waiting for anything."""
        if self._unsaved:
            checkpoint = self._checkpoint()
            try:
                write_checkpoint(self._file, checkpoint)
            except OSError as error:
                self._unsaved = True
                _log.error("the checkpoint cannot be written: %s", error)
                return
            self._saved(checkpoint)


def close_orphans(journal_root: Path, checkpoint_file: Path, clock: Clock, sizes: JournalSizes) -> tuple[str, ...]:
    """Folds and closes the journals of dead processes, without an event loop: what has to happen before a worker
    reads `current_books`. Only where no bookkeeper runs. Raises JournalUnreadable; UsageLogUnavailable when one cannot
    be closed.
    """
    folder = Folder(journal_root, checkpoint_file, clock, sizes)
    try:
        folder.catch_up()
        adopted, failed = folder.adopt_now()
        folder.save_now()
    finally:
        folder.close()
    if failed:
        raise UsageLogUnavailable(f"a dead process's journal cannot be closed: {failed}")
    return adopted


@contextlib.contextmanager
def _released_on_error(adopted: AdoptedJournal) -> Iterator[None]:
    try:
        yield
    except (FaregateError, OSError):
        adopted.release()
        raise
