"""A steady load of which a fifth leaves early, for minutes: the slopes of the worker's memory, descriptors, threads."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from live.raw_client import chat_request
from live.running import Running, running

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.insides import Insides, insides
from benchmarks.campaign.leaving import BODY, TOKENS, Leaver, Moment, Way, leave
from benchmarks.campaign.slopes import Slope, theil_sen

PER_S = 40
LEAVE_SHARE = 0.2
SAMPLE_S = 5.0
WARM_SHARE = 0.5
"""Pools, caches and the allocator fill at first: slopes are of the second half."""
RUNNING_MAX = 400
RSS_MIB_PER_HOUR = 2.0
PACE = {"x-sim-tokens": str(TOKENS), "x-sim-token-interval-ms": "10"}
MOMENTS: tuple[Moment, ...] = ("head", "first", "mid", "usage")
WAYS: tuple[Way, ...] = ("close", "reset")


class Crowd:
    """Calls at fixed times, whether or not those before have ended; some on connections that are kept."""

    def __init__(self, server: Running, secret: str, seed: int) -> None:
        self._server = server
        self._secret = secret
        self._chance = random.Random(seed)
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.whole = self.left = self.skipped = 0
        self.faults: list[str] = []

    async def run(self, seconds: float) -> None:
        begun = time.monotonic()
        for number in range(int(seconds * PER_S)):
            await asyncio.sleep(max(0.0, begun + number / PER_S - time.monotonic()))
            if len(self._tasks) >= RUNNING_MAX:
                self.skipped += 1
                continue
            task = asyncio.ensure_future(self._one(number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)
        for _, writer in self._kept:
            writer.close()

    async def _one(self, number: int) -> None:
        chance = random.Random(self._chance.getrandbits(64))
        if chance.random() < LEAVE_SHARE:
            leaver = Leaver(f"s{number}", "sim-small", chance.choice(MOMENTS), chance.choice(WAYS))
            await leave(self._server.port, self._secret, leaver, chance)
            self.left += 1
            if leaver.fault:
                self.faults.append(leaver.fault)
            return
        try:
            async with asyncio.timeout(60):
                await self._stay(stream=chance.random() < 0.7)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.faults.append(repr(error))

    async def _stay(self, stream: bool) -> None:
        if self._kept:
            reader, writer = self._kept.pop(0)  # the one that was free longest: none idles until the server ends it
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        body = BODY if stream else {name: value for name, value in BODY.items() if name[:6] != "stream"}
        writer.write(chat_request(self._secret, body, PACE))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            self.faults.append(head.split(b"\r\n")[0].decode())
        if b"transfer-encoding: chunked" in head:
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
            self.whole += b"data: [DONE]" in answer
        else:
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            self.whole += 1
        self._kept.append((reader, writer))


async def campaign(folder: Path, seed: int, minutes: int) -> list[str]:
    """`minutes` of load."""
    problems: list[str] = []
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "soak", "--budget", "1000USD/month", "--rpm", "1000000")
        boss = await asyncio.to_thread(server.new_key, "boss", "--role", "admin")
        worker = server.children()["worker"]
        crowd = Crowd(server, secret, seed)
        load = asyncio.ensure_future(crowd.run(minutes * 60))
        samples: list[tuple[float, Insides]] = []
        begun = time.monotonic()
        while not load.done():
            await asyncio.wait((load,), timeout=SAMPLE_S)
            if not load.done():
                sample = await asyncio.to_thread(insides, server, worker, boss)
                samples.append((time.monotonic() - begun, sample))
                if len(samples) % 12 == 1:
                    print(f"  {samples[-1][0]:5.0f} s: {sample.line()}", flush=True)
        await load
        green, text = await verified(server)
        print(f"  {crowd.whole} whole, {crowd.left} left early, {crowd.skipped} skipped, {len(crowd.faults)} faults")
        print(f"  witness: {witness_figures(server)}\n{text}")
        problems += judge(samples, minutes * 60 * WARM_SHARE)
        problems += [f"a client that stayed: {fault}" for fault in crowd.faults]
        if crowd.skipped:
            problems.append(f"{crowd.skipped} calls were not made: the server did not keep up")
        if server.children()["worker"] != worker:
            problems.append("the worker died")
        if not green:
            problems.append("ledger verify is not green")
    return problems


def judge(samples: list[tuple[float, Insides]], warm_s: float) -> list[str]:
    """Prints the slopes; a slope counts as up when its whole interval is above what is allowed."""
    kept = [(time_s, sample) for time_s, sample in samples if time_s >= warm_s]
    times = [time_s for time_s, _ in kept]
    slopes: dict[str, tuple[Slope, float]] = {
        "MiB": (theil_sen(times, [sample.rss_mib for _, sample in kept]), RSS_MIB_PER_HOUR),
        "fds": (theil_sen(times, [sample.fds for _, sample in kept]), 0.0),
        "threads": (theil_sen(times, [sample.threads for _, sample in kept]), 0.0),
        "open holds": (theil_sen(times, [sample.open_holds for _, sample in kept]), 0.0),
    }
    if kept[0][1].tasks >= 0:
        slopes["tasks"] = theil_sen(times, [sample.tasks for _, sample in kept]), 0.0
    problems = []
    for unit, (slope, allowed) in slopes.items():
        print(f"  slope over {len(kept)} samples: {slope.line(unit)}")
        if slope.low > allowed:
            problems.append(f"{unit} grow: {slope.line(unit)}")
    return problems
