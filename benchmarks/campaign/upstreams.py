"""Faults of one upstream, each a named case against a live server, `ledger verify` after each: refused connections,
refusals of every kind, errors first, replies cut at random bytes, stalls, and usage that lies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.raw_client import post_chat
from live.running import ROUTES, Running, running

from benchmarks.campaign.books import verified
from benchmarks.campaign.folders import make
from benchmarks.campaign.scripted import ScriptedUpstream
from benchmarks.campaign.scripts import RETRY_SPELLINGS, SCRIPTS, USAGES
from benchmarks.faultproxy import CLEAN, Fault, FaultProxy, Flow
from benchmarks.nginx import bare_proxy

IDLE_S = 2.0
PROGRESS_S = 5.0
PROGRESS_LIMIT_S = 20.0
"""A stream that makes no progress for ten times the idle time-out and still lives is taken to have no limit."""
MORE_ROUTES = """\
  sim-behind: behind/sim-small
  sim-scripted: scripted/sim-small
  sim-nginx: nginx/sim-small
"""
MORE_PROVIDERS = """\
  behind:
    kind: simulated
    base_url: http://127.0.0.1:{behind}/v1
    idle_timeout_s: {idle}
  nginx:
    kind: simulated
    base_url: http://127.0.0.1:{nginx}/v1
    idle_timeout_s: {idle}
  scripted:
    kind: simulated
    base_url: http://127.0.0.1:{scripted}/v1
    idle_timeout_s: {idle}
models:
"""
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 200}
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Stage:
    """What a case has: the server, a key, the proxy before the simulator, and the scripted upstream."""

    server: Running
    secret: str
    proxy: FaultProxy
    scripted: ScriptedUpstream
    nginx: int
    """The port of an nginx before the proxy; 0: none."""

    async def ask(self, model: str, headers: dict[str, str] | None = None, *, is_stream: bool = True) -> Answer:
        async with asyncio.timeout(60):
            body = {**BODY, "model": model, "stream": is_stream}
            return await post_chat(self.server.port, self.secret, body, headers)

    async def script(self, name: str, *, is_stream: bool = True) -> Answer:
        return await self.ask("sim-scripted", {"x-sim-script": name}, is_stream=is_stream)

    async def record(self, answer: Answer) -> dict[str, Any]:
        """The ledger's own view of a call, once it is in SQL."""
        for _ in range(100):
            reply = await asyncio.to_thread(
                self.server.call, "GET", f"/v1/requests/{answer[1]['x-request-id']}", None, self.secret
            )
            if reply.status == 200:
                found: dict[str, Any] = reply.json
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"{answer[1]['x-request-id']} is not in the ledger")


Case = Callable[[Stage], Awaitable[list[str]]]


def code(answer: Answer) -> str:
    """The error code in an answer, wherever it stands."""
    _, found, rest = answer[2].partition(b'"code":"')
    return rest.split(b'"')[0].decode() if found else ""


def free(record: dict[str, Any]) -> bool:
    """A call without a dispatched attempt has no cost; one with has 0."""
    cost: dict[str, Any] = record["cost"]
    return cost["nano_usd"] == 0 or (cost["nano_usd"] is None and cost["state"] in ("void", "none", ""))


async def f08_refused_connection(stage: Stage) -> list[str]:
    begun = time.monotonic()
    answer = await stage.ask("sim-dead")
    print(f"  {answer[0]} {code(answer)} after {(time.monotonic() - begun) * 1000:.0f} ms")
    record = await stage.record(answer)
    problems = (
        [] if (answer[0], code(answer)) == (502, "upstream_unreachable") else [f"answered {answer[:1]} {code(answer)}"]
    )
    return problems + ([] if free(record) else [f"not free: {record}"])


async def f10_every_retry_after(stage: Stage) -> list[str]:
    problems = []
    for name, expected in RETRY_SPELLINGS.items():
        begun = time.monotonic()
        answer = await stage.script(name)
        took_ms = (time.monotonic() - begun) * 1000
        got = {key: value for key, value in answer[1].items() if key in expected}
        record = await stage.record(answer)
        print(f"  {name}: {answer[0]} in {took_ms:.0f} ms with {got}")
        if answer[0] != 429 or got != expected:
            problems.append(f"{name}: {answer[0]}, {got} instead of {expected}")
        if not free(record):
            problems.append(f"{name}: not free: {record}")
    return problems


