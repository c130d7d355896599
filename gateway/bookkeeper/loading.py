"""Journals into SQL. The journals themselves are the backlog: what SQL has not taken yet stays where it is.

A batch is about `BATCH_RECORDS` or what came within `BATCH_S`. While SQL is away the same batch is tried again, with
growing pauses, and nothing more is read: memory is bounded by one batch and one read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from gateway.bookkeeper.correcting import CorrectionJournals
from gateway.core.errors import JournalUnreadable, StoreUnavailable
from gateway.core.ports import Clock, Entropy
from gateway.core.records import Entry
from gateway.journal.folder import list_journals
from gateway.journal.reader import JournalTail, Position

BATCH_RECORDS = 4_000
"""Where a batch stops growing: a transaction's own cost is then small beside its rows'."""
READ_RECORDS = 1_000
"""About how many are read and decoded before others get their turn in the event loop."""
BATCH_S = 0.2
IDLE_S = 0.02
LIST_S = 0.25
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
"""One attempt every few seconds costs a server that is coming up nothing; people are waiting for its figures."""

_LISTING = b""
"""The key of a fault that is of no journal in particular."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Cursor(Protocol):
    """How far a journal is in SQL."""

    @property
    def seq(self) -> int: ...

    @property
    def segment(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def newest_ms(self) -> int: ...


class Loaded(Protocol):
    """What a batch did."""

    @property
    def stored(self) -> int: ...

    @property
    def calls(self) -> int: ...

    @property
    def dead_letters(self) -> int: ...

    @property
    def rewound(self) -> bool:
        """Nothing was stored: SQL's cursors are older than they were, and are to be read again."""
        ...


class LedgerStore(Protocol):
    """What the loader asks of SQL: `store.ledger_writer.LedgerWriter`. Both raise StoreUnavailable."""

    async def cursors(self) -> Mapping[bytes, Cursor]: ...

    async def load(self, batch: Sequence[Entry], tags: Collection[str]) -> Loaded: ...

    async def reached(self, journal_ids: Sequence[bytes]) -> Mapping[bytes, int]: ...

    async def corrected(self, attempt_ids: Sequence[bytes]) -> Mapping[tuple[bytes, str], tuple[int, bytes]]: ...


class Loader:
    """Run it as a task. Its figures may be read at any time. `tags` are those that SQL is to keep sums of, as the
    configuration says at the moment."""

    def __init__(
        self,
        journal_root: Path,
        store: LedgerStore,
        clock: Clock,
        entropy: Entropy,
        tags: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._root = journal_root
        self._store = store
        self._tags = tags
        self._clock = clock
        self._entropy = entropy
        self._tails: dict[bytes, JournalTail] = {}
        self._paths: dict[bytes, Path] = {}
        self._corrections = CorrectionJournals()
        self._done: set[bytes] = set()
        self._listed_ns = 0
        self._known = False
        self.positions: dict[bytes, Position] = {}
        """How far each journal is in SQL, for retention and the figures."""
        self.records = 0
        self.calls = 0
        self.dead_letters = 0
        self.errors = 0
        self.fault = ""
        """What SQL said last; empty while it answers."""
        self.journal_faults: dict[bytes, str] = {}
        self.damaged = 0
        self.newest_ms = 0

    async def run(self) -> None:
        """Loads until it is cancelled; a cancelled batch is loaded again by the next loader."""
        try:
            while True:
                if not await self.step():
                    await asyncio.sleep(IDLE_S)
        finally:
            self.close()

    async def step(self) -> int:
        """What there is, up to about a batch: how many records. Waits for SQL if that is away."""
        if not self._known:
            await self._resume()
        batch = await self._gather()
        if batch:
            await self._load(batch)
        return len(batch)

    async def drain(self, limit_s: float) -> bool:
        """Loads what is there, for at most `limit_s`; True when nothing is left."""
        try:
            async with asyncio.timeout(limit_s):
                while await self.step():
                    continue
        except TimeoutError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Forgets what was read and not yet written: whoever goes on reads from SQL's cursors."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()
        self._done.clear()
        self._listed_ns = 0
        self._known = False

    # ------------------------------------------------------------ reading

    async def _resume(self) -> None:
        cursors = await self._persist(self._store.cursors)
        self.positions = {
            journal_id: Position(cursor.segment, cursor.offset, max(cursor.seq, 0))
            for journal_id, cursor in cursors.items()
        }
        self.newest_ms = max((cursor.newest_ms for cursor in cursors.values()), default=0)
        self._known = True

    async def _gather(self) -> list[Entry]:
        batch: list[Entry] = []
        deadline_ns = 0
        while len(batch) < BATCH_RECORDS:
            found = self._poll()
            batch += found
            now_ns = self._clock.monotonic_ns()
            if not batch or (deadline_ns and now_ns >= deadline_ns):
                break
            deadline_ns = deadline_ns or now_ns + int(BATCH_S * 1e9)
            await asyncio.sleep(0 if found else IDLE_S)
        return batch

    def _poll(self) -> list[Entry]:
        now_ns = self._clock.monotonic_ns()
        if not self._listed_ns or now_ns - self._listed_ns > LIST_S * 1e9:
            self._listed_ns = now_ns
            self._follow_new()
        found: list[Entry] = []
        for journal_id, tail in self._in_turn():
            if len(found) >= READ_RECORDS:
                break
            # To the end of the queue: one journal's backlog must not keep the others waiting.
            self._tails[journal_id] = self._tails.pop(journal_id)
            try:
                found += tail.poll()
                self.journal_faults.pop(journal_id, None)
            except FileNotFoundError:
                self._leave(journal_id)
                continue
            except JournalUnreadable as error:
                if self.journal_faults.get(journal_id) != error.message:
                    _log.error("nothing more of this journal goes into SQL: %s", error.message)
                self.journal_faults[journal_id] = error.message
            for damage in tail.drain_damage():
                self.damaged += damage.last_seq - damage.first_seq + 1
                _log.error("records %d to %d of %s are lost", damage.first_seq, damage.last_seq, journal_id.hex())
            if tail.finished:
                self._leave(journal_id)
        return found

    def _in_turn(self) -> list[tuple[bytes, JournalTail]]:
        """Corrections come last, and only when there is room: what they correct is in another journal, and is then in
        SQL, or in this batch, before them."""
        tails = list(self._tails.items())
        return sorted(tails, key=lambda one: self._corrections.has(one[0], self._paths[one[0]]))

    def _follow_new(self) -> None:
        try:
            journals = list_journals(self._root)
            self.journal_faults.pop(_LISTING, None)
        except JournalUnreadable as error:  # the folder logs it too
            self.journal_faults[_LISTING] = error.message
            return
        for journal in journals:
            if journal.journal_id not in self._tails and journal.journal_id not in self._done:
                position = self.positions.get(journal.journal_id, Position())
                self._tails[journal.journal_id] = JournalTail(journal.path, position, limit=READ_RECORDS)
                self._paths[journal.journal_id] = journal.path

    def _leave(self, journal_id: bytes) -> None:
        self._tails.pop(journal_id).close()
        self._done.add(journal_id)

    # ------------------------------------------------------------ writing

    async def _load(self, batch: list[Entry]) -> None:
        loaded = await self._persist(lambda: self._store.load(batch, self._tags()))
        if loaded.rewound:
            _log.warning("the ledger in SQL is older than what was written to it: loading again from its cursors")
            self.close()
            return
        for entry in batch:
            self.positions[entry.journal_id] = Position(entry.segment, entry.end, entry.seq)
        self.records += loaded.stored
        self.calls += loaded.calls
        self.dead_letters += loaded.dead_letters
        self.newest_ms = max(self.newest_ms, batch[-1].record.ts_ms)
        if loaded.dead_letters:
            _log.error("%d records could not go into the ledger as they are: see dead_letter", loaded.dead_letters)

    async def _persist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Tries until SQL answers: full jitter, so that several bookkeepers do not come back in step."""
        longest_s = FIRST_RETRY_S
        while True:
            try:
                result = await act()
            except StoreUnavailable as error:
                self.errors += 1
                if not self.fault:
                    _log.warning("usage stays in the journals: %s", error.message)
                self.fault = error.message
                chance = int.from_bytes(self._entropy.bytes(2), "big") / 65_536
                await asyncio.sleep(FIRST_RETRY_S + chance * (longest_s - FIRST_RETRY_S))
                longest_s = min(longest_s * 2, LAST_RETRY_S)
            else:
                if self.fault:
                    _log.info("SQL answers again")
                self.fault = ""
                return result
