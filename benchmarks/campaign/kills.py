"""kill -9 of worker, bookkeeper and desk at seeded random moments under streaming load."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from live.running import running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.load import Load

ROLES = ("worker", "worker", "bookkeeper", "desk")
CLIENTS = 12


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """Problems found; figures are printed."""
    chance = random.Random(seed)
    problems: list[str] = []
    killed: dict[str, int] = {}
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month", "--rpm", "1000000")
        load = Load(server, secret, CLIENTS, seed)
        for number in range(count):
            await asyncio.sleep(chance.uniform(0.05, 0.8))
            role = chance.choice(ROLES)
            await asyncio.to_thread(server.kill, role)
            killed[role] = killed.get(role, 0) + 1
            await asyncio.to_thread(wait_for, f"a new {role}", lambda role=role: role in server.children())
            if role == "worker":
                await asyncio.to_thread(wait_for, "readiness", server.ready)
            if number % 20 == 19:
                print(f"  {number + 1} kills, {load.seen.line()}", flush=True)
        await asyncio.to_thread(wait_for, "readiness", server.ready)
        seen = await load.stop()
        green, text = await verified(server)
        print(f"  killed: {killed}\n  clients: {seen.line()}\n  witness: {witness_figures(server)}\n{text}")
        if not green:
            problems.append("ledger verify is not green")
        problems.extend(f"not in the ledger: {absent}" for absent in await missing(server, secret, seen))
        problems.extend(seen.wrong)
        log = server.log()
        problems.extend(f"in the log: {line}" for line in log.split("\n") if "Traceback" in line)
        if server.stop() != 0:
            problems.append("the server did not stop cleanly")
    return problems