async def f13_own_credential_refused(stage: Stage) -> list[str]:
    problems = []
    for name in ("401", "403"):
        answer = await stage.script(name)
        print(f"  {name}: {answer[0]} {code(answer)}")
        if (answer[0], code(answer)) != (502, "upstream_auth_error"):
            problems.append(f"{name} became {answer[0]} {code(answer)}")
        if not free(await stage.record(answer)):
            problems.append(f"{name} was not free")
    return problems


async def f14_error_first(stage: Stage) -> list[str]:
    answer = await stage.script("error-first")
    print(f"  {answer[0]} {code(answer)}")
    problems = [] if answer[0] == 502 else [f"answered {answer[0]}: an error before the first byte is no 200"]
    record = await stage.record(answer)
    return problems + ([] if free(record) else [f"not free: {record}"])


async def f16_cut_at_random_bytes(stage: Stage) -> list[str]:
    """RST and FIN after k bytes of a stream of about 9 kB, k random; and a FIN right before `[DONE]`."""
    problems: list[str] = []
    seen: dict[str, int] = {}
    pace = {"x-sim-tokens": "40", "x-sim-token-interval-ms": "1"}

    for is_stream, most, calls in ((True, 8500, 60), (False, 900, 20)):

        def choose(chance: random.Random, most: int = most) -> Fault:
            place = chance.randrange(1, most)
            return Fault(down=Flow(reset_after=place) if chance.random() < 0.5 else Flow(end_after=place))

        stage.proxy.drop()
        stage.proxy.choose(choose)
        asked = [stage.ask("sim-behind", pace, is_stream=is_stream) for _ in range(calls)]
        for answer in await asyncio.gather(*asked):
            kind = f"{'stream' if is_stream else 'whole'} {answer[0]} {code(answer) or 'no error'}"
            seen[kind] = seen.get(kind, 0) + 1
            if code(answer) != "upstream_disconnected":
                problems.append(f"a cut reply without its error: {answer[0]} {answer[2][-200:]!r}")
            if b"[DONE]" in answer[2]:
                problems.append(f"a cut stream ends with [DONE]: {answer[2][-200:]!r}")
    stage.proxy.set(CLEAN)
    answer = await stage.script("no-done")
    seen[f"before [DONE] {answer[0]} {code(answer)}"] = 1
    if code(answer) != "upstream_disconnected" or b"[DONE]" in answer[2]:
        problems.append(f"FIN before [DONE]: {answer[2][-300:]!r}")
    print(f"  {seen}; {stage.proxy.disturbed} cuts")
    return problems


async def f16_cut_behind_nginx(stage: Stage) -> list[str]:
    """A real nginx between gateway and proxy passes the broken reply on in its own way: a 502 page, or an early end."""
    problems: list[str] = []
    seen: dict[str, int] = {}
    if not stage.nginx:
        return ["nginx is not installed (make system-deps): not tested behind it"]
    stage.proxy.choose(lambda chance: Fault(down=Flow(reset_after=chance.randrange(1, 8500))))
    asked = [stage.ask("sim-nginx", {"x-sim-tokens": "40", "x-sim-token-interval-ms": "1"}) for _ in range(40)]
    for answer in await asyncio.gather(*asked):
        kind = f"{answer[0]} {code(answer) or 'no error'}"
        seen[kind] = seen.get(kind, 0) + 1
        if code(answer) not in ("upstream_disconnected", "upstream_error") or b"[DONE]" in answer[2]:
            problems.append(f"a cut reply without its error: {answer[0]} {answer[2][-200:]!r}")
    print(f"  {seen}")
    return problems


async def f17_stall_without_bytes(stage: Stage) -> list[str]:
    stage.proxy.set(Fault(down=Flow(stall_after=4000)))
    begun = time.monotonic()
    answer = await stage.ask("sim-behind", {"x-sim-tokens": "60", "x-sim-token-interval-ms": "5"})
    took_s = time.monotonic() - begun
    stage.proxy.set(CLEAN)
    print(f"  {answer[0]} {code(answer)} after {took_s:.2f} s (idle limit {IDLE_S} s)")
    problems = [] if code(answer) == "upstream_timeout" else [f"{answer[2][-200:]!r}"]
    return problems + ([] if IDLE_S <= took_s < IDLE_S + 2 else [f"ended after {took_s:.1f} s"])


