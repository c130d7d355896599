"""The wall clock leaps while the monotonic one goes on: an hour on, an hour back, into the next month and back.

Needs a C compiler (`clock_shift.c` is preloaded into the server); says so when there is none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
from pathlib import Path

from live.running import Running, running

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.folders import make

HOUR_S = 3600
MONTH_S = 31 * 24 * HOUR_S
LEAPS_S = {"now": 0, "+1 h": HOUR_S, "back again": 0, "-1 h": -HOUR_S, "now again": 0, "next month": MONTH_S, "home": 0}
SETTLE_S = 1.0
SOURCE = Path(__file__).with_name("clock_shift.c")


class ShiftedClock:
    """The file that the preloaded library reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, shift_s: int) -> None:
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(struct.pack("=q", shift_s))


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """All leaps once; neither `seed` nor `count` changes them."""
    compiler = shutil.which("cc")
    if compiler is None:
        return ["no C compiler (make system-deps): the clock was not moved"]
    make(folder)
    library = folder / "clock_shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)], check=True)
    moved = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(folder / "shift")}
    clock = ShiftedClock(folder / "shift")
    os.environ.update(moved)
    try:
        with running(folder) as server:
            return await _leap(server, clock)
    finally:
        for name in moved:
            os.environ.pop(name)


async def _leap(server: Running, clock: ShiftedClock) -> list[str]:
    problems: list[str] = []
    plain = await asyncio.to_thread(server.new_key, "plain", "--budget", "100USD/month")
    few = await asyncio.to_thread(server.new_key, "few", "--rpm", "3")
    spent = await asyncio.to_thread(server.new_key, "spent", "--budget", "0.0002USD/month")
    before = [(await asyncio.to_thread(server.chat, spent, max_tokens=50)).status for _ in range(40)]
    if before[-1] != 402:
        problems.append(f"the small budget was not spent: {before[-1]}")
    for name, shift_s in LEAPS_S.items():
        clock.set(shift_s)
        await asyncio.sleep(SETTLE_S)
        statuses = [(await asyncio.to_thread(server.chat, plain, max_tokens=20)).status for _ in range(10)]
        refused = [await asyncio.to_thread(server.chat, few, max_tokens=5) for _ in range(5)]
        waits = [float(reply.headers["retry-after"]) for reply in refused if reply.status == 429]
        month = (await asyncio.to_thread(server.chat, spent, max_tokens=50)).status
        print(
            f"  {name}: {sorted(set(statuses))}; 3 a minute: {[reply.status for reply in refused]}, retry after "
            f"{waits}; the month's spent budget: {month}",
            flush=True,
        )
        if set(statuses) != {200}:
            problems.append(f"{name}: calls were answered {statuses}")
        if not waits or not all(0 <= wait <= 70 for wait in waits):
            problems.append(f"{name}: retry-after {waits} for a window of a minute")
        if month != (200 if shift_s == MONTH_S else 402):
            problems.append(f"{name}: the month's spent budget was answered {month}")
    green, text = await verified(server)
    print(f"  witness: {witness_figures(server)}\n{text}")
    if not green:
        problems.append("ledger verify is not green")
    problems += [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return problems
