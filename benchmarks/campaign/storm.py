"""Everything at once: a seeded schedule of deaths, stops, restarts, broken upstreams and broken SQL under load, with a
tenth of the clients leaving. Afterwards every attempt must be booked, once.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from live.database import postgres
from live.running import ROUTES, Running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.folders import make
from benchmarks.campaign.load import Load
from benchmarks.campaign.sqlcuts import CUT, SOCKET, entered
from benchmarks.faultproxy import CLEAN, Fault, FaultProxy, Flow

CLIENTS = 12
ALLOWED = frozenset({200, 429, 502, 503, 504})
UPSTREAM_FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "slow": lambda chance: Fault(down=Flow(latency_ms=chance.uniform(1, 20), jitter_ms=20)),
    "sliced": lambda chance: Fault(down=Flow(slice_bytes=chance.randrange(1, 200))),
    "narrow": lambda chance: Fault(down=Flow(bytes_per_s=chance.randrange(20_000, 100_000))),
    "reset": lambda chance: Fault(down=Flow(reset_after=chance.randrange(1, 8000))),
    "ended": lambda chance: Fault(down=Flow(end_after=chance.randrange(1, 8000), slow_close_ms=50)),
    "stalled": lambda chance: Fault(down=Flow(stall_after=chance.randrange(1, 8000))),
    "refused": lambda chance: Fault(refuse=True),
    "black": lambda chance: Fault(blackhole=True),
}


class Storm:
    """What can happen, and how often it did."""

    def __init__(self, server: Running, upstream: FaultProxy, sql: FaultProxy, chance: random.Random) -> None:
        self._server = server
        self._upstream = upstream
        self._sql = sql
        self._chance = chance
        self.done: Counter[str] = Counter()
        self._kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            *((f"kill {role}", lambda role=role: self._kill(role)) for role in ("worker", "bookkeeper", "desk")),
            ("stop worker", self._stop),
            *((f"upstream {name}", lambda name=name: self._disturb(name)) for name in UPSTREAM_FAULTS),
            ("sql cut", lambda: self._sql_fault(CUT)),
            ("sql away", lambda: self._sql_fault(Fault(refuse=True))),
            ("sql black", lambda: self._sql_fault(Fault(blackhole=True))),
        ]

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            name, act = self._chance.choice(self._kinds)
            self.done[name] += 1
            await act()
            await asyncio.sleep(self._chance.uniform(0.2, 2.0))
        self._upstream.set(CLEAN)
        self._sql.set(CLEAN)
        await asyncio.to_thread(wait_for, "readiness", self._server.ready)

    async def _kill(self, role: str) -> None:
        await asyncio.to_thread(self._server.kill, role)
        await asyncio.to_thread(wait_for, f"a new {role}", lambda: role in self._server.children())

    async def _stop(self) -> None:
        worker = await asyncio.to_thread(wait_for, "a worker", lambda: self._server.children().get("worker"))
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(0.2, 3.0))
        os.kill(worker, signal.SIGCONT)

    async def _disturb(self, name: str) -> None:
        self._upstream.set(UPSTREAM_FAULTS[name](self._chance))
        await asyncio.sleep(self._chance.uniform(0.5, 3.0))
        self._upstream.set(CLEAN)
        if name in ("black", "stalled"):
            self._upstream.drop()  # what went into the dark is not made up for

    async def _sql_fault(self, fault: Fault) -> None:
        self._sql.set(fault)
        if fault.refuse:
            self._sql.drop()
        await asyncio.sleep(self._chance.uniform(0.5, 4.0))
        self._sql.set(CLEAN)
        if fault.blackhole:
            self._sql.drop()


async def campaign(folder: Path, seed: int, minutes: int) -> list[str]:
    """`minutes` of it."""
    make(folder)
    sockets = Path(tempfile.mkdtemp(prefix="fgsock"))
    try:
        with postgres() as database:
            async with (
                FaultProxy(database.folder / SOCKET, seed, listen=sockets / SOCKET) as sql,
                FaultProxy(("127.0.0.1", 1), seed + 1) as upstream,
            ):
                routes = ROUTES.replace("{port}", str(upstream.port))
                url = database.url.replace(str(database.folder), str(sockets))
                context, server = await asyncio.to_thread(entered, folder, routes, url)
                try:
                    upstream.target = ("127.0.0.1", server.simulator_port)
                    return await _storm(server, upstream, sql, seed, minutes)
                finally:
                    await asyncio.to_thread(context.__exit__, None, None, None)
    finally:
        shutil.rmtree(sockets)


async def _storm(server: Running, upstream: FaultProxy, sql: FaultProxy, seed: int, minutes: int) -> list[str]:
    secret = await asyncio.to_thread(server.new_key, "storm", "--budget", "1000USD/month", "--rpm", "1000000")
    print(f"  seed {seed}", flush=True)
    load = Load(server, secret, CLIENTS, seed)
    storm = Storm(server, upstream, sql, random.Random(seed))
    await storm.run(minutes * 60)
    await asyncio.sleep(2.0)
    seen = await load.stop()
    print(f"  {dict(sorted(storm.done.items()))}\n  clients: {seen.line()}")
    green, text = await verified(server)
    print(f"  witness: {witness_figures(server)}\n{text}")
    problems = list(seen.wrong)
    if not green:
        problems.append("ledger verify is not green")
    if set(seen.statuses) - ALLOWED:
        problems.append(f"unexpected answers {seen.statuses}")
    absent = [row for row in await missing(server, secret, seen) if "not_found" not in row]
    problems += [f"not in the ledger: {row}" for row in absent]
    problems += [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return problems
