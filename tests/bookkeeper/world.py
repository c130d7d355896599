"""A data folder with real journals, and calls written into them as a worker would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from store.ledger_entries import end, hold, line, settle

from gateway.bookkeeper.folding import JournalSizes
from gateway.core.ids import make_id
from gateway.core.limits import Take, Unit
from gateway.core.records import Dispatch
from gateway.journal.writer import JournalWriter
from gateway.settings import Settings
from gateway.system import SystemClock, SystemEntropy

CLOCK = SystemClock()
ENTROPY = SystemEntropy()
SIZES = JournalSizes(segment_bytes=256 * 1024, reserve_bytes=64 * 1024, sync_ms=1)
COUNTER = "key_1|total"


def settings_of(folder: Path, **changes: object) -> Settings:
    settings = Settings(
        data_dir=folder / "data",
        segment_bytes=SIZES.segment_bytes,
        journal_reserve_bytes=SIZES.reserve_bytes,
        journal_sync_ms=SIZES.sync_ms,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def usd(amount: int) -> tuple[Take, ...]:
    return (Take(COUNTER, "limit_1", Unit.USD, amount),)


class Worker:
    """A journal being written. `stop` is a clean end, `die` leaves it as kill -9 does: unsealed, its lock free."""

    def __init__(self, settings: Settings) -> None:
        self.journal = JournalWriter.create(
            settings.journal_dir,
            make_id(CLOCK.now_ms(), ENTROPY.bytes(10)),
            clock=CLOCK,
            segment_bytes=settings.segment_bytes,
            reserve_bytes=settings.journal_reserve_bytes,
            sync_ms=settings.journal_sync_ms,
        )
        self._numbers = count(1)

    @property
    def name(self) -> str:
        return self.journal.directory.name

    def begin(self, *, dispatched: bool = True, held: int = 100) -> tuple[bytes, bytes]:
        """A call with an open attempt: (call id, attempt id)."""
        now_ms = CLOCK.now_ms()
        call_id, attempt_id = (make_id(now_ms, ENTROPY.bytes(10)) for _ in range(2))
        record = hold(attempt_id, ts_ms=now_ms, started_ms=now_ms, takes=usd(held), bound_nusd=held)
        self.journal.append(record, call_id)
        if dispatched:
            self.journal.append(Dispatch(now_ms, attempt_id), call_id)
        return call_id, attempt_id

    def finish(self, call_id: bytes, attempt_id: bytes, tokens: int = 10) -> None:
        now_ms = CLOCK.now_ms()
        lines = (line("input", tokens), line("output", tokens * 2))
        self.journal.append(end(attempt_id, lines, ts_ms=now_ms, posted=usd(tokens * 3)), call_id)
        record = settle(
            attempt_id,
            ts_ms=now_ms,
            started_ms=now_ms,
            effective_nusd=tokens * 3,
            list_nusd=tokens * 3,
            input_tokens=tokens,
            output_tokens=tokens * 2,
        )
        self.journal.append(record, call_id)

    def call(self, tokens: int = 10) -> bytes:
        """A whole call of 3 × tokens nano-USD, four records."""
        call_id, attempt_id = self.begin()
        self.finish(call_id, attempt_id, tokens)
        return call_id

    def calls(self, number: int) -> None:
        for _ in range(number):
            self.call()

    def die(self) -> None:
        self.journal.close()

    stop = die


HANG_S = 60.0
"""When a test gives up: never a measure of speed."""


@contextmanager
def worker(settings: Settings) -> Iterator[Worker]:
    started = Worker(settings)
    try:
        yield started
    finally:
        started.die()


async def until(happened: Callable[[], object], seconds: float = HANG_S) -> float:
    """Waits for something seen from outside only; how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return time.monotonic() - started
