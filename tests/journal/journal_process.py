"""A writer in a process of its own, to be killed, limited or traced: `journal_process.py ROOT MODE`.

`acknowledge` appends numbered records and prints each number once it has been appended. `calls` does whole calls,
four at a time. `power` prints a number only when it is durable. `full` and `limited` fill the disk under running
calls, give the space back, and print what happened as JSON.
"""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from journal_world import attempt_end, call_id, create, drain, hold, read_all, settle, void

from gateway.core.errors import UsageLogUnavailable
from gateway.core.records import Dispatch, Void
from gateway.journal.reader import JournalTail
from gateway.journal.segment import segment_numbers


def acknowledge(root: Path) -> None:
    writer = create(root, segment_bytes=65536, reserve_bytes=65536)
    for number in count(1):
        writer.append(void(number, "x" * (number % 200)), call_id(number))
        print(number, flush=True)


def calls(root: Path) -> None:
    writer = create(root, segment_bytes=65536, reserve_bytes=65536)
    for first in count(1, 4):
        running = range(first, first + 4)
        for number in running:
            writer.append(hold(number), call_id(number))
        for number in running:
            writer.append(Dispatch(number, number.to_bytes(16, "big")), call_id(number))
        for number in running:
            writer.append(attempt_end(number), call_id(number))
            writer.append(settle(number), call_id(number))


async def power(root: Path, records: int) -> None:
    writer = create(root, segment_bytes=65536, reserve_bytes=65536)
    for number in range(1, records + 1):
        await writer.synced(writer.append(void(number), call_id(1)))
        print(number, writer.ready, flush=True)
    writer.close()


class Ballast:
    """Fills the (small) filesystem with a file."""

    def __init__(self, root: Path) -> None:
        self.path = root / "ballast"

    def fill(self) -> None:
        with self.path.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        self.path.unlink()


class SizeLimit:
    """No file may be written beyond 96 KiB: EFBIG, after a real short write. Python ignores SIGXFSZ."""

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (96 * 1024, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def full_disk(root: Path, disk: Ballast | SizeLimit) -> dict[str, object]:
    writer = create(root, segment_bytes=128 * 1024, reserve_bytes=64 * 1024)
    tail = JournalTail(writer.directory)
    wait_for(lambda: len(segment_numbers(writer.directory)) == 2)
    for number in range(1, 6):
        writer.append(hold(number), call_id(number))
        writer.append(Dispatch(number, number.to_bytes(16, "big")), call_id(number))
    disk.fill()
    admitted = 0
    refused = ""
    while not refused:
        try:
            writer.append(hold(100 + admitted), call_id(100 + admitted))
        except UsageLogUnavailable as error:
            refused = str(error)
            break
        writer.append(Void(1, (100 + admitted).to_bytes(16, "big"), "test", "x" * 500), call_id(100 + admitted))
        writer.append(settle(100 + admitted), call_id(100 + admitted))
        admitted += 1

    # Running calls go on for a while, into the reserve.
    def reserve_used() -> bool:
        return any((writer.directory / "reserve.wal").read_bytes()[64:])

    for turn in range(200):
        writer.append(Void(1, bytes([turn]) * 16, "test", "y" * 1500), call_id(1))
        if turn % 5 == 0 and reserve_used():
            break
    for number in range(1, 6):
        writer.append(attempt_end(number), call_id(number))
        writer.append(settle(number), call_id(number))
    ready_when_full, used = writer.ready, reserve_used()
    seen = [entry.seq for entry in drain(tail)]
    seen_when_full = seen == list(range(1, writer.last_seq + 1))
    disk.free()
    recovered = wait_for(lambda: writer.ready and writer.synced_seq == writer.last_seq)
    writer.append(hold(9999), call_id(9999))
    writer.append(settle(9999), call_id(9999))
    writer.close()
    seen += [entry.seq for entry in drain(tail)]
    return {
        "admitted": admitted,
        "refused": refused,
        "ready_when_full": ready_when_full,
        "reserve_used": used,
        "seen_when_full": seen_when_full,
        "recovered": recovered,
        "followed": seen == list(range(1, writer.last_seq + 1)),
        "read": len(read_all(writer.directory)) == writer.last_seq,
        "damage": len(tail.damage),
    }


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


if __name__ == "__main__":
    match sys.argv[1:]:
        case [root, "acknowledge"]:
            acknowledge(Path(root))
        case [root, "calls"]:
            calls(Path(root))
        case [root, "power", records]:
            asyncio.run(power(Path(root), int(records)))
        case [root, "full"]:
            print(json.dumps(full_disk(Path(root), Ballast(Path(root)))))
        case [root, "limited"]:
            print(json.dumps(full_disk(Path(root), SizeLimit())))
        case other:
            raise SystemExit(f"unknown: {other}")
