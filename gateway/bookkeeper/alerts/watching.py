"""What alerts want to know of the records that are folded: collected as they come, judged afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.alerts.spending import MINUTE_MS, Image, Spending, Subject, subjects_of
from gateway.bookkeeper.durable import DiskThread, remove_unfinished, write_whole
from gateway.core.charge import CostState
from gateway.core.records import AttemptEnd, Correct, Entry, Hold, Settle, Void
from gateway.ledger.fold import Books

MOST_PENDING = 100_000
MOST_REFUSED = 1_000
MOST_JOURNALS = 1_000
EXCEEDED = "budget_exceeded"

_Spender = tuple[int, str, str, str, str, str]
"""Minute, org, team, key, user, session."""

_log = logging.getLogger(__name__)


class Refused(msgspec.Struct, frozen=True):
    """A kind of call that was refused because money was spent."""

    key_id: str
    user: str
    session: str
    tags: tuple[tuple[str, str], ...]
    model: str
    deployment: str


class Watch:
    """Counters that moved, spending of keys, users and sessions, models without a price, refusals.

    Spending is remembered over restarts in a file of its own, with how far each journal is in it: what is folded twice
    is counted once. A kill -9 loses what was spent since the file was written last, at most 10 s of an hour.
    """

    def __init__(self, path: Path, now_ms: int) -> None:
        self._path = path
        self._who: dict[bytes, Hold] = {}
        remove_unfinished(path)
        image = self._read()
        self.spending = Spending(now_ms) if image is None else Spending.of(image)
        self._positions: dict[bytes, int] = {} if image is None else dict(image.positions)
        self._unsaved = False
        self._disk = DiskThread("alert spending")
        self.moved: set[str] = set()
        self.paced: set[Subject] = set(self.spending.subjects())
        self.unpriced: set[tuple[str, str, str]] = set()
        self.refused: dict[Refused, int] = {}
        """When each kind of call was refused last, in ms UTC: the window may have turned since."""

    def begin(self, books: Books) -> None:
        """The fold begins anew from these books."""
        self._who = {attempt_id: held.hold for attempt_id, held in books.holds.items()}

    def see(self, entries: Sequence[Entry]) -> set[str]:
        """Takes in a batch of one journal; the counters that it moved."""
        touched: set[str] = set()
        spent: dict[_Spender, int] = {}
        journal_id = entries[0].journal_id
        known = self._positions.get(journal_id, 0)
        for entry in entries:
            record = entry.record
            if isinstance(record, AttemptEnd):
                for take in record.posted:
                    touched.add(take.counter)
                hold = self._who.pop(record.attempt_id, None)
                if hold is not None and entry.seq > known:
                    self._end(hold, record, spent)
            elif isinstance(record, Hold):
                self._who[record.attempt_id] = record
                for take in record.counts:
                    touched.add(take.counter)
            elif isinstance(record, Settle):
                for take in record.counts:
                    touched.add(take.counter)
                if record.error_code == EXCEEDED and len(self.refused) < MOST_REFUSED:
                    self.refused[_refused(record)] = record.ts_ms
            elif isinstance(record, Void):
                self._who.pop(record.attempt_id, None)
            elif isinstance(record, Correct):
                touched.update(take.counter for take in record.takes)
        for (minute, *who), nusd in spent.items():
            for subject in subjects_of(*who):
                self.spending.add(subject, minute * MINUTE_MS, nusd)
                self.paced.add(subject)
        if len(self.paced) > MOST_PENDING:  # as after a start that had much to fold: of all, those that are followed
            self.paced.intersection_update(self.spending.subjects())
        self._positions[journal_id] = max(known, entries[-1].seq)
        self._unsaved = True
        if len(self.moved) < MOST_PENDING:
            self.moved |= touched
        return touched

    async def save(self) -> None:
        """Writes the file if anything has changed. An error of the disk is logged and tried again next time."""
        content = self._content()
        if content:
            self._saved(await self._disk.run(self._write, content))

    def save_now(self) -> None:
        """`save` without waiting for anything, and the last one."""
        self._disk.close()
        content = self._content()
        if content:
            self._saved(self._write(content))

    # ------------------------------------------------------------ within

    def _end(self, hold: Hold, end: AttemptEnd, spent: dict[_Spender, int]) -> None:
        """Adds up who spent what in which minute: most calls of a batch are by few."""
        nusd = end.effective_nusd
        if nusd is None:
            if end.state == CostState.UNPRICED:
                self.unpriced.add((hold.org, hold.deployment, hold.model))
        elif nusd > 0:
            who = (end.ts_ms // MINUTE_MS, hold.org, hold.team, hold.key_id, hold.user, hold.session)
            spent[who] = spent.get(who, 0) + nusd

    def _content(self) -> bytes:
        """What the file should hold; empty when it does."""
        if not self._unsaved:
            return b""
        self._unsaved = False
        while len(self._positions) > MOST_JOURNALS:
            del self._positions[next(iter(self._positions))]
        return msgspec.msgpack.encode(self.spending.image(self._positions))

    def _write(self, content: bytes) -> str:
        try:
            write_whole(self._path, content)
        except OSError as error:
            return str(error)
        return ""

    def _saved(self, fault: str) -> None:
        if fault:
            self._unsaved = True
            _log.error("%s cannot be written: %s", self._path, fault)

    def _read(self) -> Image | None:
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=Image)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # MsgspecError is one, and so is a byte that is no UTF-8
            _log.error("%s cannot be read, what is usual is learnt anew: %s", self._path, error)
            return None


def _refused(record: Settle) -> Refused:
    return Refused(record.key_id, record.user, record.session, record.tags, record.model_asked, record.deployment)
