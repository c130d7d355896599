"""What each step of the path costs in CPU, by timing the very functions of the path on the bench's call.

One process, no network: identify to settle with the real key ring, surfaces, limits, price sheet and a journal on the
file system. read, write, dispatch and relay are what is left of a whole call's CPU; the report shows both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.upstream import REPLY
from benchmarks.wrk import BODY
from gateway.cache import nothing
from gateway.core.caller import Caller, KeyRecord, Permission
from gateway.core.config import Policy
from gateway.core.ids import make_id
from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.core.ports import Composed
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.counters.memory import MemoryEngine
from gateway.dialects.discover import discover as surfaces
from gateway.exporters.prometheus import PrometheusMetrics
from gateway.flow.admit import admit
from gateway.flow.compose import AsSent
from gateway.flow.guard import guard
from gateway.flow.identify import identify
from gateway.flow.reserve import reserve
from gateway.flow.services import PathSettings, Services
from gateway.flow.settle import conclude
from gateway.flow.shrink import shrink
from gateway.flow.state import Attempt, Passage
from gateway.journal.writer import JournalWriter
from gateway.limits.wants import Wants
from gateway.policies import allowed_models
from gateway.pricing.book import PriceBook
from gateway.providers.discover import discover as providers
from gateway.routing.compile import compile_policy
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.configuration import WorkerConfiguration
from gateway.vault.credentials import Credentials
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.peppers import Peppers

ROUNDS = 20_000
Result = TypeVar("Result")
ROUTES = (
    "providers:\n  instant: {kind: simulated, base_url: 'http://127.0.0.1:1/v1'}\nmodels: {bench: instant/sim-small}\n"
)
_BODY = BODY.encode()
EARLY = Usage(meters={Meter.INPUT: len(_BODY) // 4}, source=UsageSource.PROVIDER)
"""What a provider that counts first says of the bench's prompt."""


MATCHING = (1, 5, 50)
"""How many limits match a call in `limit_costs`."""
LIMIT_ROUNDS = 4_000
SHRINKS = 2_000


def step_costs(rounds: int = ROUNDS) -> dict[str, float]:
    """Median µs per call and step, of a key with one request limit and two budgets."""
    with tempfile.TemporaryDirectory(prefix="fgs") as folder:
        costs = Bench(Path(folder), usual_limits).run(rounds)
    del costs["price"]  # settle has it in it
    return costs


def limit_costs(rounds: int = LIMIT_ROUNDS) -> dict[int, dict[str, float]]:
    """Median µs of the steps that limits are part of, by how many of them match: as many on requests as on money."""
    found = {}
    for count in MATCHING:
        with tempfile.TemporaryDirectory(prefix="fgs") as folder:
            costs = Bench(Path(folder), partial(_many_limits, count)).run(rounds)
        found[count] = {name: costs[name] for name in ("admit", "reserve", "settle", "price")}
    return found


def shrink_us(shrinks: int = SHRINKS) -> float:
    """Median µs of shrinking a hold of two budgets once its prompt is known: once a stream that tells it early."""
    with tempfile.TemporaryDirectory(prefix="fgs") as folder:
        return Bench(Path(folder), usual_limits).shrink_us(shrinks)


class _Present:
    """core.ports.Disconnect of a caller that stays."""

    gone = False

    def on_gone(self, callback: Callable[[], None]) -> None:
        return

    def forget(self) -> None:
        return


