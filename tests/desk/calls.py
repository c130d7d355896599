"""Calls to fill a ledger with, from single ones to a month that looks like one."""

from __future__ import annotations

import random

import msgspec

from desk.fakes import NOW_MS
from gateway.core.charge import Line
from gateway.core.ids import ATTEMPT, CALL, make_id, print_id
from gateway.core.queries import AttemptRow, CallRow

PRICES = {  # model: (deployment, pico-USD per input token, per output token, weight)
    "claude-sonnet-4-5": ("anthropic/claude-sonnet-4-5", 3_000_000, 15_000_000, 5),
    "gpt-5": ("openai/gpt-5", 1_250_000, 10_000_000, 4),
    "gemini-2.5-pro": ("google/gemini-2.5-pro", 1_250_000, 10_000_000, 3),
    "gpt-5-mini": ("openai/gpt-5-mini", 250_000, 2_000_000, 6),
    "claude-haiku-4-5": ("anthropic/claude-haiku-4-5", 1_000_000, 5_000_000, 4),
    "text-embedding-3-small": ("openai/text-embedding-3-small", 20_000, 0, 3),
    "house-llama": ("vllm/house-llama", 0, 0, 1),
}


def make_call(
    started_ms: int = NOW_MS - 60_000,
    *,
    key_id: str = "k",
    team: str = "",
    org: str = "default",
    model: str = "gpt-5-mini",
    tokens: tuple[int, int] = (1_000, 200),
    outcome: str = "ok",
    cost_state: str = "priced",
    chance: int = 1,
) -> tuple[CallRow, tuple[AttemptRow, ...]]:
    """One call with one attempt, its cost the exact sum of its lines."""
    deployment, rate_in, rate_out, _ = PRICES[model]
    raw = make_id(started_ms, chance.to_bytes(10, "big"))
    priced = cost_state != "unpriced"
    quantities = (("input", tokens[0], rate_in), ("output", tokens[1], rate_out))
    lines = tuple(
        Line(meter, count, rate if priced else None, 1, nusd, nusd, f"{model}:{meter}:2026-08-01" if priced else "")
        for meter, count, rate in quantities
        if count
        for nusd in [count * rate // 1000 if priced else None]
    )
    nusd = sum(line.effective_nusd or 0 for line in lines) if priced else None
    running = outcome == "running"
    times = (-1, -1, -1) if running else (180_000 + tokens[0] * 9, 260_000 + tokens[1] * 14_000, 290)
    call = CallRow(
        print_id(CALL, raw), started_ms, org, team, key_id, "", "", {}, "chat.completions", True, model,
        "" if running else model, deployment, deployment.partition("/")[0], outcome, 0 if running else 200,
        "" if outcome == "ok" else "upstream_error" if outcome == "error" else "", "stop" if outcome == "ok" else "",
        1, () if outcome == "ok" else ("timeout",), cost_state, None if running else nusd, None if running else nusd,
        0 if running else tokens[0], 0 if running else tokens[1], *times, 12, raw.hex(),
    )  # fmt: skip
    attempt = AttemptRow(
        print_id(ATTEMPT, raw), 1, deployment, outcome, "" if outcome == "ok" else "timeout", 200,
        cost_state, "estimated" if cost_state == "estimated" else "provider", nusd, nusd,
        None if nusd is None else nusd * 3 + 40_000, tokens[0], tokens[1], 0, times[0], times[1], lines,
        f'{{"prompt_tokens":{tokens[0]},"completion_tokens":{tokens[1]}}}',
    )  # fmt: skip
    if running:
        nothing = {"cause": "", "status": 0, "state": "", "source": "", "effective_nusd": None, "list_nusd": None}
        counts = {"input_tokens": 0, "output_tokens": 0, "lines": (), "raw_usage": ""}
        attempt = msgspec.structs.replace(attempt, **nothing, **counts)
    return call, (attempt,)


def make_month(
    keys: list[tuple[str, str]], days: int = 24, per_day: int = 60, seed: int = 7
) -> list[tuple[CallRow, tuple[AttemptRow, ...]]]:
    """A month up to now of calls by `keys` (id, team), quieter at week-ends, with failures. The same each run."""
    dice = random.Random(seed)
    models = list(PRICES)
    weights = [PRICES[model][3] for model in models]
    today = NOW_MS - NOW_MS % 86_400_000
    found = []
    for back in range(days):
        day_ms = today - back * 86_400_000
        weekend = (day_ms // 86_400_000 + 4) % 7 in (0, 6)
        for number in range(per_day // 2 if weekend else per_day + dice.randrange(per_day // 3)):
            key_id, team = keys[min(int(dice.paretovariate(1.1)) - 1, len(keys) - 1)]
            at = day_ms + (number * 1_171_000 + dice.randrange(900_000)) % (
                NOW_MS - today - 4_000 if not back else 86_400_000
            )
            model = dice.choices(models, weights)[0]
            fate = dice.random()
            outcome = "error" if fate < 0.012 else "client_gone" if fate < 0.02 else "ok"
            state = "unpriced" if model == "house-llama" else "estimated" if outcome == "client_gone" else "priced"
            size = (int(dice.lognormvariate(9.6, 1.3)), 0 if "embed" in model else int(dice.lognormvariate(6.4, 1.0)))
            found.append(
                make_call(
                    at,
                    key_id=key_id,
                    team=team,
                    model=model,
                    tokens=size,
                    outcome=outcome,
                    cost_state=state,
                    chance=back * 10_000 + number + 1,
                )
            )
    found.append(
        make_call(NOW_MS - 900, key_id=keys[0][0], team=keys[0][1], model="gpt-5", outcome="running", chance=9)
    )
    return found
