"""A thousand slow connections (heads, bodies, readers, idle ones), and what another client's p99 is meanwhile.

Measured at a fixed rate from when each call was due, in turns without and with the slow ones: a noisy machine is noisy
in both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

from live.raw_client import chat_request, parse_head
from live.running import Running, running

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.insides import insides
from benchmarks.campaign.leaving import BODY
from benchmarks.processes import cpu_s

PER_S = 50
TURN_S = 20.0
SETTLE_S = 12.0
"""In which the slow ones are made and the answers for the slow readers are streamed into their buffers, which is load
and not slowness; the worker's CPU of the turn that follows is printed."""
ROUNDS = 3
CONNECTIONS = 8
MORE_ALLOWED = 1.2
RSS_MIB_MAX = 256 * 1024 / 1024
"""What 1 000 connections may add: 256 KiB each."""


class Steady:
    """Whole calls on kept connections, one each 1/PER_S s whatever happens."""

    def __init__(self, server: Running, secret: str) -> None:
        self._server = server
        body = {name: value for name, value in BODY.items() if name[:6] != "stream"}
        self._request = chat_request(secret, body, {"x-sim-tokens": "20"})
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.faults: list[str] = []

    async def turn(self, seconds: float) -> list[float]:
        """Milliseconds of each call, sorted."""
        begun = time.monotonic() + 0.1
        dues = [begun + number / PER_S for number in range(int(seconds * PER_S))]
        return sorted(await asyncio.gather(*(self._one(due) for due in dues)))

    async def _one(self, due: float) -> float:
        await asyncio.sleep(due - time.monotonic())
        if self._free:
            reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(self._request)
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(int(headers["content-length"]))
        if status != 200:
            self.faults.append(f"answered {status}")
        self._free.append((reader, writer))
        return (time.monotonic() - due) * 1000


def p99(sorted_ms: list[float]) -> float:
    return sorted_ms[len(sorted_ms) * 99 // 100]


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """`count` slow connections. There is no chance in it: `seed` is not used."""
    problems: list[str] = []
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "slow", "--budget", "1000USD/month", "--rpm", "1000000")
        boss = await asyncio.to_thread(server.new_key, "boss", "--role", "admin")
        worker = server.children()["worker"]
        steady = Steady(server, secret)
        await steady.turn(3.0)
        ratios: list[float] = []
        quiet_mib = insides(server, worker, boss).rss_mib
        for number in range(ROUNDS):
            alone = await steady.turn(TURN_S)
            slow = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.campaign.slow_clients", "--port", str(server.port)),
                *("--count", str(count), "--seconds", str(TURN_S + SETTLE_S + 3)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**server.environment, "PYTHONPATH": ":".join(sys.path)},
            )
            assert slow.stdin is not None
            slow.stdin.write(secret.encode() + b"\n")
            slow.stdin.close()
            await asyncio.sleep(SETTLE_S)
            used_s = cpu_s(worker)
            beside = await steady.turn(TURN_S)
            used_s = cpu_s(worker) - used_s
            held = await asyncio.to_thread(insides, server, worker, boss)
            said, _ = await slow.communicate()
            ratios.append(p99(beside) / p99(alone))
            print(
                f"  round {number + 1}: alone p50 {statistics.median(alone):.1f} p99 {p99(alone):.1f} ms, beside "
                f"{count} slow p50 {statistics.median(beside):.1f} p99 {p99(beside):.1f} ms ({ratios[-1]:.2f}×)\n"
                f"    worker {held.line()}, {used_s / TURN_S:.0%} of a core\n    {said.decode().strip()}",
                flush=True,
            )
            if held.fds < count * 0.9:
                problems.append(f"only {held.fds} descriptors were open in the worker: the slow ones were not there")
            if held.rss_mib - quiet_mib > RSS_MIB_MAX:
                problems.append(f"memory grew by {held.rss_mib - quiet_mib:.0f} MiB")
            await asyncio.sleep(2.0)
        if statistics.median(ratios) > MORE_ALLOWED:
            problems.append(f"p99 beside slow connections is {statistics.median(ratios):.2f} times that alone (median)")
        problems += steady.faults
        green, text = await verified(server)
        print(f"  witness: {witness_figures(server)}\n{text}")
        if not green:
            problems.append("ledger verify is not green")
    return problems
