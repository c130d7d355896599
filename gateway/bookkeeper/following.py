"""A starting worker's view of those before it: their books, and their journals as long as they are written. No SQL.

Two workers never admit at the same time: a new one waits until every journal that is not its own holds a HANDOVER, or
has no living writer. What the old one still ends (ATTEMPT_END, VOID, SHRINK, SETTLE), or the bookkeeper in its name
when it dies, is read from its journal as it is written, and frees the new worker's counters within milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gateway.bookkeeper.checkpoint import books_of, read_checkpoint
from gateway.bookkeeper.correcting import first_record
from gateway.core.errors import JournalUnreadable
from gateway.core.ids import JOURNAL, parse_id
from gateway.core.records import AnyRecord, Entry, Handover
from gateway.journal.folder import has_writer, list_journals
from gateway.journal.reader import JournalTail, Position
from gateway.ledger.fold import Books

SHORTEST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.005
"""Between two looks at journals that are still written. Where nothing comes, the pause grows to the longer one."""
LOOK_FOR_WRITER_S = 0.05
CORRECTIONS_S = 0.5
"""How often a serving worker looks for corrections: they are to count within 5 s. A look among twenty journals takes
60 µs."""
CORRECTIONS_BYTES = 8 * 1024
"""How much is read before calls get their turn: some 20 corrections, each of which takes 20 µs. A re-rating appends a
thousand at once."""
WAITING_LOG_S = 5.0

Fold = Callable[[AnyRecord, bytes], None]
"""A record and its call's id, in the order of its journal."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Forerunner:
    """An unsealed journal of another worker. `admitting` until its HANDOVER, or the end of a dead writer, is read."""

    path: Path
    tail: JournalTail
    admitting: bool


