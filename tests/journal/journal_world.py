"""What journal tests are made of: records of every type, a clock, and disks that fail as real ones do."""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path
from threading import Lock

from gateway.core.charge import Line, PinnedRate
from gateway.core.limits import Take, Unit
from gateway.core.records import (
    AnyRecord,
    AttemptEnd,
    Correct,
    Dispatch,
    Entry,
    Features,
    Handover,
    Hold,
    Progress,
    Settle,
    Shrink,
    Stat,
    Void,
    encode_record,
)
from gateway.journal.disk import Disk
from gateway.journal.format import SegmentHeader, pack_record, pack_segment_header
from gateway.journal.reader import JournalTail, read_journal
from gateway.journal.segment import RESERVE_NAME, segment_path
from gateway.journal.writer import REAL_DISK, JournalWriter

JOURNAL_ID = bytes(range(16))
SEGMENT_BYTES = 8192
RESERVE_BYTES = 8192
OPTIONS = {"segment_bytes": SEGMENT_BYTES, "reserve_bytes": RESERVE_BYTES, "sync_ms": 1}


class FakeClock:
    def __init__(self, now_ms: int = 1_763_942_400_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ns(self) -> int:
        return self.ms * 1_000_000


class FaultyDisk(Disk):
    """Real files. Errors come from the scripts below; space is counted; a failed fdatasync loses what it should save.

    `fdatasync_errors` and `pwrite_errors` are used up one per call, 0 is success. A `pwrite_errors` entry may be
    (errno, bytes written before). With `forgets=False` a failed fdatasync loses nothing yet. `space_bytes` is what
    fallocate may still take; None is endless.
    """

    __slots__ = (
        "fdatasync_errors",
        "forgets",
        "fsync_errors",
        "healed",
        "lock",
        "pwrite_errors",
        "space_bytes",
        "syncs",
        "unsynced",
    )

    def __init__(self, space_bytes: int | None = None, *, forgets: bool = True) -> None:
        self.forgets = forgets
        self.healed = False
        self.lock = Lock()
        self.fdatasync_errors: deque[int] = deque()
        self.fsync_errors: deque[int] = deque()
        self.pwrite_errors: deque[int | tuple[int, int]] = deque()
        self.space_bytes = space_bytes
        self.syncs = 0
        self.unsynced: dict[int, list[tuple[int, int]]] = {}

    def heal(self) -> None:
        """From here on it does not fail, whatever another thread is in the middle of."""
        self.healed = True
        self.fdatasync_errors.clear()
        self.fsync_errors.clear()
        self.pwrite_errors.clear()
        with self.lock:
            self.space_bytes = None

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        fault = _next(self.pwrite_errors)
        code, before = fault if isinstance(fault, tuple) else (fault, 0)
        if before:
            data = data[:before]
        elif code:
            raise OSError(code, os.strerror(code))
        written = os.pwrite(fd, data, offset)
        self.unsynced.setdefault(fd, []).append((offset, written))
        if before and code and not self.healed:
            self.pwrite_errors.appendleft(code)
        return written

    def fdatasync(self, fd: int) -> None:
        self.syncs += 1
        code = _next(self.fdatasync_errors)
        dirty = self.unsynced.pop(fd, [])
        if code:
            for offset, count in (
                dirty if self.forgets else ()
            ):  # the kernel has marked the pages clean and dropped them
                os.pwrite(fd, bytes(count), offset)
            raise OSError(code, os.strerror(code))
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        code = _next(self.fsync_errors)
        if code:
            raise OSError(code, os.strerror(code))
        self.unsynced.pop(fd, None)
        os.fsync(fd)

    def close(self, fd: int) -> None:
        self.unsynced.pop(fd, None)
        os.close(fd)

    def fallocate(self, fd: int, size: int) -> None:
        self._take_space(size)
        os.posix_fallocate(fd, 0, size)

    def truncate(self, fd: int, size: int) -> None:
        self._take_space(min(size - os.fstat(fd).st_size, 0))
        os.ftruncate(fd, size)

    def unlink(self, path: Path) -> None:
        self._take_space(-path.stat().st_size)
        os.unlink(path)

    def _take_space(self, size: int) -> None:
        with self.lock:
            if self.space_bytes is not None:
                if size > self.space_bytes:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.space_bytes -= size


def _next(script: deque):
    try:
        return script.popleft()  # never asked first: the test may clear it meanwhile, from another thread
    except IndexError:
        return 0


def call_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def void(number: int, detail: str = "") -> Void:
    """The record most tests write: its number can be read back."""
    return Void(number, number.to_bytes(16, "big"), "test", detail)


def hold(number: int = 1) -> Hold:
    return Hold(
        ts_ms=10 + number,
        attempt_id=number.to_bytes(16, "big"),
        attempt_no=1,
        org="acme",
        team="research",
        key_id="k1a2b3c4d5e6",
        user="ünïcode",
        session="s-1",
        tags=(("feature", "search"),),
        endpoint="chat.completions",
        model_asked="fast",
        deployment="openai/gpt-5-mini",
        provider="openai",
        model="gpt-5-mini",
        config_revision=12,
        started_ms=9,
        takes=(Take("usd@team/2026-11", "l1", Unit.USD, 5_000, 99),),
        counts=(Take("requests@key/2026-11-24", "l2", Unit.REQUESTS, 1, 77),),
        bound_nusd=5_000,
        input_estimate=40,
        rates=(PinnedRate("row-in", "input", 250_000, 1), PinnedRate("row-out", "output", 2_000_000, 1)),
        stream=True,
    )


def settle(number: int = 1) -> Settle:
    return Settle(
        ts_ms=20 + number,
        attempt_id=number.to_bytes(16, "big"),
        started_ms=9,
        org="acme",
        team="research",
        key_id="k1a2b3c4d5e6",
        user="ünïcode",
        session="s-1",
        tags=(("feature", "search"),),
        config_revision=12,
        verdicts=("allow",),
        features=Features(300, 2, 1, 0, 40, 512, 1),
        endpoint="chat.completions",
        stream=True,
        model_asked="fast",
        model_planned="gpt-5-mini",
        model_served="gpt-5-mini-2026-08-07",
        deployment="openai/gpt-5-mini",
        provider="openai",
        attempts=1,
        causes=(),
        outcome="ok",
        status=200,
        error_code="",
        finish_reason="stop",
        refusal=False,
        ttft_us=120_000,
        duration_us=900_000,
        overhead_us=250,
        cost_state="priced",
        list_nusd=170,
        effective_nusd=170,
        input_tokens=40,
        output_tokens=8,
        row_ids=("row-in", "row-out"),
        raw_usage=b'{"prompt_tokens":40,"completion_tokens":8}',
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
    )


def attempt_end(number: int = 1) -> AttemptEnd:
    return AttemptEnd(
        ts_ms=19 + number,
        attempt_id=number.to_bytes(16, "big"),
        outcome="ok",
        cause="",
        status=200,
        posted=(Take("usd@team/2026-11", "l1", Unit.USD, 170, 99),),
        lines=(
            Line("input", 40, 250_000, 1, 10, 10, "row-in"),
            Line("output", 8, 2_000_000, 1, 160, 160, "row-out"),
        ),
        state="priced",
        source="provider",
        list_nusd=170,
        effective_nusd=170,
        raw_usage=b'{"prompt_tokens":40,"completion_tokens":8}',
        served_tier="standard",
        model_served="gpt-5-mini-2026-08-07",
        finish_reason="stop",
        upstream_id="chatcmpl-1",
        ttft_us=120_000,
        duration_us=800_000,
        input_tokens=40,
        output_tokens=8,
    )


def one_of_each() -> list[AnyRecord]:
    """A record of every type, in an order that makes sense."""
    attempt = (1).to_bytes(16, "big")
    return [
        hold(),
        Dispatch(12, attempt),
        Shrink(13, attempt, (Take("usd@team/2026-11", "l1", Unit.USD, 1_000, 99),), 4_000),
        Progress(14, attempt, 40, 4),
        attempt_end(),
        Void(21, (2).to_bytes(16, "big"), "connect", "refused"),
        settle(),
        Correct(30, attempt, 1, (Take("usd@team/2026-11", "l1", Unit.USD, -20, 99),), "re-rated"),
        Stat(31, {"invalid_api_key": 3}),
        Handover(32, b"n" * 16),
    ]


def pack(seq: int, detail: str = "") -> bytes:
    return pack_record(6, seq, call_id(1), encode_record(void(seq, detail)))


def write_segment(folder: Path, number: int, content: bytes, *, first_seq: int = 1, size: int = 0) -> bytes:
    """A segment file with these bytes after its header, zeros up to `size`."""
    data = pack_segment_header(SegmentHeader(JOURNAL_ID, number, first_seq, 1)) + content
    data += bytes(max(size - len(data), 0))
    (segment_path(folder, number) if number else folder / RESERVE_NAME).write_bytes(data)
    return data


def create(root: Path, *, disk: Disk = REAL_DISK, **options: int) -> JournalWriter:
    return JournalWriter.create(root, JOURNAL_ID, clock=FakeClock(), disk=disk, **(OPTIONS | options))


def read_all(directory: Path) -> list[Entry]:
    """Every entry; missing ones raise, and seqs must be whole from 1."""
    entries = list(read_journal(directory))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return entries


def numbers(directory: Path) -> list[int]:
    """The numbers of the `void` records in a journal."""
    return [entry.record.ts_ms for entry in read_all(directory)]


def drain(tail: JournalTail) -> list[Entry]:
    entries: list[Entry] = []
    while new := tail.poll():
        entries += new
    return entries
