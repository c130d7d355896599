"""A month of made-up calls of a made-up company, as the records a worker would have appended: for pictures only.

The same dice each run. Only the figures are invented: prices, bounds and estimates come from the gateway's own code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.core.call import Head
from gateway.core.charge import CostState, PriceSheet
from gateway.core.ids import make_id
from gateway.core.records import AnyRecord, AttemptEnd, Dispatch, Entry, Features, Hold, Settle
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.ledger.estimate import estimated_end
from gateway.ledger.standing import OpenHold
from gateway.pricing.arithmetic import charge, pinned
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import hold_bound

SEED = 20
DAYS = 31
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
ORG = "default"
BY_HOUR = (3, 2, 2, 2, 3, 5, 9, 18, 34, 44, 48, 46, 40, 45, 49, 47, 42, 35, 25, 18, 13, 10, 7, 4)
"""How many calls begin in which hour, UTC."""


@dataclass(frozen=True, slots=True)
class Model:
    """A public model and where it goes. `tokens_per_s` decides how long an answer takes."""

    name: str
    provider: str
    tokens_per_s: int
    sheet: PriceSheet | None

    @property
    def embeds(self) -> bool:
        return "embedding" in self.name

    @property
    def reasons(self) -> bool:
        return self.name.startswith(("gpt-5", "o4"))

    @property
    def deployment(self) -> str:
        return f"{self.provider}/{self.name}"


@dataclass(frozen=True, slots=True)
class App:
    """A key and its habits: calls on a working day, models by weight, median tokens in and out, share cached."""

    key: str
    team: str
    calls: int
    models: dict[str, int]
    tokens: tuple[int, int]
    cached: float = 0.0


APPS = (
    App("support-bot", "support", 420, {"gpt-4.1": 3, "gpt-5-mini": 5}, (6_500, 420), 0.45),
    App("support-triage", "support", 260, {"gpt-5-nano": 8, "gpt-4o-mini": 2}, (1_300, 60)),
    App("search-answers", "search", 310, {"gpt-5-mini": 6, "o4-mini": 3}, (9_000, 680), 0.3),
    App("search-index", "search", 190, {"text-embedding-3-small": 1}, (5_200, 0)),
    App("contract-review", "legal", 48, {"gpt-5.1": 3, "gpt-4.1": 4}, (38_000, 2_400), 0.1),
    App("code-agent", "platform", 150, {"gpt-5.1": 6, "gpt-5-mini": 3}, (41_000, 1_500), 0.7),
    App("nightly-evals", "platform", 110, {"o4-mini": 4, "gpt-4o": 2, "house-llama": 1}, (4_400, 900)),
    App("copy-desk", "marketing", 84, {"gpt-4o": 5, "gpt-5.1": 1}, (4_900, 1_100)),
)


def models() -> dict[str, Model]:
    """What the company routes to. Its own llama has no price, so its calls are unpriced."""
    book = PriceBook()
    rows = (
        ("gpt-5.1", "openai", 62), ("gpt-5-mini", "openai", 105), ("gpt-5-nano", "openai", 160),
        ("o4-mini", "openai", 95), ("text-embedding-3-small", "openai", 1), ("gpt-4.1", "openai-eu", 78),
        ("gpt-4o", "openai-eu", 84), ("gpt-4o-mini", "openai-eu", 110), ("house-llama", "local", 48),
    )  # fmt: skip
    kinds = {"openai": "openai", "openai-eu": "openai", "local": "local"}
    return {name: Model(name, provider, speed, book.sheet(kinds[provider], name)) for name, provider, speed in rows}


@dataclass(frozen=True, slots=True)
class Story:
    """One call as the dice have it."""

    app: App
    model: Model
    started_ms: int
    outcome: str
    tokens_in: int
    cached: int
    tokens_out: int
    reasoning: int
    latency_us: tuple[int, int]


@dataclass(slots=True)
class Month:
    """The journal of a worker that took all the calls."""

    keys: dict[str, str]
    models: dict[str, Model]
    now_ms: int
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311 - figures, not secrets
    journal_id: bytes = b"made-up-month-01"
    seq: int = 0
    shown: bytes = b""
    """The call whose page is shown."""

    def entries(self) -> Iterator[Entry]:
        """A month of records up to now, in the order of the calls; the last one is still running."""
        for started_ms, app in sorted(self._starts(), key=lambda start: start[0]):
            yield from self._call(self._story(app, started_ms))
        code = next(app for app in APPS if app.key == "code-agent")
        model = self.models["gpt-5.1"]
        shown = Story(code, model, self.now_ms - 31_870, "ok", 38_412, 30_208, 1_846, 320, (5_904_000, 29_406_000))
        records = list(self._call(shown))
        self.shown = records[0].call_id
        yield from records
        yield from self._call(Story(code, model, self.now_ms - 2_140, "running", 52_006, 0, 0, 0, (-1, -1)))

    def _starts(self) -> Iterator[tuple[int, App]]:
        today_ms = self.now_ms - self.now_ms % DAY_MS
        for back in range(DAYS):
            day_ms = today_ms - back * DAY_MS
            quiet = 0.3 if (day_ms // DAY_MS + 4) % 7 in (0, 6) else 1.0
            mood = quiet * (1.12 - 0.009 * back) * self.dice.uniform(0.86, 1.14)
            for app in APPS:
                for _ in range(int(app.calls * mood * self.dice.uniform(0.8, 1.2))):
                    hour = self.dice.choices(range(24), BY_HOUR)[0]
                    started_ms = day_ms + hour * HOUR_MS + self.dice.randrange(HOUR_MS)
                    if started_ms < self.now_ms - 40_000:
                        yield started_ms, app
        for _ in range(24):  # there is always somebody at work in the picture's last minutes
            yield self.now_ms - self.dice.randrange(40_000, 400_000), self.dice.choice(APPS)

    def _story(self, app: App, started_ms: int) -> Story:
        dice = self.dice
        model = self.models[dice.choices(list(app.models), list(app.models.values()))[0]]
        outcome = dice.choices(("ok", "error", "client_gone", "refused"), (9_750, 90, 110, 50))[0]
        tokens_in = min(120_000, int(app.tokens[0] * dice.lognormvariate(0, 0.6)) + 20)
        tokens_out = 0 if model.embeds else min(12_000, int(app.tokens[1] * dice.lognormvariate(0, 0.7)) + 4)
        cached = int(tokens_in * app.cached * dice.uniform(0.4, 1.3)) // 128 * 128 if model.sheet else 0
        reasoning = int(tokens_out * dice.uniform(0.2, 0.7)) // 64 * 64 if model.reasons else 0
        first_us = int((0.16 + tokens_in / 90_000 + reasoning / model.tokens_per_s) * dice.uniform(0.8, 1.5) * 1e6)
        whole_us = first_us + int((tokens_out - reasoning) / model.tokens_per_s * dice.uniform(0.9, 1.3) * 1e6)
        if outcome == "error":
            whole_us = first_us // 3
        return Story(app, model, started_ms, outcome, tokens_in, cached, tokens_out, reasoning, (first_us, whole_us))

    def _call(self, story: Story) -> Iterator[Entry]:
        """The records of one call, as the flow appends them."""
        call_id = make_id(story.started_ms, self.dice.randbytes(10))
        if story.outcome == "refused":
            yield self._entry(call_id, self._settle(call_id, story, None, None))
            return
        hold = self._hold(story)
        yield self._entry(call_id, hold)
        yield self._entry(call_id, Dispatch(hold.ts_ms + 1, hold.attempt_id))
        if story.outcome == "running":
            return
        end = self._end(call_id, story, hold)
        yield self._entry(call_id, end)
        yield self._entry(call_id, self._settle(call_id, story, hold, end))

    def _entry(self, call_id: bytes, record: AnyRecord) -> Entry:
        self.seq += 1
        return Entry(self.journal_id, self.seq, call_id, record, 0, self.seq * 256)

    def _hold(self, story: Story) -> Hold:
        app, model, at_ms = story.app, story.model, story.started_ms + 1
        head = Head(
            model=model.name,
            stream=not model.embeds,
            max_output_tokens=max(1_024, -(-story.tokens_out // 4_096) * 4_096),
            text_bytes=story.tokens_in * 4,
            output_expected=not model.embeds,
        )
        return Hold(
            ts_ms=at_ms,
            attempt_id=make_id(at_ms, self.dice.randbytes(10)),
            attempt_no=1,
            org=ORG,
            team=app.team,
            key_id=self.keys[app.key],
            user="dana" if app.key == "code-agent" else "",
            session="refactor-billing" if app.key == "code-agent" else "",
            tags=(("env", "prod"),),
            endpoint=_endpoint(model),
            model_asked=model.name,
            deployment=model.deployment,
            provider=model.provider,
            model=model.name,
            config_revision=len(APPS) + 2,
            started_ms=story.started_ms,
            takes=(),
            counts=(),
            bound_nusd=hold_bound(head, model.sheet, at_ms).nusd,
            input_estimate=story.tokens_in * 4 // 3,
            rates=pinned(model.sheet, at_ms) if model.sheet else (),
            stream=head.stream,
        )

    def _end(self, call_id: bytes, story: Story, hold: Hold) -> AttemptEnd:
        first_us, whole_us = story.latency_us
        ended_ms = story.started_ms + whole_us // 1_000
        if story.outcome == "client_gone":
            left = OpenHold(call_id, hold)
            left.output_tokens = story.tokens_out // 2
            return estimated_end(
                left,
                ts_ms=ended_ms,
                outcome="client_gone",
                cause="client_gone",
                status=200,
                model_served=story.model.name,
                ttft_us=first_us,
                duration_us=whole_us,
            )
        failed = story.outcome == "error"
        usage = Usage({}, UsageSource.NONE) if failed else _usage(story)
        cost = charge(usage, story.model.sheet, hold.ts_ms)
        return AttemptEnd(
            ts_ms=ended_ms,
            attempt_id=hold.attempt_id,
            outcome=story.outcome,
            cause="http_503" if failed else "",
            status=503 if failed else 200,
            posted=(),
            lines=cost.lines,
            state=CostState.PRICED if failed else cost.state,
            source=usage.source,
            list_nusd=0 if failed else cost.list_nusd,
            effective_nusd=0 if failed else cost.effective_nusd,
            raw_usage=usage.raw,
            served_tier=usage.served_tier,
            model_served="" if failed else story.model.name,
            finish_reason="" if failed or story.model.embeds else "stop",
            upstream_id="",
            ttft_us=-1 if failed else first_us,
            duration_us=whole_us,
            input_tokens=usage.input_tokens(),
            output_tokens=usage.output_tokens(),
            reasoning_tokens=usage.reasoning_tokens,
        )

    def _settle(self, call_id: bytes, story: Story, hold: Hold | None, end: AttemptEnd | None) -> Settle:
        app, model = story.app, story.model
        overhead_us = self.dice.randrange(240, 900)
        refused = hold is None
        status, code = {"refused": (429, "rate_limit_exceeded"), "error": (502, "upstream_error")}.get(
            story.outcome, (200, "")
        )
        duration_us = overhead_us + (0 if end is None else end.duration_us)
        return Settle(
            ts_ms=story.started_ms + duration_us // 1_000 + 1,
            attempt_id=call_id if hold is None else hold.attempt_id,
            started_ms=story.started_ms,
            org=ORG,
            team=app.team,
            key_id=self.keys[app.key],
            user="" if hold is None else hold.user,
            session="" if hold is None else hold.session,
            tags=() if hold is None else hold.tags,
            config_revision=len(APPS) + 2,
            verdicts=("allowed_models:allow",),
            features=Features(body_bytes=story.tokens_in * 4, messages=4),
            endpoint=_endpoint(model),
            stream=not model.embeds,
            model_asked=model.name,
            model_planned="" if refused else model.name,
            model_served="" if end is None else end.model_served,
            deployment="" if refused else model.deployment,
            provider="" if refused else model.provider,
            attempts=0 if refused else 1,
            causes=(f"{model.deployment}: {end.cause}",) if end is not None and end.cause else (),
            outcome=story.outcome,
            status=status,
            error_code=code,
            finish_reason="" if end is None else end.finish_reason,
            refusal=False,
            ttft_us=-1 if end is None or end.ttft_us < 0 else end.ttft_us + overhead_us // 2,
            duration_us=duration_us,
            overhead_us=overhead_us,
            cost_state=CostState.PRICED if end is None else end.state,
            list_nusd=0 if end is None else end.list_nusd,
            effective_nusd=0 if end is None else end.effective_nusd,
            input_tokens=0 if end is None else end.input_tokens,
            output_tokens=0 if end is None else end.output_tokens,
            row_ids=() if end is None else tuple(line.row_id for line in end.lines if line.row_id),
            raw_usage=b"" if end is None else end.raw_usage,
            trace_id=self.dice.randbytes(16),
            span_id=self.dice.randbytes(8),
        )


def _endpoint(model: Model) -> str:
    return "embeddings" if model.embeds else "chat.completions"


def _usage(story: Story) -> Usage:
    """The usage a provider reports, and its meters."""
    raw: dict[str, Any] = {"prompt_tokens": story.tokens_in, "total_tokens": story.tokens_in + story.tokens_out}
    if not story.model.embeds:
        raw["completion_tokens"] = story.tokens_out
        raw["prompt_tokens_details"] = {"cached_tokens": story.cached}
        raw["completion_tokens_details"] = {"reasoning_tokens": story.reasoning}
    meters = {
        Meter.INPUT: story.tokens_in - story.cached,
        Meter.CACHE_READ: story.cached,
        Meter.OUTPUT: story.tokens_out,
    }
    return Usage(
        {meter: quantity for meter, quantity in meters.items() if quantity},
        UsageSource.PROVIDER,
        story.reasoning,
        json.dumps(raw).encode(),
        served_tier="" if story.model.embeds else "default",
    )