async def f17_stall_with_comments(stage: Stage) -> list[str]:
    problems = []
    for name in ("comments-mid", "comments-first"):
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PROGRESS_LIMIT_S):
                answer = await stage.script(name)
        except TimeoutError:
            print(f"  {name}: still alive after {PROGRESS_LIMIT_S:.0f} s of comments")
            problems.append(
                f"{name}: no limit on a stream that makes no progress (none within {PROGRESS_LIMIT_S:.0f} s)"
            )
            await asyncio.sleep(1.0)
            continue
        print(f"  {name}: {answer[0]} {code(answer)} after {time.monotonic() - begun:.1f} s (limit {PROGRESS_S} s)")
        if code(answer) != "upstream_timeout":
            problems.append(f"{name}: {answer[2][-200:]!r}")
    return problems


async def f19_usage_that_lies(stage: Stage) -> list[str]:
    """Whatever usage says, the stream is whole, and nothing negative or absurd is booked."""
    problems = []
    for name, expected in USAGES.items():
        answer = await stage.script(name)
        record = await stage.record(answer)
        state, cost = record["cost"]["state"], record["cost"]["nano_usd"]
        print(f"  {name}: {answer[0]}, {state}, {cost} nano-USD")
        if answer[0] != 200 or b"[DONE]" not in answer[2]:
            problems.append(f"{name}: no normal stream: {answer[2][-200:]!r}")
        if state not in expected:
            problems.append(f"{name}: cost state {state}, not one of {expected}")
        if (cost is None) != (state == "unpriced") or (cost is not None and not 0 < cost < 10**6):
            problems.append(f"{name}: cost {cost}, {state}")
    return problems


CASES: dict[str, Case] = {
    "F08 refused connection": f08_refused_connection,
    "F10 F11 retry-after": f10_every_retry_after,
    "F13 own credential refused": f13_own_credential_refused,
    "F14 error first": f14_error_first,
    "F16 cut replies": f16_cut_at_random_bytes,
    "F16 cut replies, nginx": f16_cut_behind_nginx,
    "F17 stall, no bytes": f17_stall_without_bytes,
    "F17 stall, comments": f17_stall_with_comments,
    "F19 usage": f19_usage_that_lies,
}


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """Every case `count` times."""
    make(folder)
    with ExitStack() as stack:
        return await _run(folder, seed, count, stack)


async def _run(folder: Path, seed: int, count: int, stack: ExitStack) -> list[str]:
    problems: list[str] = []
    async with ScriptedUpstream(SCRIPTS, folder / "witness.jsonl") as scripted:
        # the proxy's target is known once the server runs
        proxy = FaultProxy(("127.0.0.1", 1), seed)
        async with proxy:
            before = stack.enter_context(bare_proxy(folder, proxy.port))
            nginx = before.port if before is not None else 0
            ports = {"behind": proxy.port, "scripted": scripted.port, "nginx": nginx or 1}
            providers = MORE_PROVIDERS.format(**ports, idle=IDLE_S)
            routes = ROUTES.replace("models:\n", providers + MORE_ROUTES)
            with running(folder, routes=routes, progress_idle_s=str(PROGRESS_S)) as server:
                proxy.target = ("127.0.0.1", server.simulator_port)
                secret = await asyncio.to_thread(server.new_key, "up", "--budget", "1000USD/month", "--rpm", "1000000")
                stage = Stage(server, secret, proxy, scripted, nginx)
                for _ in range(count):
                    problems += await _all(stage)
                problems += [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return problems


async def _all(stage: Stage) -> list[str]:
    problems: list[str] = []
    for name, case in CASES.items():
        print(f" {name}", flush=True)
        stage.proxy.set(CLEAN)
        try:
            found = await case(stage)
        except (AssertionError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            found = [repr(error)]
        green, text = await verified(stage.server)
        if not green:
            found.append(f"ledger verify is not green: {text}")
        print(f"  ledger verify {'green' if green else 'NOT GREEN'}; {len(found)} problems", flush=True)
        problems += [f"{name}: {problem}" for problem in found]
    return problems
