"""What the request path is given. `app` fills it once per worker; nothing here changes during a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.limits import Unit
from gateway.core.ports import (
    Clock,
    Composer,
    Configuration,
    Entropy,
    Guard,
    Journal,
    LimitEngine,
    Metrics,
    Recall,
    Surface,
)
from gateway.core.upstream import Upstream
from gateway.flow.endpoints import Endpoints
from gateway.flow.issued import Issued
from gateway.flow.plan import Plans
from gateway.flow.wires import Wires
from gateway.limits.wants import Wants
from gateway.pricing.remembered import Prices
from gateway.providers.row import ProviderRow


@dataclass(frozen=True, slots=True)
class PathSettings:
    """The settings the path obeys; see `gateway.settings` for what each means. Times are seconds."""

    max_reply_bytes: int
    first_event_wait_s: float
    heartbeat_s: float
    reserve_wait_s: float
    reserve_last_wait_s: float
    drain_max_s: float
    budget_status: int
    power: bool
    stale_keys_s: float = 10.0
    progress_s: float = 1.0
    progress_idle_s: float = 300.0
    progress_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Services:
    """The ports of the path and the rule objects that keep a cache of their own."""

    clock: Clock
    entropy: Entropy
    configuration: Configuration
    journal: Journal
    limits: LimitEngine
    wants: Wants
    upstream: Upstream
    surfaces: Mapping[str, Surface]
    providers: Mapping[str, ProviderRow]
    guards: tuple[Guard, ...]
    composer: Composer
    recall: Recall
    metrics: Metrics
    settings: PathSettings
    prices: Prices = field(default_factory=Prices)
    plans: Plans = field(default_factory=lambda: Plans(Wires({})))
    endpoints: Endpoints = field(default_factory=Endpoints)
    issued: Issued = field(default_factory=Issued)


HARD_UNITS = frozenset({Unit.USD})
"""Units a hold must bound: a call whose cost has no bound may not pass a limit over one of these."""
