"""A coding agent's conversation under a budget of one and a half times what it truly costs: 60 turns, whose bodies grow
to 600 kB, with cache markers and long answers; now and then four subagents at once, each fan-out with a budget of its
own. With the official SDK and its own retries.

In `bound` two subagents' holds can fill a fan-out's budget. Who finds it so must be answered when it comes again; on a
machine so busy that answers outlast the SDK's two retries (some 20 s) that fails, and is a problem all the same.

First without limits, for the true cost; then with limits that hold estimates; then with limits that hold bounds.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
import openai
from live.running import Running, running

from benchmarks.campaign.books import verified
from benchmarks.campaign.history import Amounts, History, history_of

TURNS = 60
FAN_OUT_EVERY = 6
SUBAGENTS, SUBAGENT_TURNS = 4, 2
BODY_BYTES = 600_000
SHARE = 1.5
MODEL = "sim-large"
ANSWER_LIMIT = 8192
PACE_MS, SUBAGENT_PACE_MS = "0.5", "1.0"
"""A subagent's answer takes longer than a call waits for money that only others hold."""
WORDS = 4000
CACHED: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}


@dataclass
class Seen:
    """What one conversation met. `too_dear` were refused with 402, `gave_up` failed
    otherwise; `after_429` were answered once the SDK had tried again."""

    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failed: list[dict[str, Any]] = field(default_factory=list)
    gave_up: list[str] = field(default_factory=list)
    too_dear: int = 0
    after_429: int = 0
    largest_bytes: int = 0
    took_s: float = 0.0


