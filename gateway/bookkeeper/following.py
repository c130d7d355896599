"""A starting worker's view of those before it: their books, and their journals as long as they are written. No SQL.

Two workers never admit at the same time: a new one waits until every journal that is not its own holds a HANDOVER, or
has no living writer. What the old one still ends (ATTEMPT_END, VOID, SHRINK, SETTLE), or the bookkeeper in its name
when it dies, is read from its journal as it is written, and frees the new worker's counters within milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.bookkeeper.checkpoint import books_of, read_checkpoint
from gateway.core.errors import JournalUnreadable
from gateway.core.records import AnyRecord, Entry, Handover
from gateway.journal.folder import has_writer, list_journals
from gateway.journal.reader import JournalTail, Position
from gateway.ledger.fold import Books

SHORTEST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.005
"""Between two looks at journals that are still written. Where nothing comes, the pause grows to the longer one."""
LOOK_FOR_WRITER_S = 0.05
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
        for journal in list_journals(journal_root):
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
