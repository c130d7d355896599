"""Corrections into a journal of the bookkeeper's own, each once.

SQL is the register of corrections: an attempt's next revision is one more than SQL knows. So nothing is appended before
every correction so far is in SQL, and only the bookkeeper appends, one request after the other. A request that is
repeated (its answer was lost, the bookkeeper was killed in the middle) finds in SQL what it has done already.

The journal begins with HANDOVER, for nobody is admitted by it; that is also how it is told from a worker's. It is
closed when it has been idle, and then sealed like that of any process that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gateway.bookkeeper.folding import Folder, JournalSizes
from gateway.core.corrections import Appended
from gateway.core.errors import Conflict, FaregateError, UsageLogUnavailable
from gateway.core.ids import make_id
from gateway.core.ports import Clock, Entropy
from gateway.core.records import Correct, Handover
from gateway.journal.folder import list_journals
from gateway.journal.reader import JournalTail
from gateway.journal.writer import JournalWriter

LOADED_WAIT_S = 8.0
"""How long SQL may take for what is in the journals already. Whoever asks then asks again later."""
LOOK_S = 0.05
IDLE_S = 5.0
MOST_AT_ONCE = 5_000
NO_CALL = bytes(16)


class Register(Protocol):
    """What SQL knows: `store.ledger_writer.LedgerWriter`. Raises StoreUnavailable."""

    async def reached(self, journal_ids: Sequence[bytes]) -> Mapping[bytes, int]:
        """The last seq of each journal that is in SQL."""
        ...

    async def corrected(self, attempt_ids: Sequence[bytes]) -> Mapping[tuple[bytes, str], tuple[int, bytes]]:
        """The last revision and the run it was part of, by attempt and kind, of those that were corrected."""
        ...


class CorrectionJournals:
    """Which journals hold corrections: those that begin with HANDOVER. Remembers what it has seen."""

    def __init__(self) -> None:
        self._known: dict[bytes, bool] = {}

    def has(self, journal_id: bytes, path: Path) -> bool:
        """False too as long as nothing is in it."""
        known = self._known.get(journal_id)
        if known is None:
            first = first_record(path)
            if first is None:
                return False
            known = self._known[journal_id] = first
        return known


def first_record(path: Path) -> bool | None:
    """Whether a journal's first record is HANDOVER; None when it has none yet, or is gone."""
    tail = JournalTail(path, limit=1)
    try:
        entries = tail.poll()
    except (FaregateError, OSError):
        return None
    finally:
        tail.close()
    return isinstance(entries[0].record, Handover) and entries[0].seq == 1 if entries else None


