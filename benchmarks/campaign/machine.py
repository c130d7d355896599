"""Limits of a whole server, step by step, against a model that shares nothing with it but the ledger's costs.

300 random steps: calls that end well, badly, are left or stay open; kill -9 of the worker, restarts, limits that change
and grow for a time, a clock that leaps. After each step every limit of every key and user stands where the model says,
and a call was let in only if the model had room for its hold, and refused only if it had not.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live.raw_client import chat_request, parse_head
from live.restarts import pids
from live.running import Running, running, wait_for

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.clock import SOURCE, ShiftedClock
from benchmarks.campaign.folders import make

TEAMS = {"k0": "growth", "k1": "growth", "k2": "sales"}
USERS = ("", "ann", "bob")
HOUR_MS, DAY_MS, MONTH = 3_600_000, 86_400_000, "month"
SHAPES: dict[str, tuple[str, str, str, int | str, tuple[str, ...]]] = {
    "day": ("USD/day", "{ team: each }", "block", DAY_MS, ("team",)),
    "hour": ("USD/hour", "{}", "block", HOUR_MS, ()),
    "user": ("USD/month", "{ key: each, user: each }", "block", MONTH, ("key", "user")),
    "rate": ("requests/hour", "{ key: each }", "block", HOUR_MS, ("key",)),
    "watch": ("USD/day", "{ key: each }", "dry_run", DAY_MS, ("key",)),
}
"""Limit id → unit and window, scope, what it does, length of its window, what tells its counters apart."""
PIECE = 80_000
"""About what a call reserves, nano-USD."""
BODY = {"model": "sim-small", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 60}
OPEN = {"x-sim-tokens": "60", "x-sim-token-interval-ms": "20000"}
KINDS = {"well": {"x-sim-tokens": "30"}, "500": {"x-sim-fault": "500"}, "cut": {"x-sim-fault": "disconnect-mid"}}
LEAPS_S = (60, 1800, 3600, 7 * 3600, 86_400, 40 * 86_400)
EDGE_MS = 5_000
TRAIL = 30
DRAIN_S = "1200"
"""A worker that was replaced keeps its open calls for all of the campaign."""

Place = tuple[str, tuple[str, ...], int]


@dataclass
class Model:
    """What is spent and held of every limit, by window; nothing is forgotten."""

    amounts: dict[str, int]
    more: dict[str, tuple[int, int]] = field(default_factory=dict)
    spent: Counter[Place] = field(default_factory=Counter)
    held: dict[str, dict[Place, int]] = field(default_factory=dict)

    def place(self, name: str, key: str, user: str, now_ms: int) -> Place | None:
        told = {"key": key, "user": user, "team": TEAMS[key]}
        values = tuple(told[dimension] for dimension in SHAPES[name][4])
        size = SHAPES[name][3]
        window = time.gmtime(now_ms / 1000)[:2] if isinstance(size, str) else (now_ms // size, 0)
        return None if "" in values else (name, values, window[0] * 100 + window[1])

    def places(self, key: str, user: str, now_ms: int, usd: bool) -> list[Place]:
        found = (self.place(name, key, user, now_ms) for name in SHAPES if (name != "rate") == usd)
        return [place for place in found if place is not None]

    def used(self, place: Place) -> tuple[int, int]:
        return self.spent[place], sum(held.get(place, 0) for held in self.held.values())

    def room(self, place: Place, now_ms: int) -> int:
        by, until_ms = self.more.get(place[0], (0, 0))
        return self.amounts[place[0]] + (by if now_ms < until_ms else 0) - sum(self.used(place))

    def end(self, call: str, cost_nusd: int) -> None:
        for place, held in self.held.pop(call).items():
            assert cost_nusd <= held, f"{call} cost {cost_nusd} and held {held}"
            self.spent[place] += cost_nusd


class Machine:
    """The server, the model, and what is open between them."""

    def __init__(self, server: Running, clock: ShiftedClock, chance: random.Random, secrets: dict[str, str]) -> None:
        self.server, self.clock, self.chance, self.secrets = server, clock, chance, secrets
        self.model = Model({name: chance.randint(2, 6) * PIECE for name in SHAPES} | {"rate": 12})
        self.shift_s = 0
        self.open: dict[str, tuple[asyncio.StreamWriter, str]] = {}
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.trail: list[str] = []

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.shift_s * 1000

    async def ask(self, method: str, path: str, key: str) -> Any:
        """JSON of the server itself; it is asked again while a child is being replaced."""
        for _ in range(600):
            with suppress(OSError):
                reply = await asyncio.to_thread(self.server.call, method, path, None, self.secrets[key])
                if reply.status == 200:
                    return reply.json
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} was never answered")

    # ------------------------------------------------------------ calls

    async def call(self) -> None:
        key, user = self.chance.choice(sorted(TEAMS)), self.chance.choice(USERS)
        kind = self.chance.choice(("well", "well", "open", "open", "500", "cut"))
        to_edge_ms = HOUR_MS - self.now_ms() % HOUR_MS
        await asyncio.sleep(2 * EDGE_MS / 1000 if to_edge_ms < EDGE_MS else 0)  # a call lies in one hour for both
        now_ms = self.now_ms()
        body = {**BODY, "stream": kind in ("open", "cut")} | ({"user": user} if user else {})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(chat_request(self.secrets[key], body, OPEN if kind == "open" else KINDS[kind], close=True))
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        call = headers["x-request-id"]
        self.trail.append(f"  {call} of {key} {user}, {kind}: {status}, {len(self.open)} open")
        rate = self.model.places(key, user, now_ms, usd=False)
        if status in (402, 429):
            error = json.loads(await reader.read())["error"]
            self.refused(error, key, user, now_ms)
            writer.close()
            if error["limit_id"] == "rate":
                return
        elif kind == "open":
            self.open[call] = writer, key
        else:
            await reader.read()
            writer.close()
        for place in rate:
            if self.model.room(place, now_ms) < 1:
                self.problems.append(f"{call}: the rate of {key} was exceeded")
            self.model.spent[place] += 1
        if status in (402, 429):
            return
        held_nusd = (await self.recorded(call, key, ended=False))["attempts"][0]["reserved"]["nano_usd"]
        places = self.model.places(key, user, now_ms, usd=True)
        for place in places:
            if place[0] != "watch" and self.model.room(place, now_ms) < held_nusd:
                self.problems.append(f"{call}: overspent {place}: {self.model.room(place, now_ms)} < {held_nusd}")
        self.model.held[call] = dict.fromkeys(places, held_nusd)
        self.done[f"{kind} {status}"] += 1
        if kind != "open":
            await self.settle(call, key)

    def refused(self, error: dict[str, Any], key: str, user: str, now_ms: int) -> None:
        place = self.model.place(error["limit_id"], key, user, now_ms)
        required = int(error["required_nusd"] if error["unit"] == "usd" else error["required"])
        self.done[f"refused {error['code']} {error['limit_id']}"] += 1
        if place is None or self.model.room(place, now_ms) >= required:
            self.problems.append(f"a false denial: {place} for {required}: {error}")

    async def recorded(self, call: str, key: str, *, ended: bool) -> Any:
        """The call as SQL has it, once it has begun, or ended, there."""
        for _ in range(300):
            reply = await asyncio.to_thread(self.server.call, "GET", f"/v1/requests/{call}", None, self.secrets[key])
            if reply.status == 200 and reply.json["attempts"] and not (ended and reply.json["outcome"] == "running"):
                return reply.json
            await asyncio.sleep(0.1)
        raise AssertionError(f"{call} was never recorded")

    async def settle(self, call: str, key: str) -> None:
        attempts = (await self.recorded(call, key, ended=True))["attempts"]
        self.model.end(call, sum(attempt["cost"]["nano_usd"] or 0 for attempt in attempts))

    async def leave(self) -> None:
        """One of the open calls is left by its client."""
        if self.open:
            call = self.chance.choice(sorted(self.open))
            writer, key = self.open.pop(call)
            writer.close()
            await self.settle(call, key)
            self.done["left"] += 1

    # ------------------------------------------------------------ the world

    async def crash(self) -> None:
        """Of all workers, those too that have handed over and end their calls."""
        for pid in sorted(pids(self.server, "worker")):
            self.server.kill_pid(pid)
        await asyncio.to_thread(wait_for, "readiness", self.server.ready)
        for call, (writer, key) in self.open.items():
            writer.close()
            await self.settle(call, key)
        self.open.clear()
        self.done["crash"] += 1

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.faregate, "restart")
        self.done["restart"] += 1

    async def change(self) -> None:
        name = self.chance.choice(sorted(SHAPES))
        if self.chance.random() < 0.3:
            by = 5 if name == "rate" else self.chance.randint(1, 4) * PIECE
            self.model.more[name] = (by, self.now_ms() // 1000 * 1000 + self.chance.choice((120, 7200)) * 1000)
        else:
            piece = 1 if name == "rate" else PIECE
            self.model.amounts[name] = self.chance.randint(0, 20 if name == "rate" else 8) * piece
        self.write()
        await self.in_force()
        self.done["change"] += 1

    async def leap(self) -> None:
        self.shift_s += self.chance.choice(LEAPS_S)
        self.clock.set(self.shift_s)
        await asyncio.sleep(1.0)
        self.done["leap"] += 1

    def write(self) -> None:
        lines = ["limits:"]
        for name, (unit, scope, action, _, _) in SHAPES.items():
            amount = self.model.amounts[name]
            text = f"{amount}requests/hour" if name == "rate" else f"{amount / 1e9:.9f}{unit}"
            lines.append(f"  {name}:\n    limit: {text}\n    scope: {scope}\n    on_exceed: {action}")
            if name in self.model.more:
                by, until_ms = self.model.more[name]
                until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until_ms / 1000))
                by_text = f"{by}requests" if name == "rate" else f"{by / 1e9:.9f}USD"
                lines.append(f"    increase: {{ by: {by_text}, until: {until} }}")
        path = self.server.folder / "policies" / "limits.yaml"
        path.with_suffix(".new").write_text("\n".join(lines) + "\n")
        path.with_suffix(".new").rename(path)

    async def in_force(self) -> None:
        """Until the limits that are shown are those of the file."""
        for _ in range(300):
            budgets = (await self.ask("GET", "/v1/usage", "k0"))["budgets"]
            amounts = {one["id"]: one["amount"] for one in budgets}
            increases = {one["id"]: one["increase"]["until_ms"] for one in budgets if one["increase"]}
            if amounts == self.model.amounts and increases == {name: one[1] for name, one in self.model.more.items()}:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the limits never came into force: {amounts}, {increases}")

    async def compare(self) -> None:
        """Every limit of every key and user, as the server shows it once all is folded, with the model."""
        for _ in range(100):
            differences = await self.differences()
            if not differences:
                return
            await asyncio.sleep(0.1)
        self.problems += differences

    async def differences(self) -> list[str]:
        found: list[str] = []
        for key in sorted(TEAMS):
            for user in USERS:
                reply = await self.ask("GET", f"/v1/usage?user={user}" if user else "/v1/usage", key)
                for budget in reply["budgets"]:
                    place = self.model.place(budget["id"], key, user, self.now_ms())
                    if place is None or budget["spent"] is None:
                        continue
                    says = budget["spent"]["amount"], budget["reserved"]["amount"]
                    if says != self.model.used(place):
                        found.append(f"{place}: the server says {says}, the model {self.model.used(place)}")
        return found


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """`count` steps. Problems found, at the first of them no further; figures are printed."""
    compiler = shutil.which("cc")
    if compiler is None:
        return ["no C compiler (make system-deps): the clock was not moved"]
    make(folder / "policies")
    library = folder / "clock_shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)], check=True)
    moved = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(folder / "shift")}
    clock = ShiftedClock(folder / "shift")
    os.environ.update(moved)
    try:
        with running(folder, drain_timeout_s=DRAIN_S) as server:
            return await _steps(server, clock, random.Random(seed), count)
    finally:
        for name in moved:
            os.environ.pop(name)


async def _steps(server: Running, clock: ShiftedClock, chance: random.Random, count: int) -> list[str]:
    secrets = {key: await asyncio.to_thread(server.new_key, key, "--team", team) for key, team in TEAMS.items()}
    machine = Machine(server, clock, chance, secrets)
    machine.write()
    await machine.in_force()
    others = (machine.leave, machine.leave, machine.leave, machine.change, machine.change, machine.leap, machine.crash)
    for number in range(1, count + 1):
        step = machine.call if chance.random() < 0.6 else chance.choice(others)
        step = machine.restart if number % 40 == 0 else step
        machine.trail.append(f"{number} {step.__name__}")
        await step()
        await machine.compare()
        if machine.problems:
            print("  " + "\n  ".join(machine.trail[-TRAIL:]))
            return [f"step {number}: {problem}" for problem in machine.problems]
        if number % 50 == 0:
            print(f"  {number} steps: {dict(sorted(machine.done.items()))}, {len(machine.open)} open", flush=True)
    while machine.open:
        await machine.leave()
    await machine.compare()
    green, text = await verified(server)
    print(f"  witness: {witness_figures(server)}\n{text}")
    return [*machine.problems, *([] if green else ["ledger verify is not green"])]
