"""The append path and the sync path of a journal, without the thread and the event loop around them.

`append` may be called from any thread and never waits for the disk; `sync` and `prepare` belong to one other thread.
Each record is kept in memory until an fdatasync that began after it has succeeded: a failed one means that its file
can no longer be trusted (the kernel may have dropped the pages), so everything unsynced is written again to a new file,
with the same seqs, and the old file is never synced again. After a HANDOVER nothing is admitted any more.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

from gateway.core.errors import UsageLogUnavailable
from gateway.core.handover import HandedOver
from gateway.core.records import AnyRecord, encode_record
from gateway.journal.disk import NO_SPACE, Pwrite
from gateway.journal.format import MAX_PAYLOAD_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, pack_record
from gateway.journal.kinds import ADMITTING, HANDOVER, HOLD, KINDS, PLAIN, SETTLE, SHEDDABLE
from gateway.journal.segment import Segment, Written, create_segment, segment_path, write_record
from gateway.journal.tape import Tape

CLOSING_BYTES = 4096
"""Room kept for each open call's end and SETTLE, which take about 1.3 KiB with usual usage."""
MAX_UNSYNCED_RECORDS = 100_000
"""More than this in memory without a successful sync: the disk hangs, and no new call is admitted."""
FAILURES_TO_STOP = 2

_log = logging.getLogger("faregate.journal")