class Corrector:
    """core.corrections.Correcting where the journals are. Run it as a task; `close` lets go of the journal."""

    def __init__(
        self,
        journal_root: Path,
        register: Register,
        folder: Callable[[], Folder],
        sizes: JournalSizes,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._root = journal_root
        self._register = register
        self._folder = folder
        self._sizes = sizes
        self._clock = clock
        self._entropy = entropy
        self._turn = asyncio.Lock()
        self._journals = CorrectionJournals()
        self._writer: JournalWriter | None = None
        self._used_ns = 0
        self.appended = 0

    async def run(self) -> None:
        """Closes a journal that has been idle, until it is cancelled."""
        while True:
            await asyncio.sleep(IDLE_S / 5)
            async with self._turn:
                if self._clock.monotonic_ns() - self._used_ns > IDLE_S * 1e9:
                    self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    async def append(self, corrections: Sequence[tuple[bytes, Correct]]) -> Appended:
        """See the port. Raises Conflict while earlier corrections are not in SQL, UsageLogUnavailable,
        StoreUnavailable."""
        if len(corrections) > MOST_AT_ONCE:
            raise Conflict(f"At most {MOST_AT_ONCE} corrections can be made at once.")
        async with self._turn:
            await self._all_in_sql()
            ids = sorted({correct.attempt_id for _, correct in corrections})
            known = dict(await self._register.corrected(ids))
            return await self._append(corrections, known)

    async def all_loaded(self, before_ms: int) -> str:
        """See the port."""
        async with self._turn:
            folder = self._folder()
            folder.catch_up()
            if folder.faults:
                return f"A journal cannot be read: {next(iter(folder.faults.values()))}"
            running = sum(1 for call in folder.books.calls.values() if call.hold.started_ms < before_ms)
            if running:
                which = "call of that time is" if running == 1 else "calls of that time are"
                return f"{running} {which} still running."
            there = {journal.journal_id for journal in list_journals(self._root)}
            wanted = {one: position.seq for one, position in folder.positions().items() if one in there}
            missing = await self._wait_for(wanted)
            return f"{missing} journals are not in SQL up to now: look at `faregate ledger verify`." if missing else ""

    # ------------------------------------------------------------ what is there

    async def _all_in_sql(self) -> None:
        """Returns when every correction that was ever appended on this host is in SQL."""
        wanted: dict[bytes, int] = {}
        for journal in list_journals(self._root):
            if self._writer is not None and journal.journal_id == self._writer.journal_id:
                wanted[journal.journal_id] = self._writer.last_seq
            elif self._journals.has(journal.journal_id, journal.path):
                if journal.sealed_seq is None:
                    raise Conflict("A former bookkeeper's corrections are being taken over. Try again in a second.")
                wanted[journal.journal_id] = journal.sealed_seq
        if await self._wait_for(wanted):
            raise Conflict("Earlier corrections are not in SQL yet. Try again when it has caught up.")

    async def _wait_for(self, wanted: dict[bytes, int]) -> int:
        """How many journals SQL does not have up to the wanted seq, when it had its time."""
        end_ns = self._clock.monotonic_ns() + int(LOADED_WAIT_S * 1e9)
        while True:
            reached = await self._register.reached(sorted(wanted)) if wanted else {}
            missing = sum(reached.get(journal_id, 0) < seq for journal_id, seq in wanted.items())
            if not missing or self._clock.monotonic_ns() > end_ns:
                return missing
            await asyncio.sleep(LOOK_S)

    # ------------------------------------------------------------ the journal

    async def _append(
        self, corrections: Sequence[tuple[bytes, Correct]], known: dict[tuple[bytes, str], tuple[int, bytes]]
    ) -> Appended:
        appended = again = 0
        stale: list[bytes] = []
        for call_id, correct in corrections:
            identity = (correct.attempt_id, correct.kind)
            revision, run = known.get(identity, (0, b""))
            if correct.revision == revision and correct.correction_id == run:
                again += 1
            elif correct.revision != revision + 1:
                stale.append(correct.attempt_id)
            else:
                self._journal().append(correct, call_id)
                known[identity] = (correct.revision, correct.correction_id)
                appended += 1
        if self._writer is not None and appended:
            self.appended += appended
            self._used_ns = self._clock.monotonic_ns()
            await self._writer.synced(self._writer.last_seq)
        return Appended(appended + again, again, tuple(stale))

    def _journal(self) -> JournalWriter:
        if self._writer is not None and not self._writer.ready:
            refusal = self._writer.refusal
            self.close()
            raise UsageLogUnavailable(f"Corrections cannot be written: {refusal}")
        if self._writer is None:
            writer = JournalWriter.create(
                self._root,
                make_id(self._clock.now_ms(), self._entropy.bytes(10)),
                clock=self._clock,
                segment_bytes=self._sizes.segment_bytes,
                reserve_bytes=self._sizes.reserve_bytes,
                sync_ms=self._sizes.sync_ms,
            )
            try:
                writer.append(Handover(self._clock.now_ms(), b""), NO_CALL)
            except BaseException:
                writer.close()
                raise
            self._writer = writer
            self._used_ns = self._clock.monotonic_ns()
        return self._writer
