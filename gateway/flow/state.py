"""What has become known of one call on its way. Steps write it, settle reads it; it lives as long as the call."""

from __future__ import annotations

import msgspec

from gateway.core.caller import Caller
from gateway.core.charge import PriceSheet
from gateway.core.config import Deployment, Policy, ProviderSettings
from gateway.core.limits import Take, Want
from gateway.core.ports import Composed, Surface, Wire
from gateway.core.records import AttemptEnd, Features, Hold
from gateway.core.usage import Usage
from gateway.providers.row import ProviderRow


class Target(msgspec.Struct, frozen=True):
    """One planned deployment with all a dispatch needs to know of it. `wire` is how it is spoken to for the caller's
    surface. `sheet` None: the model has no price. `name` is the public model it was planned for."""

    deployment: Deployment
    provider: ProviderSettings
    row: ProviderRow
    wire: Wire
    sheet: PriceSheet | None
    name: str
    once: str = ""
    """The method of a request to a place of its own, whose endpoint is not remembered; empty: POST, as always."""
    wire_for_tools: Wire | None = None
    """In place of `wire` for a call with both tools and a wish to think."""


class Attempt(msgspec.Struct):
    """One dispatch: its hold as last shrunk, what was observed, and whether its end is already in the journal.

    `composed` is the call as this attempt sends it, with a limit's cap on its output; `wants` is what its takes were
    made against. `wire` is its target's, with what a translation has to remember of it.
    """

    hold: Hold
    target: Target
    wire: Wire
    composed: Composed
    wants: tuple[Want, ...]
    requested_tier: str
    callers_own: bool
    """It is sent with the caller's own credential, and the provider bills the caller."""
    started_ns: int
    dispatched: bool = False
    sent: bool = False
    """The request has been given to a connection: from then on the provider may have seen it."""
    ended: bool = False
    status: int = 0
    first_token_ns: int = 0
    usage: Usage | None = None
    output_bytes: int = 0
    unmetered_bytes: int = 0
    """Of them, those that came after the last usage."""
    finished: bool = False
    """The stream came to its own end; false of a whole reply."""
    model_served: str = ""
    finish_reason: str = ""
    refusal: bool = False
    nothing_came: bool = False
    """An error stood where the first event should: nothing was delivered."""
    upstream_id: str = ""
    reported_nusd: int | None = None
    """What the provider itself says it cost, where it does."""
    capped: int = 0
    """The output limit a budget wrote into the request; 0: none did."""
    dropped: tuple[str, ...] = ()
    """The caller's members that this provider was not sent."""
    error_code: str = ""
    end: AttemptEnd | None = None
    """What was posted; None while it runs and for an attempt that was voided."""

    def mark_sent(self) -> None:
        self.sent = True


class Passage(msgspec.Struct):
    """The state of one call from identification to settlement. Times are ns of the monotonic clock."""

    call_id: bytes
    surface: Surface
    policy: Policy
    started_ms: int
    received_ns: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    client_retry: int
    caller: Caller
    own_credential: tuple[tuple[str, str], ...] = ()
    """Headers with a credential of the caller's own at a provider; in no record."""
    composed: Composed | None = None
    features: Features = Features()
    verdicts: list[str] = msgspec.field(default_factory=list)
    counts: tuple[Take, ...] = ()
    counts_recorded: int = 0
    """How many of `counts` stand in a HOLD already."""
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    causes: list[str] = msgspec.field(default_factory=list)
    waited_ns: int = 0
    """Time spent waiting for the caller's body, for the provider, and while a stream is written to the caller; the rest
    of the duration is the gateway's own."""
    settled: bool = False
    last_seq: int = 0
    """The SETTLE's place in the journal."""
    kept_at: str = ""
    """The provider that keeps what the call goes on from; empty: it goes on from nothing."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What every answer says of the caller's rate limits, and of the model its call was downgraded to."""
    overran: tuple[str, ...] = ()
    """Limits that refuse nothing and would have refused this call; counted once it is granted."""