class Log:
    """Records in, seqs out. `refusal` says why new calls are not admitted; empty when they are."""

    __slots__ = (
        "_closed",
        "_confirm",
        "_dirty",
        "_failures",
        "_handed_over",
        "_largest_record",
        "_lock",
        "_must_carry",
        "_no_segment",
        "_open_calls",
        "_pwrite",
        "_unsynced",
        "_wake",
        "ended_in_reserve",
        "last_seq",
        "refusal",
        "synced_seq",
        "tape",
    )

    def __init__(
        self,
        tape: Tape,
        *,
        last_seq: int,
        unsynced: Sequence[bytes],
        pwrite: Pwrite,
        wake: Callable[[], None],
        confirm: Callable[[int], None],
    ) -> None:
        """`unsynced`: records up to `last_seq` that stand in the present files, perhaps not durably. `wake` calls for a
        sync; `confirm` gets the seq up to which everything is durable, after each."""
        self.tape = tape
        self.last_seq = last_seq
        self.synced_seq = last_seq - len(unsynced)
        self.refusal = ""
        self.ended_in_reserve = False
        self._pwrite = pwrite
        self._wake = wake
        self._confirm = confirm
        self._lock = Lock()
        # Records up to last_seq, without their seqs: bytes alone are nothing for the garbage collector to look at.
        self._unsynced: deque[bytes] = deque(unsynced)
        self._open_calls: set[bytes] = set()
        self._failures = 0
        self._no_segment = ""
        self._handed_over = False
        self._dirty = False
        self._closed = False
        self._must_carry = False
        self._largest_record = min(MAX_PAYLOAD_BYTES + RECORD_HEADER_BYTES, tape.segment_bytes - SEGMENT_HEADER_BYTES)

    @property
    def durable(self) -> bool:
        """Everything appended so far has survived a sync."""
        return not self._unsynced

    # ------------------------------------------------------------ the appending thread

    def append(self, record: AnyRecord, call_id: bytes) -> int:
        """The record's seq, once it is in the kernel. `call_id` is empty for records of no call (STAT, HANDOVER)."""
        return self.append_all((record,), call_id)[0]

    def append_all(self, records: Sequence[AnyRecord], call_id: bytes) -> tuple[int, int]:
        """Records of one call in one write, where they fit: the last one's seq, and how many were taken. Raises only
        when none was. What admits counts as admitted once the first record is in."""
        with self._lock:
            seq = self.last_seq
            kinds: list[tuple[int, int]] = []
            packed: list[bytes] = []
            for record in records:
                found = kind, care = KINDS[type(record)]
                if care and self._gate(kind, care, call_id):
                    continue
                seq += 1
                kinds.append(found)
                packed.append(pack_record(kind, seq, call_id, encode_record(record)))
            taken = len(packed)
            if taken > 1 and self.tape.put_all(self._pwrite, packed):
                self.last_seq = seq
                self._unsynced.extend(packed)
            else:
                taken = self._append_singly(kinds, packed)
            for kind, _ in kinds[:taken]:
                if kind == HOLD:
                    self._open_calls.add(call_id)
                elif kind == SETTLE:
                    self._open_calls.discard(call_id)
                elif kind == HANDOVER:
                    self._handed_over = True
            if taken and not self._dirty:
                self._dirty = True
                self._wake()
            return self.last_seq, taken

    def _append_singly(self, kinds: list[tuple[int, int]], packed: list[bytes]) -> int:
        """How many were taken. Raises UsageLogUnavailable when none was."""
        for number, ((_, care), data) in enumerate(zip(kinds, packed, strict=True)):
            try:
                self._write(self.last_seq + 1, data, PLAIN if number and care == ADMITTING else care)
            except UsageLogUnavailable:
                if number:
                    return number
                raise
            self.last_seq += 1
            self._unsynced.append(data)
        return len(packed)

    def _write(self, seq: int, data: bytes, care: int) -> None:
        try:
            written = self.tape.put(self._pwrite, data)
        except OSError as error:
            self._place(seq, data, care, 0, error)
            return
        if written != len(data):
            self._place(seq, data, care, written, None)

    def _gate(self, kind: int, care: int, call_id: bytes) -> bool:
        """True when a PROGRESS is given up for the room of those that must settle. Raises for what may not come in."""
        calls = self._open_calls
        if care == SHEDDABLE:
            return self.tape.in_reserve and self.tape.room < len(calls) * CLOSING_BYTES
        if care == ADMITTING:
            if self._handed_over:
                raise HandedOver
            if self.refusal:
                raise UsageLogUnavailable(f"the usage log takes no new calls: {self.refusal}")
            if len(self._unsynced) > MAX_UNSYNCED_RECORDS:
                raise UsageLogUnavailable("the usage log takes no new calls: the disk does not confirm what it got")
            needed = (len(calls) + 1) * CLOSING_BYTES  # the present file alone has it nearly always
            if kind == HOLD and needed > self.tape.current.room and call_id not in calls and needed > self.tape.room:
                raise UsageLogUnavailable("the usage log takes no new calls: running ones need the room that is left")
        return False

    def _place(self, seq: int, data: bytes, care: int, written: int, error: OSError | None) -> None:
        """Appends where the present file did not take all of it. Raises UsageLogUnavailable when no file does."""
        tape = self.tape
        if self._closed:
            raise UsageLogUnavailable("the journal is closed")
        if len(data) > self._largest_record:
            raise ValueError(f"a record of {len(data)} bytes is longer than a journal record may be")
        try:
            if written:
                write_record(tape.disk, tape.current, data, written)
                return
        except OSError as failed:
            error = failed
        try:
            if error is not None and error.errno not in NO_SPACE:
                self._note_failure(tape.current, error)
                self._carry((seq, data), distrust=True)
            elif tape.in_reserve:
                raise error or OSError(errno.ENOSPC, "the reserved file is full")
            else:
                tape.advance(seq)
                self._wake()
                write_record(tape.disk, tape.current, data)
        except OSError as failed:
            self._place_in_reserve(seq, data, care, failed)

    def _place_in_reserve(self, seq: int, data: bytes, care: int, error: OSError) -> None:
        tape = self.tape
        self._note_no_segment(error)
        self._wake()
        if care == ADMITTING:
            raise UsageLogUnavailable(f"the usage log takes no new calls: {error}") from error
        # Where the disk fails, what is not synced yet goes along: the file it is in may lose it.
        distrust = error.errno not in NO_SPACE
        try:
            tape.enter_reserve([*self._numbered(), (seq, data)] if distrust else [(seq, data)], distrust=distrust)
        except OSError as failed:
            _log.critical("record %d of %s is lost: %s, then %s", seq, tape.directory, error, failed)
            raise UsageLogUnavailable(f"the usage log cannot take this record: {failed}") from failed
        if distrust:
            self._must_carry = False

    # ------------------------------------------------------------ the syncing thread

    def sync(self) -> bool:
        """Makes everything appended before this call durable. False when a disk failed: call again, not too soon."""
        tape = self.tape
        with self._lock:
            self._dirty = False
            if self._must_carry:
                self._leave_failed()
                if self._must_carry:
                    self._failures += 1
                    self._refresh()
                    return False
            if not self._unsynced:
                return True
            target = self.last_seq
            moves = tape.moves
            files = [*tape.retired, tape.current]
        for segment in files:
            try:
                tape.disk.fdatasync(segment.fd)
            except OSError as error:
                with self._lock:
                    self._dirty = True
                    self._note_failure(segment, error)
                    if tape.moves == moves:  # else an append has left that file already
                        self._must_carry = True
                        self._leave_failed()
                return False
        with self._lock:
            if tape.moves != moves:
                self._dirty = True  # written again elsewhere meanwhile: what was synced is not where it is now
                self._wake()
                return True
            self._take_confirmed(target, files[:-1])
        self._confirm(target)
        return True

    def prepare(self) -> None:
        """Makes what the append path may need next ahead of its use: the next segment, and a reserve if it has none.
        With a new segment the reserve is left."""
        tape = self.tape
        if tape.spare is not None and tape.reserve is not None and not tape.in_reserve and not self._no_segment:
            return  # whoever changes that calls for another look; an append must not wait for this one
        with self._lock:
            if self._closed:
                return
            # A reserve that failed is replaced only after the segments have what it made durable.
            reserve_missing = tape.reserve is None and not self._failures
            needed = tape.spare is None or tape.in_reserve or bool(self._no_segment)
            number = tape.next_number() if needed and tape.spare is None else 0
        if needed:
            self._prepare_segment(number)
        if reserve_missing:
            with contextlib.suppress(OSError):  # tried again next time; segments are what new calls need
                reserve = tape.create_reserve()
                with self._lock:
                    tape.reserve = reserve

    def _prepare_segment(self, number: int) -> None:
        tape = self.tape
        spare: Segment | None = None
        if number:
            try:
                spare = create_segment(tape.disk, segment_path(tape.directory, number), number, tape.segment_bytes)
            except OSError as error:
                with self._lock:
                    self._note_no_segment(error)
                return
        with self._lock:
            if spare is not None and not tape.take_spare(spare):
                self._wake()  # a later one was made meanwhile: look again what is needed
                return
            try:
                if tape.in_reserve:
                    self._carry(distrust=self._must_carry)
                    self._dirty = True
                    self._wake()
            except OSError as error:
                self._note_no_segment(error)
                return
            if self._no_segment:
                _log.warning("journal %s has room for new segments again", tape.directory)
                self._no_segment = ""
            self._refresh()

    def close_done(self) -> None:
        """Closes files that are not written any more and gives back what they had allocated beyond their records."""
        if not self.tape.done:
            return
        with self._lock:
            done, self.tape.done = self.tape.done, []
        for segment in done:
            with contextlib.suppress(OSError):  # space only; a dead file may refuse
                self.tape.disk.truncate(segment.fd, segment.offset)
            self.tape.disk.close(segment.fd)

    def abandon(self, reason: str) -> None:
        """Nobody syncs any more: no new call is admitted, running ones still settle."""
        with self._lock:
            self._note_no_segment(OSError(reason))

    def close(self) -> None:
        """No append after this; the caller has synced. Space that was allocated ahead is given back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._refresh()
            self.ended_in_reserve = self.tape.in_reserve
            self.tape.close()
        self.close_done()

    def _take_confirmed(self, target: int, retired: list[Segment]) -> None:
        """Everything up to `target` is durable."""
        tape = self.tape
        for _ in range(len(self._unsynced) - (self.last_seq - target)):
            self._unsynced.popleft()
        self.synced_seq = target
        for segment in retired:
            tape.retired.remove(segment)
            tape.done.append(segment)
        if self._failures:
            _log.warning("journal %s is written and synced again", tape.directory)
            self._failures = 0
            self._refresh()
        try:
            tape.clear_reserve()
        except OSError as error:
            _log.error("the reserved file of %s cannot be emptied, will be tried again: %s", tape.directory, error)

    def _leave_failed(self) -> None:
        """Leaves files whose sync failed for a new segment, else the reserve; tried again when neither takes it."""
        try:
            self._carry(distrust=True)
        except OSError as error:
            self._note_no_segment(error)
            if not self.tape.in_reserve:
                with contextlib.suppress(OSError):
                    self.tape.enter_reserve(self._numbered(), distrust=True)
                    self._must_carry = False

    def _carry(self, *more: Written, distrust: bool) -> None:
        """Goes on in new segments with everything that is not safe. Raises OSError, with nothing changed.

        What the reserve had made durable goes along, and counts as unsynced again until the new files are synced.
        """
        records = self._not_safe(*more)
        self.tape.carry(records, distrust=distrust)
        self._must_carry = False
        self._unsynced.clear()
        self._unsynced.extend(data for seq, data in records if seq <= self.last_seq)
        self._confirm(self.last_seq - len(self._unsynced))

    def _not_safe(self, *more: Written) -> list[Written]:
        """What must be in a new file before the present ones can be left. Raises OSError."""
        records = dict(self.tape.reserved_records()) if self.tape.in_reserve else {}
        records.update([*self._numbered(), *more])
        if not records or max(records) - min(records) != len(records) - 1:
            raise OSError(errno.EIO, "the reserved file cannot be read back")
        return sorted(records.items())

    def _numbered(self) -> list[Written]:
        return list(enumerate(self._unsynced, self.last_seq - len(self._unsynced) + 1))

    # ------------------------------------------------------------ trouble

    def _note_failure(self, segment: Segment, error: OSError) -> None:
        self._failures += 1
        _log.error("writing %s failed, going on in another file: %s", segment.path, error)
        self._refresh()

    def _note_no_segment(self, error: OSError) -> None:
        if not self._no_segment:
            _log.error("journal %s gets no new segment, new calls are refused: %s", self.tape.directory, error)
        self._no_segment = str(error)
        self._refresh()

    def _refresh(self) -> None:
        if self._closed:
            self.refusal = "it is closed"
        elif self._no_segment:
            self.refusal = f"there is no room for another segment ({self._no_segment})"
        else:
            self.refusal = "its disk fails" if self._failures >= FAILURES_TO_STOP else ""
