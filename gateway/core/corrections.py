"""Corrections and closed months: their values, and what is asked of the ledger and of the bookkeeper for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from gateway.core.charge import Line
from gateway.core.limits import Take
from gateway.core.queries import QueryScope
from gateway.core.records import Correct


class PostedAttempt(msgspec.Struct, frozen=True):
    """An ended attempt as all its postings so far say. Amounts are in force, None: unpriced.

    `lines` are those in force, `takes` what each counter of money has been posted in all. `unpriced_others` are the
    attempts of the same call that have no price; `call_unpriced` says that the call was settled without one.
    """

    attempt_id: bytes
    call_id: bytes
    held_ms: int
    started_ms: int
    org: str
    team: str
    key_id: str
    provider: str
    deployment: str
    config_revision: int
    model: str
    model_asked: str
    revision: int
    state: str
    source: str
    list_nusd: int | None
    effective_nusd: int | None
    billed_nusd: int | None
    lines: tuple[Line, ...]
    takes: tuple[Take, ...]
    takes_known: bool = True
    """False: an older version recorded it, and nobody knows the counters any more."""
    served_tier: str = ""
    region: str = ""
    reasoning_tokens: int = 0
    model_served: str = ""
    unpriced_others: tuple[bytes, ...] = ()
    call_unpriced: bool = False
    search_size: str = ""
    """How much of the web its request searched, as the provider told: no line says it where there was no fee."""


class Span(msgspec.Struct, frozen=True):
    """Attempts whose calls began in [from_ms, to_ms), ms UTC; of one model, if one is given: as asked for, as planned,
    or as `provider/model`."""

    from_ms: int
    to_ms: int
    model: str = ""


class PostedPage(msgspec.Struct, frozen=True):
    """Attempts in the order of their ids. `next_id` is where to go on; None: there are no more."""

    attempts: tuple[PostedAttempt, ...]
    next_id: bytes | None


class CorrectionRun(msgspec.Struct, frozen=True):
    """One run of corrections in an org: who, why, when, and what it came to."""

    correction_id: bytes
    kind: str
    actor: str
    reason: str
    first_ms: int
    last_ms: int
    postings: int
    list_nusd: int
    effective_nusd: int
    billed_nusd: int
    prior_effective_nusd: int


class RerateQueries(Protocol):
    """What re-rating reads. Raises StoreUnavailable."""

    async def page(self, scope: QueryScope, span: Span, after: bytes, limit: int) -> PostedPage:
        """The next attempts that have ended and used something, after an id; at most `limit` are looked at."""
        ...

    async def runs(self, scope: QueryScope, limit: int = 100) -> Sequence[CorrectionRun]:
        """The newest first."""
        ...

    async def run(self, org: str, correction_id: bytes) -> CorrectionRun | None:
        """One run as far as it has posted; None: nothing yet."""
        ...

    async def closed_until(self, org: str) -> int:
        """The end of the last month that an org has closed, ms UTC; 0: none."""
        ...


class MonthSums(msgspec.Struct, frozen=True):
    """One org's sums of one month. `digest` tells any change of any of its `rollups` rows."""

    rollups: int = 0
    calls: int = 0
    attempts: int = 0
    list_nusd: int = 0
    effective_nusd: int = 0
    billed_nusd: int = 0
    prior_effective_nusd: int = 0
    digest: bytes = bytes(32)


class ClosedMonth(msgspec.Struct, frozen=True):
    """A month of UTC whose sums will not change any more. Times are ms UTC; the month is [month_ms, end_ms)."""

    month_ms: int
    org: str
    end_ms: int
    closed_ms: int
    actor: str
    reason: str
    sums: MonthSums

    @property
    def name(self) -> str:
        """`2026-10`."""
        return month_name(self.month_ms)


def month_name(month_ms: int) -> str:
    """`2026-10`."""
    return datetime.fromtimestamp(month_ms / 1000, UTC).strftime("%Y-%m")


class Periods(Protocol):
    """Closed months in SQL. Raises StoreUnavailable."""

    async def closed(self, org: str) -> Sequence[ClosedMonth]:
        """The oldest first."""
        ...

    async def next_ms(self, org: str) -> int:
        """The month to be closed next: after the last closed one, else the first in which anything was counted. 0:
        nothing was."""
        ...

    async def sums(self, org: str, month_ms: int) -> MonthSums:
        """What a month comes to now."""
        ...

    async def unfinished(self, org: str, month_ms: int) -> int:
        """How many attempts and calls of a month SQL has begun and not ended."""
        ...

    async def close(self, org: str, month_ms: int, now_ms: int, actor: str, reason: str) -> ClosedMonth:
        """Closes a month: nothing that is loaded later is counted in it. Raises Conflict for one that is closed, has
        an open one before it, or calls that have not ended, and while nothing is recorded of the org."""
        ...


class Appended(msgspec.Struct, frozen=True):
    """What became of corrections: `appended` are in the journal, of which `again` were already; `stale` are the
    attempts of those that were not taken, because they have been corrected otherwise meanwhile."""

    appended: int = 0
    again: int = 0
    stale: tuple[bytes, ...] = ()


class Correcting(Protocol):
    """The bookkeeper's part: the only one who appends corrections."""

    async def append(self, corrections: Sequence[tuple[bytes, Correct]]) -> Appended:
        """Appends (call id, record), each once however often it is asked. Every correction before these is in SQL by
        then. Raises BookkeeperAway, or what says why it cannot be done now."""
        ...

    async def all_loaded(self, before_ms: int) -> str:
        """Why not everything that began before a time and has ended is in SQL, for people; empty: it is."""
        ...
