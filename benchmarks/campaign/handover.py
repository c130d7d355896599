"""`faregate restart` again and again under a steady load: nobody may notice, and no budget may be overspent.

At each restart a key of its own has all its money held by streams that run across the hand-over, while others ask for
more: a new worker that did not know of the old one's holds would let them in.
"""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

from live.database import postgres
from live.raw_client import post_chat
from live.running import Running, running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.steady import Steady, SteadyLoad
from gateway.channel.client import request
from gateway.channel.messages import Restart, Restarted

RESTART_S = 300.0
LOOK_S = 0.05
TOKENS = 60
ACROSS = {"x-sim-tokens": str(TOKENS), "x-sim-token-interval-ms": "50"}
"""3 s: from when the new worker starts until well after the hand-over."""
HELD = 3
ASKERS = 6
BODY: dict[str, Any] = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "x"}],
    "max_tokens": TOKENS,
    "stream": True,
}
_WORKER = re.compile(r"prepared in ([\d.]+) s, callers waited (\d+) ms")


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """Problems found; figures are printed."""
    with running(folder) as server:
        return await _restarts(server, seed, count)


async def on_postgres(folder: Path, seed: int, count: int) -> list[str]:
    """The same with keys and ledger in PostgreSQL."""
    with postgres() as database, running(folder, database_url=database.url) as server:
        return await _restarts(server, seed, count)


async def _restarts(server: Running, seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    problems: list[str] = []
    prepared_s: list[float] = []
    paused_ms: list[int] = []
    boss = await asyncio.to_thread(server.new_key, "boss", "--role", "admin")
    secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month", "--rpm", "1000000")
    hold = await _hold_nusd(server, boss)
    load = SteadyLoad(server, secret, seed)
    tight: dict[str, int] = {}
    seen: dict[int, int] = {}
    for number in range(count):
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        key = await _new_key(server, boss, f"tight-{number}", HELD * hold)
        tight[key] = HELD * hold
        before = workers(server)
        restarting = asyncio.ensure_future(request(server.data_dir / "run" / "supervisor.sock", Restart(), RESTART_S))
        await _new_worker(server, before, restarting)
        contest = asyncio.ensure_future(_contest(server, key, seen))
        restarted = await restarting
        assert isinstance(restarted, Restarted)
        if restarted.failed:
            problems.append(f"restart {number + 1}: {restarted.failed}")
        figures = _WORKER.search("\n".join(restarted.done))
        if figures is not None:
            prepared_s.append(float(figures.group(1)))
            paused_ms.append(int(figures.group(2)))
        problems.extend(await contest)
        if number % 5 == 4:
            print(f"  {number + 1} restarts, {load.seen.line()}", flush=True)
    steady = await load.stop()
    print(f"  clients: {steady.line()}\n  budgets held across a restart: {len(tight)}, answers there {seen}")
    print(f"  {_spread('prepared, s', prepared_s)}\n  {_spread('callers waited, ms', paused_ms)}")
    problems.extend(await _books(server, secret, steady, tight))
    if server.stop() != 0:
        problems.append("the server did not stop cleanly")
    return problems


async def _books(server: Running, secret: str, steady: Steady, tight: dict[str, int]) -> list[str]:
    """What is wrong in the ledger, with the clients or in the log, once the load has ended."""
    green, text = await verified(server)
    problems = await asyncio.to_thread(_overspent, server, tight)
    print(f"  witness: {witness_figures(server)}\n{text}")
    if not green:
        problems.append("ledger verify is not green")
    problems.extend(f"a client noticed: {fault}" for fault in steady.faults)
    problems.extend(f"{count} answers with {status}" for status, count in steady.statuses.items() if status != 200)
    problems.extend(f"not in the ledger: {absent}" for absent in await missing(server, secret, steady))
    problems.extend(f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line)
    return problems


def workers(server: Running) -> set[int]:
    """Process ids of all workers, old ones included."""
    assert server.process is not None
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == server.process.pid and command[-2:-1] == [b"worker"]:
            found.add(int(entry.name))
    return found


async def _new_worker(server: Running, before: set[int], restarting: asyncio.Future[Any]) -> None:
    """Returns when a worker has been started that was not there, or there will be none."""
    for _ in range(int(RESTART_S / LOOK_S)):
        if restarting.done() or workers(server) - before:
            return
        await asyncio.sleep(LOOK_S)


async def _contest(server: Running, key: str, seen: dict[int, int]) -> list[str]:
    """Streams that hold a key's whole money from before the hand-over until after it; others ask all the while."""
    held = [asyncio.ensure_future(post_chat(server.port, key, BODY, ACROSS)) for _ in range(HELD)]
    problems = []
    while not all(call.done() for call in held):
        asked = [asyncio.ensure_future(post_chat(server.port, key, BODY, ACROSS)) for _ in range(ASKERS)]
        for status, _, body in await asyncio.gather(*asked):
            seen[status] = seen.get(status, 0) + 1
            if status not in (200, 402, 429):  # 200: when what was held has cost less than its bound
                problems.append(f"a key without money was answered {status}: {body[:200]!r}")
    for call in held:
        status, _, body = call.result()
        if status != 200 or b"data: [DONE]" not in body:
            problems.append(f"a stream across the hand-over ended with {status}: {body[-200:]!r}")
    return problems


async def _hold_nusd(server: Running, boss: str) -> int:
    """What one such call holds: read from a refusal, which names the amount it required."""
    key = await _new_key(server, boss, "poor", 1)
    _, _, body = await post_chat(server.port, key, BODY)
    found = re.search(rb'"required_nusd":\s*(\d+)', body)
    assert found is not None, body
    return int(found.group(1))


async def _new_key(server: Running, boss: str, name: str, budget_nusd: int) -> str:
    budget = f"{budget_nusd // 10**9}.{budget_nusd % 10**9:09d}USD/total"
    reply = await asyncio.to_thread(server.call, "POST", "/admin/v1/keys", {"name": name, "budget": budget}, boss)
    assert reply.status in (201, 202), reply.body
    secret: str = reply.json["secret"]
    await asyncio.to_thread(wait_for, "the key", lambda: server.call("GET", "/v1/models", key=secret).status == 200)
    return secret


def _overspent(server: Running, tight: dict[str, int]) -> list[str]:
    """Keys that spent more than they may, or nothing: then nothing was contested."""
    problems = []
    for secret, budget in tight.items():
        spent = server.call("GET", "/v1/usage", key=secret).json["month"]["cost"]["nano_usd"]
        if not 0 < spent <= budget:
            problems.append(f"{secret[:20]}…: {spent} nano-USD spent of {budget}")
    return problems


def _spread(name: str, values: list[Any]) -> str:
    ordered = sorted(values)
    if not ordered:
        return f"{name}: none"
    return f"{name}: least {ordered[0]}, median {ordered[len(ordered) // 2]}, most {ordered[-1]} of {len(ordered)}"
