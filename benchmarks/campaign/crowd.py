"""500 callers at once under four overlapping limits: three in ten leave, one in ten meets an upstream error, the worker
is killed every five seconds, and the limits grow while they are exhausted again and again.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from live.raw_client import chat_request, parse_head
from live.running import Running, running, wait_for

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.history import Amounts, history_of

CALLERS = 500
USERS = 25
BUSY_USERS, BUSY_SHARE = 5, 0.4
KILL_EVERY_S = 5.0
HANG_S = 90.0
REFUSED_PAUSE_S = 0.25
LEAVE_SHARE, FAULT_SHARE = 0.3, 0.1
FAULTS = ("500", "disconnect-mid", "disconnect-before", "error-first")
AMOUNTS = {
    "all": (45_000_000, 105_000_000, 140_000_000, 210_000_000, 240_000_000, 345_000_000),
    "team": (50_000_000, 100_000_000, 150_000_000, 200_000_000, 250_000_000, 340_000_000),
    "each-user": (3_000_000, 6_000_000, 9_000_000, 12_000_000, 15_000_000, 25_000_000),
    "tokens": (160_000, 330_000, 330_000, 660_000, 760_000, 760_000),
}
"""Nano-USD and tokens, step by step, each used up by the limit that BINDING names. A call reserves about
76 000 nano-USD and costs about 20 000."""
STEPS = 6
BINDING = ("all", "team", "tokens", "team", "all", "tokens")
REFUSED_EACH = 30
"""A step ends when so many calls were refused by the limit that binds in it."""
BODY = {"model": "sim-small", "messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": 60}


@dataclass
class Seen:
    statuses: Counter[int] = field(default_factory=Counter)
    left: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    unforced: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def limits_text(step: int) -> str:
    """policies/limits.yaml of one step, counted from 0."""
    usd = {name: f"{AMOUNTS[name][step] / 1e9:.9f}USD" for name in ("all", "team", "each-user")}
    return (
        "limits:\n"
        f"  all: {{ limit: {usd['all']}/total, scope: {{}} }}\n"
        f"  team: {{ limit: {usd['team']}/month, scope: {{ team: crowd }} }}\n"
        f"  each-user: {{ limit: {usd['each-user']}/month, scope: {{ team: crowd, user: each }} }}\n"
        f"  tokens: {{ limit: {AMOUNTS['tokens'][step]}tokens/total, scope: {{ team: crowd, model: sim-small }} }}\n"
    )


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """`count` seconds, and until every step of the limits is used up. Problems found; figures are printed."""
    policies = folder / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    (policies / "limits.yaml").write_text(limits_text(0))
    amounts: Amounts = {name: [(0, steps[0])] for name, steps in AMOUNTS.items()}
    seen, kills = Seen(), 0
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "crowd", "--team", "crowd")
        stop = asyncio.Event()
        callers = [
            asyncio.ensure_future(_caller(server, secret, number, seed, seen, stop)) for number in range(CALLERS)
        ]
        begun, step, used_up = time.monotonic(), 0, False
        while time.monotonic() - begun < count or not used_up or step < STEPS - 1:
            await asyncio.sleep(KILL_EVERY_S)
            await asyncio.to_thread(server.kill, "worker")
            kills += 1
            await asyncio.to_thread(wait_for, "readiness", server.ready)
            print(f"  {time.monotonic() - begun:.0f} s, step {step}: refused by {dict(seen.refused)}", flush=True)
            used_up = seen.refused[BINDING[step]] >= REFUSED_EACH
            if used_up and step < STEPS - 1:
                step, now_ms = step + 1, time.time_ns() // 1_000_000
                seen.refused.clear()
                for name, steps in AMOUNTS.items():
                    amounts[name].append((now_ms, steps[step]))
                (policies / "limits.yaml").write_text(limits_text(step))
            if time.monotonic() - begun > HANG_S + 10 * count:
                seen.wrong.append(f"step {step} of the limits was never used up")
                break
        stop.set()
        await asyncio.gather(*callers)
        green, text = await verified(server)
        explained = await asyncio.to_thread(server.faregate, "limits", "explain", "crowd", "--json")
        print(f"  {time.monotonic() - begun:.0f} s", flush=True)
        problems = _judge(server, amounts, seen, json.loads(explained.stdout))
        print(f"  {kills} kills of the worker; witness: {witness_figures(server)}\n{text}")
        if not green:
            problems.append("ledger verify is not green")
        problems += [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return problems


def _judge(server: Running, amounts: Amounts, seen: Seen, explained: dict[str, object]) -> list[str]:
    history = history_of(server.data_dir / "journal", amounts)
    answers = ", ".join(f"{number}×{status}" for status, number in sorted(seen.statuses.items()))
    peaks = ", ".join(f"{name} {peak:.3f} %" for name, peak in sorted(history.peaks.items()))
    print(
        f"  {CALLERS} callers: {answers}; {seen.left} left, {seen.cut} cut\n"
        f"  history: {history.records} records, {history.holds} holds; most ever spent + reserved: {peaks}"
    )
    problems = [f"overrun: {one}" for one in history.overruns]
    problems += [f"a 402 that nothing forced: {one}" for one in seen.unforced]
    problems += seen.wrong
    problems += [f"{name} never came to its end: {peak:.1f} %" for name, peak in history.peaks.items() if peak < 99]
    if set(history.peaks) != set(amounts):
        problems.append(f"limits without a hold: {set(amounts) - set(history.peaks)}")
    if history.open or any(history.held.values()):
        problems.append(f"{len(history.open)} holds are open after all is quiet")
    budgets = explained["budgets"]
    assert isinstance(budgets, list)
    for budget in budgets:
        if budget["reserved"] is not None and budget["reserved"]["amount"]:
            problems.append(f"{budget['name']}: {budget['reserved']} is still reserved")
    if not {200, 402, 429} <= set(seen.statuses):
        problems.append(f"not all kinds of answers came: {answers}")
    return problems


async def _caller(server: Running, secret: str, number: int, seed: int, seen: Seen, stop: asyncio.Event) -> None:
    chance = random.Random(seed * 1000 + number)
    while not stop.is_set():
        try:
            async with asyncio.timeout(HANG_S):
                users = BUSY_USERS if chance.random() < BUSY_SHARE else USERS
                status = await _call(server, secret, f"user-{chance.randrange(users)}", chance, seen)
        except TimeoutError:
            seen.wrong.append("a call hung")
        except (OSError, asyncio.IncompleteReadError):
            seen.cut += 1
            await asyncio.sleep(0.05)
        else:
            await asyncio.sleep(REFUSED_PAUSE_S if status in (402, 429, 503) else 0)


async def _call(server: Running, secret: str, user: str, chance: random.Random, seen: Seen) -> int:
    pace = {"x-sim-tokens": str(chance.randint(10, 60)), "x-sim-token-interval-ms": "20"}
    if chance.random() < FAULT_SHARE:
        pace["x-sim-fault"] = chance.choice(FAULTS)
    leaves_after = chance.choice((0, 1, 400, 2000)) if chance.random() < LEAVE_SHARE else -1
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        stream = chance.random() < 0.8
        writer.write(chat_request(secret, {**BODY, "user": user, "stream": stream}, pace, close=True))
        if leaves_after == 0:
            await asyncio.sleep(chance.uniform(0, 0.3))
            seen.left += 1
            return 0
        status, _ = parse_head(await reader.readuntil(b"\r\n\r\n"))
        seen.statuses[status] += 1
        if status == 200 and leaves_after > 0:
            await reader.read(leaves_after)
            seen.left += 1
            return status
        body = await reader.read()
        if status in (402, 429):
            _refused(json.loads(body)["error"], status, seen)
        return status
    finally:
        with suppress(OSError):
            writer.close()


def _refused(error: dict[str, object], status: int, seen: Seen) -> None:
    """402 only if what is spent plus this hold exceeds the limit; the error carries all three."""
    seen.refused[str(error["limit_id"])] += 1
    suffix = "_nusd" if error["unit"] == "usd" else ""
    spent, required, limit = (int(str(error[name + suffix])) for name in ("spent", "required", "limit"))
    if status == 402 and spent + required <= limit:
        seen.unforced.append(json.dumps(error)[:300])
