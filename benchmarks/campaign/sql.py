"""PostgreSQL stopped for a while under load; the worker is killed meanwhile and starts without it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from live.database import postgres
from live.running import running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.load import Load


async def campaign(folder: Path, seed: int, seconds: int) -> list[str]:
    """SQL is away for `seconds`."""
    problems: list[str] = []
    with postgres() as database, running(folder, database_url=database.url) as server:
        secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month")
        small = await asyncio.to_thread(server.new_key, "small", "--budget", "0.0002USD/total")
        gone = await asyncio.to_thread(server.new_key, "gone")
        key_id = gone.split("_")[2]
        spent = [(await asyncio.to_thread(server.chat, small, max_tokens=50)).status for _ in range(50)]
        load = Load(server, secret, 12, seed)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(server.faregate, "keys", "revoke", key_id)
        await asyncio.to_thread(database.stop)
        status = (await asyncio.to_thread(server.chat, gone)).status
        if status != 401:
            problems.append(f"a key revoked just before SQL stopped is answered {status}")
        await asyncio.sleep(seconds / 2)
        await asyncio.to_thread(server.kill, "worker")
        killed = time.monotonic()
        await asyncio.to_thread(wait_for, "readiness without SQL", server.ready)
        print(f"  worker killed while SQL is away: ready after {time.monotonic() - killed:.2f} s")
        after = (await asyncio.to_thread(server.chat, small, max_tokens=50)).status
        print(f"  a budget of 0.0002 USD: {spent.count(200)} calls passed, then {spent[-1]}; after the restart {after}")
        if after != 402 or spent[-1] != 402:
            problems.append(f"the exhausted budget answered {spent[-1]} before and {after} after the restart")
        if (await asyncio.to_thread(server.chat, gone)).status == 200:
            problems.append("the revoked key works after the restart")
        await asyncio.sleep(seconds / 2)
        await asyncio.to_thread(database.start)
        back = time.monotonic()
        await asyncio.sleep(2.0)
        seen = await load.stop()
        green, text = await verified(server)
        print(f"  verified {time.monotonic() - back:.1f} s after SQL was back\n  clients: {seen.line()}")
        print(f"  witness: {witness_figures(server)}\n{text}")
        if not green:
            problems.append("ledger verify is not green")
        if any(code != 200 for code in seen.statuses):
            problems.append(f"clients noticed: {seen.statuses}")
        problems.extend(f"not in the ledger: {absent}" for absent in await missing(server, secret, seen))
    return problems