class Forerunners:
    """The books of this host as of now, and every journal that may still grow. One event loop only.

    `books` is for the worker's engine to go on from; from then on `fold` gets each record that is read, so that the
    engine can wake who waits.
    """

    def __init__(self, journal_root: Path, checkpoint_file: Path) -> None:
        """Reads all there is, before the worker makes a journal of its own. Raises JournalUnreadable."""
        checkpoint = read_checkpoint(checkpoint_file)
        self.books: Books = books_of(checkpoint, journal_root)
        states = {state.journal_id: state for state in (checkpoint.journals if checkpoint is not None else ())}
        self._journals: list[_Forerunner] = []
        self.known: set[bytes] = set()
        """Every journal that was there at the start, also those that were read to their end."""
        for journal in list_journals(journal_root):
            self.known.add(journal.journal_id)
            state = states.get(journal.journal_id)
            tail = JournalTail(journal.path, state.position if state is not None else Position())
            found = _Forerunner(journal.path, tail, admitting=state is None or not state.handed_over)
            self._journals.append(found)
            self._drain(found, self._apply)

    def _apply(self, record: AnyRecord, call_id: bytes) -> None:
        self.books.apply(record, call_id)

    def __len__(self) -> int:
        """How many journals may still grow."""
        return len(self._journals)

    @property
    def admitting(self) -> list[Path]:
        """Journals whose worker may still take new calls, as far as is known."""
        return [journal.path for journal in self._journals if journal.admitting]

    def poll(self, fold: Fold) -> int:
        """Reads what there is: how many records that was. A journal that is finished is left.

        Raises JournalUnreadable for one that may still admit; of another the holds stand, which refuses too much
        rather than too little.
        """
        read = 0
        for journal in list(self._journals):
            try:
                read += self._drain(journal, fold)
            except JournalUnreadable as error:
                if journal.admitting:
                    raise
                _log.error("this journal cannot be followed to its end, its reservations stand: %s", error.message)
                self._leave(journal)
        return read

    async def handed_over(self, fold: Fold) -> None:
        """Returns once nobody else admits: from then on this worker may."""
        loop = asyncio.get_running_loop()
        looked_s = logged_s = loop.time()
        while self.admitting:
            if not self.poll(fold) and self.admitting:
                now_s = loop.time()
                if now_s - looked_s > LOOK_FOR_WRITER_S:
                    looked_s = now_s
                    self._look_for_writers(fold)
                if now_s - logged_s > WAITING_LOG_S:
                    logged_s = now_s
                    _log.warning("waiting for another worker to hand over: %s", ", ".join(map(str, self.admitting)))
                await asyncio.sleep(SHORTEST_PAUSE_S)

    async def follow(self, fold: Fold) -> None:
        """Folds what the others still end, until all of their journals are sealed."""
        pause_s = SHORTEST_PAUSE_S
        while self._journals:
            pause_s = SHORTEST_PAUSE_S if self.poll(fold) else min(pause_s * 1.5, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        for journal in self._journals:
            journal.tail.close()
        self._journals.clear()

    def _look_for_writers(self, fold: Fold) -> None:
        """A dead worker admits nothing more. What it appended last is read before that is believed."""
        for journal in list(self._journals):
            if journal.admitting and not has_writer(journal.path):
                self._drain(journal, fold)
                journal.admitting = False

    def _drain(self, journal: _Forerunner, fold: Fold) -> int:
        """Everything that can be read now."""
        read = 0
        try:
            while entries := journal.tail.poll():
                read += len(entries)
                self._fold(journal, entries, fold)
        except FileNotFoundError:  # sealed, in SQL, and deleted
            journal.tail.finished = True
        for damage in journal.tail.drain_damage():
            _log.error("%s: records %d to %d are lost", journal.path, damage.first_seq, damage.last_seq)
        if journal.tail.finished:
            self._leave(journal)
        return read

    def _fold(self, journal: _Forerunner, entries: list[Entry], fold: Fold) -> None:
        for entry in entries:
            fold(entry.record, entry.call_id)
            if type(entry.record) is Handover:
                journal.admitting = False

    def _leave(self, journal: _Forerunner) -> None:
        journal.admitting = False
        journal.tail.close()
        self._journals.remove(journal)


class FollowedCorrections:
    """The bookkeeper's corrections from now on, for a worker that serves: its journals are read from the disk, so that
    a bookkeeper that dies in the middle changes nothing. Journals that were there at the worker's start are its
    Forerunners' affair."""

    def __init__(self, journal_root: Path, known: Collection[bytes]) -> None:
        """`known` are those, and the worker's own."""
        self._root = journal_root
        self._passed: set[bytes] = set(known)
        self._tails: dict[bytes, JournalTail] = {}
        self._said: dict[bytes, str] = {}

    async def run(self, fold: Fold) -> None:
        """Folds each correction once, within about CORRECTIONS_S; ends by being cancelled."""
        try:
            while True:
                try:
                    self._find()
                    while self._read_some(fold):  # noqa: ASYNC110 - nothing is waited for: calls get their turn
                        await asyncio.sleep(0)
                except Exception:  # noqa: BLE001 - whatever it is: the worker serves on, and looks again
                    _log.exception("corrections could not be followed; trying again")
                await asyncio.sleep(CORRECTIONS_S)
        finally:
            for tail in self._tails.values():
                tail.close()
            self._tails.clear()

    def poll(self, fold: Fold) -> int:
        """Reads what there is, at once: how many records that was."""
        self._find()
        read = 0
        while found := self._read_some(fold):
            read += found
        return read

    def _read_some(self, fold: Fold) -> int:
        """About CORRECTIONS_BYTES of each journal: how many records that was."""
        return sum([self._read(journal_id, tail, fold) for journal_id, tail in list(self._tails.items())])

    def _find(self) -> None:
        try:
            names = os.listdir(self._root)
        except OSError as error:
            self._say(b"", str(error))
            return
        for name in sorted(names):
            journal_id = parse_id(JOURNAL, name)
            if journal_id is None or journal_id in self._passed or journal_id in self._tails:
                continue
            first = first_record(self._root / name)
            if first:
                self._tails[journal_id] = JournalTail(self._root / name, limit=1, chunk_bytes=CORRECTIONS_BYTES)
            elif first is not None:
                self._passed.add(journal_id)  # a worker's

    def _read(self, journal_id: bytes, tail: JournalTail, fold: Fold) -> int:
        read = 0
        try:
            for entry in tail.poll():
                read += 1
                fold(entry.record, entry.call_id)
        except FileNotFoundError:
            tail.finished = True
        except JournalUnreadable as error:
            self._say(journal_id, error.message)
        for damage in tail.drain_damage():
            _log.error("corrections %d to %d of %s are lost", damage.first_seq, damage.last_seq, journal_id.hex())
        if tail.finished:
            tail.close()
            del self._tails[journal_id]
            self._passed.add(journal_id)
        return read

    def _say(self, journal_id: bytes, message: str) -> None:
        if self._said.get(journal_id) != message:
            _log.error("corrections cannot be followed: %s", message)
        self._said[journal_id] = message
