"""Query ports: what the desk and the console may ask of the ledger, and the rows they get.

Money is integer nano-USD; None means unpriced, never 0. Times are ms UTC. Every query is bounded by a row limit and
by `QueryScope`, which is applied in SQL, never by the caller of the port.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from gateway.core.charge import Line


class QueryScope(msgspec.Struct, frozen=True):
    """Whose rows may be seen: always one org; a team and a key narrow it."""

    org: str
    team: str | None = None
    key_id: str | None = None


class CorrectionRow(msgspec.Struct, frozen=True):
    """A further posting of an attempt: amounts are differences. `lines` take back those in force before (negative) and
    put others in their place. `counted_ms`: the month of the call was closed, so it counts then (None: with its call).
    """

    revision: int
    posted_ms: int
    correction_id: bytes
    reason: str
    state: str
    list_nusd: int
    effective_nusd: int
    billed_nusd: int
    lines: tuple[Line, ...]
    counted_ms: int | None = None


class AttemptRow(msgspec.Struct, frozen=True):
    """An attempt as all its postings together say: amounts and `lines` are those in force."""

    attempt_id: str
    number: int
    deployment: str
    outcome: str
    cause: str
    status: int
    state: str
    source: str
    effective_nusd: int | None
    list_nusd: int | None
    bound_nusd: int | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    ttft_us: int
    duration_us: int
    lines: tuple[Line, ...]
    raw_usage: str
    reported_nusd: int | None = None
    """What the provider itself says the attempt cost, where it does."""
    own_billed_nusd: int | None = None
    """None: the same as effective. Read `billed_nusd`."""
    region: str = ""
    unknown_usage: tuple[str, ...] = ()
    corrections: tuple[CorrectionRow, ...] = ()

    @property
    def billed_nusd(self) -> int | None:
        return self.effective_nusd if self.own_billed_nusd is None else self.own_billed_nusd


class CallRow(msgspec.Struct, frozen=True):
    """One call as the ledger has it. `outcome` is `running` while its SETTLE has not been read yet. Costs are those in
    force; `corrected` says that they were others when it ended."""

    call_id: str
    started_ms: int
    org: str
    team: str
    key_id: str
    user: str
    session: str
    tags: dict[str, str]
    endpoint: str
    stream: bool
    model_asked: str
    model_served: str
    deployment: str
    provider: str
    outcome: str
    status: int
    error_code: str
    finish_reason: str
    attempts: int
    causes: tuple[str, ...]
    cost_state: str
    effective_nusd: int | None
    list_nusd: int | None
    input_tokens: int
    output_tokens: int
    ttft_us: int
    duration_us: int
    overhead_us: int
    config_revision: int
    trace_id: str
    corrected: bool = False


class Bucket(StrEnum):
    """What a group of a dimension of VALUES is: one value; all that came when there was no place for further ones; all
    calls that are not summed by it."""

    VALUE = "value"
    OTHER = "other"
    NONE = "none"


class SpendRow(msgspec.Struct, frozen=True):
    """Sums of one group. `group` holds the values in the order of the `by` asked for; what its value is that callers
    choose, `bucket` says (of `other` and `none` it is empty).

    `effective_nusd` sums what is priced; `unpriced_calls` says how many calls are not in it, `estimated_nusd` how much
    of it is estimated. `margin_nusd` is billed less effective. `prior_…` is money of calls in months that were closed
    when it was posted: it is in none of the other sums.
    """

    group: tuple[str, ...]
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    effective_nusd: int
    list_nusd: int
    estimated_nusd: int
    unpriced_calls: int
    margin_nusd: int = 0
    prior_list_nusd: int = 0
    prior_effective_nusd: int = 0
    prior_margin_nusd: int = 0
    bucket: Bucket = Bucket.VALUE

    @property
    def billed_nusd(self) -> int:
        return self.effective_nusd + self.margin_nusd


class Freshness(msgspec.Struct, frozen=True):
    """How current the ledger is: the newest record written to SQL, and how many bytes of journal are not yet."""

    newest_ms: int
    behind_bytes: int
    dead_letters: int


SPEND_DIMENSIONS = ("org", "team", "key", "model", "provider", "deployment", "endpoint", "hour", "day", "month")
USER, SESSION, TAG_PREFIX = "user", "session", "tag:"
"""The dimensions whose values callers choose: `user`, `session`, and `tag:NAME` of each tag with rollups."""
BESIDE_VALUES = ("org", "team", "key", "model", "day", "month")
"""What such a dimension can be grouped with: its sums are by the day."""
OTHER_VALUE = ""
"""The value under which what had no place of its own is summed: no caller's value is empty."""


def is_value_dimension(word: str) -> bool:
    return word in (USER, SESSION) or (word.startswith(TAG_PREFIX) and len(word) > len(TAG_PREFIX))


class LedgerQueries(Protocol):
    """Reads from rollups and indexed rows. Raises StoreUnavailable when SQL does not answer."""

    async def spend(
        self,
        scope: QueryScope,
        by: Sequence[str],
        from_ms: int,
        to_ms: int,
        limit: int = 1000,
        of: tuple[str, str] | None = None,
    ) -> list[SpendRow]:
        """Sums by dimensions of SPEND_DIMENSIONS over [from_ms, to_ms) at hour resolution (from rounds down, to up),
        dearest first (time groups in time order). From rollups only.

        One of them may be `user`, `session` or `tag:NAME`; then the others are of BESIDE_VALUES, and the resolution is
        a day. Calls that are not summed by it are in a group of their own, so that all groups make the whole.

        `of` is such a dimension and one value of it: only what is summed under that, by dimensions of BESIDE_VALUES."""
        ...

    async def calls(
        self, scope: QueryScope, *, before_ms: int | None = None, before_id: str = "", limit: int = 50
    ) -> list[CallRow]:
        """Latest first, by keyset."""
        ...

    async def call(self, scope: QueryScope, call_id: bytes) -> tuple[CallRow, tuple[AttemptRow, ...]] | None: ...

    async def freshness(self) -> Freshness: ...