class Bench:
    """The path's own parts on a policy of routes, with one key; its journal is in `folder`."""

    def __init__(self, folder: Path, limits_of: Callable[[str], tuple[Limit, ...]], routes: str = ROUTES) -> None:
        clock, entropy = SystemClock(), SystemEntropy()
        peppers = Peppers({1: entropy.bytes(32)})
        minted = peppers.mint(entropy, "live")
        ring = MemoryKeyRing(peppers, entropy.bytes(32))
        ring.load((_key(minted.key_id, minted.version, minted.digest, limits_of),), 1, clock.now_ms())
        self.headers = {"authorization": f"Bearer {minted.text}", "content-type": "application/json"}
        self.policy: Policy = compile_policy(routes, "routes.yaml", providers(), PriceBook().sheets_for)
        self.surface = surfaces()["chat.completions"]
        self.journal = JournalWriter.create(
            folder,
            make_id(clock.now_ms(), entropy.bytes(10)),
            clock=clock,
            segment_bytes=16 << 20,
            reserve_bytes=1 << 20,
            sync_ms=5,
        )
        self.services = Services(
            clock=clock,
            entropy=entropy,
            configuration=WorkerConfiguration(ring, Credentials({})),
            journal=self.journal,
            limits=MemoryEngine(),
            wants=Wants(),
            upstream=None,  # type: ignore[arg-type]
            surfaces=surfaces(),
            providers=providers(),
            guards=(allowed_models.MEMBER,),
            composer=AsSent(),
            recall=nothing.MEMBER,
            metrics=PrometheusMetrics(),
            settings=PathSettings(1 << 26, 15.0, 15.0, 2.0, 30.0, 60.0, 402, False),
        )
        self.spent: dict[str, list[int]] = {}

    def run(self, rounds: int) -> dict[str, float]:
        for _ in range(rounds):
            self._call()
        self.journal.close()
        return {name: _median_us(times) for name, times in self.spent.items()}

    def shrink_us(self, shrinks: int) -> float:
        for _ in range(shrinks):
            passage, attempt = self._begun()
            self._timed("shrink", partial(shrink, passage, self.services, attempt, EARLY))
            assert attempt.hold.bound_nusd is not None
            self._settle(passage, attempt)
        self.journal.close()
        return _median_us(self.spent["shrink"])

    def _timed(self, name: str, step: Callable[[], Result]) -> Result:
        begun = time.perf_counter_ns()
        result = step()
        self.spent.setdefault(name, []).append(time.perf_counter_ns() - begun)
        return result

    def _call(self) -> None:
        passage, attempt = self._begun()
        surface, target = self.surface, attempt.target
        self._timed("rewrite body", lambda: surface.outgoing(_BODY, attempt.composed.head, target.deployment.model))
        usage = self._timed("read reply", lambda: surface.read_reply(REPLY)).usage
        assert usage is not None
        attempt.usage = usage
        attempt.status = 200
        self._timed("price", lambda: self.services.prices.charge(usage, target.sheet, attempt.hold.ts_ms))
        self._timed("settle", lambda: self._settle(passage, attempt))

    def _begun(self) -> tuple[Passage, Attempt]:
        """A call from identification to its hold."""
        services, surface = self.services, self.surface
        clock = services.clock
        keys = services.configuration.keys
        now_ms = clock.now_ms()
        caller: Caller = self._timed(
            "identify", lambda: identify(self.headers, keys, Permission.CALL_MODELS, now_ms, 10_000)
        )
        passage = self._passage(caller, now_ms)
        head = self._timed("read head", lambda: surface.read_head(_BODY))
        composed: Composed = services.composer.compose(caller, _BODY, head)
        self._timed("guard", lambda: guard(services.guards, caller, composed, surface, self.policy, passage.verdicts))
        self._timed("admit", lambda: admit(passage, services, head.model, now_ms))
        (target,) = self._timed(
            "plan", lambda: services.plans.of(self.policy, services.providers, caller.key, head.model, surface)
        )
        passage.composed = composed
        return passage, self._timed(
            "reserve", lambda: _finished(reserve(passage, services, _Present(), composed, target))
        )

    def _passage(self, caller: Caller, now_ms: int) -> Passage:
        entropy, clock = self.services.entropy, self.services.clock
        call_id = make_id(now_ms, entropy.bytes(10))
        return Passage(
            call_id=call_id,
            surface=self.surface,
            policy=self.policy,
            started_ms=now_ms,
            received_ns=clock.monotonic_ns(),
            trace_id=call_id,
            span_id=entropy.bytes(8),
            parent_span_id=b"",
            client_retry=0,
            caller=caller,
        )

    def _settle(self, passage: Passage, attempt: Attempt) -> None:
        conclude(passage, self.services, attempt, "ok", "", "ok", 200)


def _finished(steps):  # type: ignore[no-untyped-def]
    """The result of a coroutine that does not have to wait."""
    try:
        steps.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the step had to wait")


def _median_us(times_ns: list[int]) -> float:
    return sorted(times_ns)[len(times_ns) // 2] / 1000


def _key(key_id: str, version: int, digest: bytes, limits_of: Callable[[str], tuple[Limit, ...]]) -> KeyRecord:
    record = KeyRecord(key_id, "bench", "default", "default", "data", ((version, digest, 0),))
    return msgspec.structs.replace(record, limits=limits_of(key_id))


def usual_limits(key_id: str) -> tuple[Limit, ...]:
    scope = (("key", key_id),)
    return (
        Limit("lim_month", Unit.USD, 10**15, Window(WindowKind.MONTH), scope),
        Limit("lim_day", Unit.USD, 10**15, Window(WindowKind.DAY), scope),
        Limit("lim_minute", Unit.REQUESTS, 10**9, Window(WindowKind.ROLLING, 60), scope),
    )


def _many_limits(count: int, key_id: str) -> tuple[Limit, ...]:
    scope = (("key", key_id),)
    money = [Limit(f"usd{n}", Unit.USD, 10**15, Window(WindowKind.MONTH), scope) for n in range(count)]
    rates = [Limit(f"rpm{n}", Unit.REQUESTS, 10**9, Window(WindowKind.ROLLING, 60), scope) for n in range(count)]
    return (*money, *rates)