class Conversation:
    """One seed is one conversation: the same texts, the same lengths of answers."""

    def __init__(self, server: Running, secret: str, seed: int) -> None:
        self.seen = Seen()
        self._chance = random.Random(seed)
        self._words = ["".join(self._chance.choices("etaoinshrdlucmfwyp", k=n % 9 + 3)) for n in range(WORDS)]
        hooks = {"response": [self._met]}
        self._client = openai.AsyncOpenAI(
            base_url=f"{server.url}/v1",
            api_key=secret,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
            timeout=120,
        )

    async def run(self) -> Seen:
        begun = time.monotonic()
        messages = [self._message("system", 20_000)]
        for turn in range(1, TURNS + 1):
            messages.append(self._message("user", (BODY_BYTES - 20_000) // TURNS - 1_000))
            answer = await self._ask(messages, self._chance.randint(200, 4000), "")
            messages.append({"role": "assistant", "content": answer[:900]})
            if turn % FAN_OUT_EVERY == 0:
                fan_out = f"fan-out-{turn}"
                plans = [
                    [(self._message("user", self._chance.randint(20_000, 75_000)), self._chance.randint(500, 6000))
                     for _ in range(SUBAGENT_TURNS)]
                    for _ in range(SUBAGENTS)
                ]  # fmt: skip
                await asyncio.gather(*(self._subagent(plan, fan_out) for plan in plans))
        await self._client.close()
        self.seen.took_s = time.monotonic() - begun
        return self.seen

    async def _subagent(self, plan: list[tuple[dict[str, Any], int]], session: str) -> None:
        messages: list[dict[str, Any]] = []
        for message, tokens in plan:
            messages.append(message)
            answer = await self._ask(messages, tokens, session)
            messages.append({"role": "assistant", "content": answer[:900]})

    async def _ask(self, messages: list[Any], tokens: int, session: str) -> str:
        headers = {"x-sim-tokens": str(tokens), "x-sim-token-interval-ms": SUBAGENT_PACE_MS if session else PACE_MS}
        if session:
            headers["x-faregate-session"] = session
        self.seen.calls += 1
        self.seen.largest_bytes = max(self.seen.largest_bytes, len(json.dumps(messages)))
        parts: list[str] = []
        try:
            stream = await self._client.chat.completions.create(
                model=MODEL,
                messages=messages,
                max_completion_tokens=ANSWER_LIMIT,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers=headers,
            )
            async for chunk in stream:
                parts += [choice.delta.content or "" for choice in chunk.choices]
        except openai.APIError as error:
            if getattr(error, "code", "") == "budget_exceeded":
                self.seen.too_dear += 1
            else:
                self.seen.gave_up.append(str(error)[:200])
        return "".join(parts)

    async def _met(self, response: httpx2.Response) -> None:
        self.seen.statuses[response.status_code] += 1
        if response.status_code != 200:
            await response.aread()
            error = response.json()["error"]
            self.seen.failed.append(error if isinstance(error, dict) else {"message": str(error)})
        elif int(response.request.headers.get("x-stainless-retry-count", "0")):
            self.seen.after_429 += 1

    def _message(self, role: str, size: int) -> dict[str, Any]:
        words: list[str] = []
        while size > 0:
            words.append(self._chance.choice(self._words))
            size -= len(words[-1]) + 1
        return {"role": role, "content": [{"type": "text", "text": " ".join(words), **CACHED}]}


def limits_text(hold: str, run_nusd: int, fan_out_nusd: int) -> str:
    return (
        "limits:\n"
        f"  run: {{ limit: {run_nusd / 1e9:.9f}USD/total, scope: {{ team: agents }}, hold: {hold} }}\n"
        f"  fan-out: {{ limit: {fan_out_nusd / 1e9:.9f}USD/total, scope: {{ team: agents, session: each }}, "
        f"hold: {hold} }}\n"
    )


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """The three conversations of `seed`; `count` changes nothing. Problems found; figures are printed."""
    free, seen, problems = await _converse(folder / "free", seed, "", {})
    if problems or seen.statuses.keys() != {200}:
        return [*problems, f"without limits: {dict(seen.statuses)}"]
    run_nusd = free.spent_of("run")
    fan_out_nusd = max(free.spent_by("fan-out").values())
    print(f"  true cost {run_nusd / 1e9:.4f} USD, the dearest fan-out {fan_out_nusd / 1e9:.4f} USD")
    amounts = {"run": int(run_nusd * SHARE), "fan-out": int(fan_out_nusd * SHARE)}
    for hold in ("estimate", "bound"):
        history, seen, found = await _converse(folder / hold, seed, hold, amounts)
        problems += [f"{hold}: {one}" for one in found]
        if hold == "estimate":
            problems += [f"estimate: refused: {error}" for error in seen.failed]
        problems += [f"{hold}: gave up: {one}" for one in seen.gave_up]
        problems += [f"{hold}: a 402 that nothing forced: {one}" for one in seen.failed if not _forced(one)]
        over = {name: most - amounts[name] for name in amounts if (most := max(history.spent_by(name).values())) > 0}
        print(
            "  "
            + ", ".join(
                f"{name}: {'overshot by ' + str(nusd) if nusd > 0 else str(-nusd) + ' left'} nano-USD"
                for name, nusd in over.items()
            )
        )
        if hold == "bound":
            problems += [f"bound: overrun: {one}" for one in history.overruns]
    return problems


def _forced(error: Mapping[str, Any]) -> bool:
    """A refusal for good is forced by what is spent plus its own hold; `budget_reserved` asks to come again."""
    if error.get("code") != "budget_exceeded":
        return True
    return int(error["spent_nusd"]) + int(error["required_nusd"]) > int(error["limit_nusd"])


async def _converse(folder: Path, seed: int, hold: str, allowed: dict[str, int]) -> tuple[History, Seen, list[str]]:
    policies = folder / "policies"
    policies.mkdir(parents=True)
    most = {"run": 10**15, "fan-out": 10**15} | allowed
    (policies / "limits.yaml").write_text(limits_text(hold or "estimate", most["run"], most["fan-out"]))
    amounts: Amounts = {name: [(0, amount)] for name, amount in most.items()}
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "agent", "--team", "agents")
        seen = await Conversation(server, secret, seed).run()
        green, text = await verified(server)
        history = history_of(server.data_dir / "journal", amounts)
    codes = Counter(str(error.get("code")) for error in seen.failed)
    print(
        f"  {hold or 'no limit'}: {seen.calls} calls in {seen.took_s:.0f} s, bodies to "
        f"{seen.largest_bytes / 1000:.0f} kB, answers {dict(seen.statuses)}, refusals {dict(codes)}, "
        f"{seen.after_429} answered when asked again, {len(seen.gave_up)} gave up; hold ÷ cost {_spread(history)}"
    )
    problems = [] if green else [f"ledger verify is not green: {text}"]
    if history.open:
        problems.append(f"{len(history.open)} holds are open")
    return history, seen, problems


def _spread(history: History) -> str:
    ratios = history.ratios["run"]
    cuts = quantiles(ratios, n=20)
    return f"p50 {cuts[9]:.2f}, p95 {cuts[18]:.2f}, least {min(ratios):.2f}"
