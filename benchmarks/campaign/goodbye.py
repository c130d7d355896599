"""Clients that go away at random byte offsets, in every way, before and after everything that can come.

Asked afterwards: was the provider told within 250 ms where that stops its billing, read to its end where it bills
anyway; did a half-close cut nobody's answer; is every call booked; is nothing left.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

from live.running import Running, running

from benchmarks.campaign.books import verified, witness_figures
from benchmarks.campaign.insides import Insides, insides
from benchmarks.campaign.leaving import MOMENTS, WAYS, Leaver, can_vanish, drawn, leave

AT_ONCE = 25
MODELS = ("sim-small", "sim-drain")
TOLD_MS = 250
KEEPALIVE_S = 15.0
QUIET_S = 90.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the provider saw of one mark. `ended_ms` 0: nothing more yet."""

    began_ms: int
    ended_ms: int = 0
    completed: bool = False
    cancelled: bool = False


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """`count` clients."""
    if not can_vanish():
        print("  may not make a connection vanish (not root): those clients reset instead")
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "gone", "--budget", "1000USD/month", "--rpm", "1000000")
        boss = await asyncio.to_thread(server.new_key, "boss", "--role", "admin")
        await asyncio.gather(*(asyncio.to_thread(server.chat, secret, model) for model in MODELS))
        worker = server.children()["worker"]
        before = insides(server, worker, boss)
        leavers = [drawn(number, MODELS[number // 20 % 2]) for number in range(count)]
        if not can_vanish():
            for leaver in leavers:
                leaver.way = "reset" if leaver.way == "vanish" else leaver.way
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(leaver: Leaver) -> None:
            async with gate:
                await leave(server.port, secret, leaver, random.Random(f"{seed}{leaver.mark}"))

        await asyncio.gather(*(one(leaver) for leaver in leavers))
        green, text = await verified(server)
        after = await _quiet(server, worker, boss, before)
        told = read_told(server.witness)
        print(f"  before: {before.line()}\n  after:  {after.line()}\n  {witness_figures(server)}\n{text}")
        problems = [*judge(leavers, told), *_left_over(before, after)]
        if server.children()["worker"] != worker:
            problems.append("the worker died")
        if not green:
            problems.append("ledger verify is not green")
        problems += [
            f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line or "never" in line
        ]
    return problems


def judge(leavers: list[Leaver], told: dict[str, list[Told]]) -> list[str]:
    """Prints a table of moments and ways; problems."""
    problems: list[str] = []
    for model in MODELS:
        for moment in MOMENTS:
            for way in WAYS:
                group = [one for one in leavers if (one.model, one.moment, one.way) == (model, moment, way)]
                if group:
                    problems += _judge_group(f"{model} {moment} {way}", group, told)
    delays = sorted(
        _delays([one for one in leavers if one.model == "sim-small" and one.way in ("close", "reset")], told)
    )
    if delays:
        p99 = delays[min(len(delays) - 1, len(delays) * 99 // 100)]
        line = f"{len(delays)} cancels: provider told after {delays[len(delays) // 2]:.0f} ms p50, {p99:.0f} ms p99"
        print(f"  {line}, {delays[-1]:.0f} ms at most")
        if p99 > TOLD_MS:
            problems.append(f"provider told too late: {line}")
    else:
        problems.append("no cancel reached the provider")
    return problems


def _judge_group(name: str, group: list[Leaver], told: dict[str, list[Told]]) -> list[str]:
    problems = [f"{name} {one.mark}: {one.fault}" for one in group if one.fault]
    seen = [(one, told[one.mark][0]) for one in group if one.mark in told]
    cancelled = sum(row.cancelled for _, row in seen)
    completed = sum(row.completed for _, row in seen)
    whole = sum(one.whole for one in group)
    delays = sorted(_delays(group, told))
    spread = f"{delays[len(delays) // 2]:.0f}/{delays[-1]:.0f} ms" if delays else "-"
    print(
        f"  {name:28} {len(group):3} clients, {len(seen):3} at the provider: {cancelled:3} cancelled ({spread}), "
        f"{completed:3} completed; {whole:3} whole answers"
    )
    for one, row in seen:
        if len(told[one.mark]) > 1:
            problems.append(f"{name} {one.mark}: sent {len(told[one.mark])} times")
        if not one.sent:
            problems.append(f"{name} {one.mark}: a request that never was whole was sent to the provider")
        if not row.ended_ms:
            problems.append(f"{name} {one.mark}: still running at the provider")
        elif one.model == "sim-drain" and not row.completed:
            problems.append(f"{name} {one.mark}: not read to its end ({row})")
        elif one.way == "half" and not row.completed:
            problems.append(f"{name} {one.mark}: a half-close cancelled the provider")
        elif one.way in ("close", "reset") and one.model == "sim-small" and row.completed and not _late(one, row):
            problems.append(f"{name} {one.mark}: not cancelled ({row}, left at {one.left_ms:.0f})")
    if group[0].way == "half" and group[0].moment != "request":
        problems += [f"{name} {one.mark}: no whole answer, status {one.status}" for one in group if not one.whole]
    return problems


def _late(one: Leaver, row: Told) -> bool:
    """It went when the provider had all but ended: nothing was left to cancel."""
    return one.whole or row.ended_ms - one.left_ms < TOLD_MS


def _delays(group: list[Leaver], told: dict[str, list[Told]]) -> list[float]:
    rows = [(one, told[one.mark][0]) for one in group if one.mark in told]
    return [row.ended_ms - one.left_ms for one, row in rows if row.cancelled and row.began_ms <= one.left_ms]


def read_told(witness: Path) -> dict[str, list[Told]]:
    """By mark."""
    marks: dict[str, str] = {}
    found: dict[str, list[Told]] = {}
    for line in witness.read_text().split("\n"):
        if not line:
            continue
        event = json.loads(line)
        if event["event"] == "begin" and "mark" in event:
            marks[event["attempt_id"]] = event["mark"]
            found.setdefault(event["mark"], []).append(Told(event["ts_ms"]))
        elif event["event"] == "end" and (mark := marks.get(event["attempt_id"])):
            began = found[mark].pop()
            ended = Told(began.began_ms, event["ts_ms"], event["completed"], event["cancelled_ms"] is not None)
            found[mark].append(ended)
    return found


async def _quiet(server: Running, worker: int, boss: str, before: Insides) -> Insides:
    """Waits until nothing is left over, or idle connections and callers that vanished in their body have had their
    time. Descriptors alone do not tell: two upstream connections that have gone make room for two callers that have
    not."""
    end = time.monotonic() + QUIET_S
    while True:
        after = insides(server, worker, boss)
        if not _left_over(before, after) or time.monotonic() > end:
            return after
        await asyncio.sleep(1.0)


def _left_over(before: Insides, after: Insides) -> list[str]:
    problems = []
    if after.open_holds < 0:
        problems.append("/metrics says nothing of open holds")
    if after.open_holds > 0:
        problems.append(f"{after.open_holds} holds are still open")
    if after.upstream:
        problems.append(f"{after.upstream} upstream connections are left")
    if after.fds > before.fds:
        problems.append(f"{after.fds - before.fds} descriptors are left")
    if after.threads > before.threads:
        problems.append(f"{after.threads - before.threads} threads are left")
    if 0 <= before.tasks < after.tasks:
        problems.append(f"{after.tasks - before.tasks} tasks are left")
    return problems
