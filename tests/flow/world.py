"""A small world for the request path: real keys, surfaces, limits and prices; everything outside is a fake.

A model's name says where it goes: `fast` to a provider that stops billing when its connection closes, `steady` to one
that bills on (`on_disconnect: drain`), `unpriced`, `keyless`, `both` (two deployments), `any/…` (a wildcard).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from vault.fakes import Chance, peppers, record

from flow.fakes import (
    NOW_MS,
    CallersExchange,
    CountingMetrics,
    Event,
    Gone,
    LoopClock,
    RecordingJournal,
    Scripted,
    ScriptedUpstream,
)
from flow.virtual_time import Stepping
from gateway.cache import nothing
from gateway.core.caller import KeyRecord, Permission
from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings
from gateway.core.errors import ConfigInvalid, FaregateError
from gateway.core.limits import Limit
from gateway.core.records import AnyRecord, AttemptEnd, Settle
from gateway.counters.memory import MemoryEngine
from gateway.dialects.discover import discover as discover_surfaces
from gateway.flow.compose import AsSent
from gateway.flow.run import run
from gateway.flow.services import PathSettings, Services
from gateway.limits.wants import Wants
from gateway.policies import allowed_models
from gateway.providers.discover import discover as discover_providers
from gateway.providers.row import ProviderRow
from gateway.vault.keyring import MemoryKeyRing

SECRET = "sk-upstream-0123456789-do-not-show"
INPUT_NUSD, OUTPUT_NUSD = 2, 10
MAX_OUTPUT = 100
SURFACES = discover_surfaces()
PROVIDERS = discover_providers()
TELLS_PROMPT_FIRST = {
    kind: msgspec.structs.replace(row, quirks=msgspec.structs.replace(row.quirks, tells_prompt_first=True))
    for kind, row in PROVIDERS.items()
}
"""As if every provider were known for it."""
PEPPERS = peppers()
WHO = ("app", "narrow", "paused", "expired", "boss", "scrape", "stranger")
MINTED = {name: PEPPERS.mint(Chance(number), "live") for number, name in enumerate(WHO, 1)}
KEY_TEXTS = {name: minted.text for name, minted in MINTED.items()}

SETTINGS = PathSettings(
    max_reply_bytes=100_000,
    first_event_wait_s=15.0,
    heartbeat_s=15.0,
    reserve_wait_s=2.0,
    reserve_last_wait_s=30.0,
    drain_max_s=60.0,
    budget_status=402,
    power=False,
)


def key_records(limits: Sequence[Limit]) -> list[KeyRecord]:
    return [
        record(MINTED["app"], limits=tuple(limits), tags=(("env", "prod"),), org="acme", team="search"),
        record(MINTED["narrow"], models=("fa*",)),
        record(MINTED["paused"], paused=True),
        record(MINTED["expired"], expires_ms=NOW_MS),
        record(MINTED["boss"], role="admin"),
        record(MINTED["scrape"], role="metrics"),
    ]


def _policy() -> Policy:
    def provider(name: str, **members: Any) -> ProviderSettings:
        base: dict[str, Any] = {
            "name": name, "kind": "openai", "dialect": "openai_chat", "base_url": f"http://{name}.test/v1",
            "credential": "env:UPSTREAM_KEY",
        }  # fmt: skip
        return ProviderSettings(**{**base, **members})

    def route(name: str, *deployments: str) -> ModelRoute:
        return ModelRoute(name, tuple(Deployment(one, *one.split("/", 1)) for one in deployments))

    providers = [
        provider("cancels"),
        provider("drains", on_disconnect="drain"),
        provider("keyless", credential="env:MISSING"),
        provider("simulated", kind="simulated", credential=""),
    ]
    routes = [
        route("fast", "cancels/gpt-test"),
        route("steady", "drains/gpt-test"),
        route("unpriced", "cancels/gpt-unpriced"),
        route("keyless", "keyless/gpt-test"),
        route("sim", "simulated/gpt-test"),
        route("both", "cancels/gpt-test", "drains/gpt-test"),
    ]
    rows = tuple(
        PriceRow(id=f"row-{meter}", meter=meter, rate_pico=nusd * 1000, source="demo")
        for meter, nusd in (("input", INPUT_NUSD), ("output", OUTPUT_NUSD))
    )
    sheets = {f"{kind}/gpt-test": PriceSheet("gpt-test", rows, 8000, MAX_OUTPUT) for kind in ("openai", "simulated")}
    return Policy(
        revision=7,
        hash="h",
        providers={one.name: one for one in providers},
        models={one.name: one for one in routes},
        wildcards=(route("any/*", "cancels/*"),),
        sheets=sheets,
    )


POLICY = _policy()


class Held:
    """core.ports.Configuration."""

    def __init__(self, keys: MemoryKeyRing) -> None:
        self.policy = POLICY
        self.keys = keys

    def credential(self, reference: str) -> str:
        if reference == "env:MISSING":
            raise ConfigInvalid("credential env:MISSING: the environment variable MISSING is not set")
        return SECRET if reference else ""


def chat(model: str = "fast", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Say something."}], **more}).encode()


@dataclass
class Ended:
    """One call as its caller saw it. `error` is what `run` raised: a refusal before identification, a cancellation."""

    exchange: CallersExchange
    error: BaseException | None
    suspensions: int

    @property
    def status(self) -> int:
        assert self.exchange.head is not None
        return self.exchange.head.status

    @property
    def json(self) -> Any:
        return json.loads(self.exchange.sent)


@dataclass
class World:
    """`scripts` are what the provider does, `refuse` the record types the journal does not take."""

    scripts: Sequence[Scripted] = ()
    limits: Sequence[Limit] = ()
    refuse: Sequence[type] = ()
    fresh_ms: int = NOW_MS
    settings: dict[str, Any] = field(default_factory=dict)
    providers: dict[str, ProviderRow] = field(default_factory=lambda: PROVIDERS)
    guards: tuple[Any, ...] = (allowed_models.MEMBER,)
    events: list[Event] = field(default_factory=list)
    calls: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = RecordingJournal(self.events, self.refuse)
        self.engine = MemoryEngine()
        self.upstream = ScriptedUpstream(self.events, self.scripts or [Scripted()])
        self.metrics = CountingMetrics()
        keys = MemoryKeyRing(PEPPERS, b"d" * 32)
        keys.load(key_records(self.limits), revision=1, fresh_ms=self.fresh_ms)
        self.services = Services(
            clock=LoopClock(),
            entropy=Chance(99),
            configuration=Held(keys),
            journal=self.journal,
            limits=self.engine,
            wants=Wants(),
            upstream=self.upstream,
            surfaces=SURFACES,
            providers=self.providers,
            guards=self.guards,
            composer=AsSent(),
            recall=nothing.MEMBER,
            metrics=self.metrics,
            settings=replace(SETTINGS, **self.settings),
        )

    def records(self, kind: type | None = None) -> list[Any]:
        return [entry.record for entry in self.journal.entries if kind is None or type(entry.record) is kind]

    @property
    def settle(self) -> Settle:
        (only,) = self.records(Settle)
        return only

    @property
    def end(self) -> AttemptEnd:
        (only,) = self.records(AttemptEnd)
        return only

    def spent(self, limit: Limit) -> tuple[int, int]:
        """(spent, reserved) under a limit of the app's key, whatever its window."""
        names = [name for name in self.engine.books.counters if name.startswith(f"{limit.id}|")]
        sums = [self.engine.standing(name) for name in names]
        return sum(spent for spent, _ in sums), sum(reserved for _, reserved in sums)

    async def call(
        self,
        body: bytes | Sequence[bytes | float | FaregateError | Gone] = b"",
        *,
        key: str = "app",
        surface: str = "chat.completions",
        headers: dict[str, str] | None = None,
        write_s: float = 0.0,
        strike_at: int = -1,
        strike: Callable[[CallersExchange, asyncio.Task[Any]], None] | None = None,
    ) -> Ended:
        """One call from its first byte to its end. `strike` happens while the path is in its `strike_at`th wait."""
        sent = {"authorization": f"Bearer {KEY_TEXTS.get(key, key)}"} if key else {}
        parts = [body or chat()] if isinstance(body, bytes) else body
        exchange = CallersExchange(self.events, {**sent, **(headers or {})}, parts, write_s)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = []

        def suspended(number: int) -> None:
            if strike is not None and number == strike_at:
                loop.call_soon(strike, exchange, tasks[0])

        stepping = Stepping(run(exchange, SURFACES[surface], Permission.CALL_MODELS, self.services), suspended)

        async def driven() -> None:
            await stepping

        tasks.append(loop.create_task(driven()))
        (error,) = await asyncio.gather(tasks[0], return_exceptions=True)
        ended = Ended(exchange, error, stepping.suspensions)
        self.calls.append(ended)
        return ended


def records_of(world: World, call_id: bytes) -> list[AnyRecord]:
    return [entry.record for entry in world.journal.entries if entry.call_id == call_id]
