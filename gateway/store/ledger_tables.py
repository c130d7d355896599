"""The ledger's tables. Rows are inserted once and never changed, but for three projections: a call's row is filled in
when its SETTLE arrives, rollups and refusal counts are added to, a journal's cursor moves.

Ids are the 16 raw bytes, times ms UTC, money integer nano-USD (NULL: unpriced, never 0), durations µs.
"""

from __future__ import annotations

from typing import ClassVar, cast

from sqlalchemy import Index, MetaData, Table, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from gateway.store.engine import BIG, BLOB, CLUSTERED, FLAG, STRICT, TEXT

ZERO = {"server_default": "0"}
"""So that a version without such a column can still add rows."""

UNPRICED_END = text("state = 'unpriced' AND kind = 'attempt'")
"""The few ends that nobody could price: people ask for the reasons."""


class LedgerTable(SQLModel):
    """The base: keeps the ledger's tables apart from the configuration's."""

    metadata: ClassVar[MetaData] = MetaData()


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table behind a SQLModel class."""
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


class CallTable(LedgerTable, table=True):
    """One call: begun by its first HOLD (`outcome` running, `seq` NULL), completed by its SETTLE."""

    __tablename__ = "call"
    __table_args__ = (
        UniqueConstraint("journal_id", "seq", name="call_delivery"),
        Index("call_by_org", "org", "started_ms", "call_id"),
        Index("call_by_team", "org", "team", "started_ms", "call_id"),
        Index("call_by_key", "org", "key_id", "started_ms", "call_id"),
        STRICT,
    )

    call_id: bytes = Field(primary_key=True, sa_type=BLOB)
    journal_id: bytes | None = Field(default=None, sa_type=BLOB)
    seq: int | None = Field(default=None, sa_type=BIG)
    started_ms: int = Field(sa_type=BIG)
    ended_ms: int | None = Field(default=None, sa_type=BIG)
    org: str = Field(sa_type=TEXT)
    team: str = Field(sa_type=TEXT)
    key_id: str = Field(sa_type=TEXT)
    end_user: str = Field(sa_type=TEXT)
    session: str = Field(sa_type=TEXT)
    tags: str = Field(sa_type=TEXT)
    endpoint: str = Field(sa_type=TEXT)
    stream: bool = Field(sa_type=FLAG)
    model_asked: str = Field(sa_type=TEXT)
    model_planned: str = Field(sa_type=TEXT)
    model_served: str = Field(sa_type=TEXT)
    deployment: str = Field(sa_type=TEXT)
    provider: str = Field(sa_type=TEXT)
    outcome: str = Field(sa_type=TEXT)
    status: int = Field(sa_type=BIG)
    error_code: str = Field(sa_type=TEXT)
    finish_reason: str = Field(sa_type=TEXT)
    refusal: bool = Field(sa_type=FLAG)
    attempts: int = Field(sa_type=BIG)
    causes: str = Field(sa_type=TEXT)
    cost_state: str = Field(sa_type=TEXT)
    list_nusd: int | None = Field(default=None, sa_type=BIG)
    effective_nusd: int | None = Field(default=None, sa_type=BIG)
    input_tokens: int = Field(sa_type=BIG)
    output_tokens: int = Field(sa_type=BIG)
    ttft_us: int = Field(sa_type=BIG)
    duration_us: int = Field(sa_type=BIG)
    overhead_us: int = Field(sa_type=BIG)
    config_revision: int = Field(sa_type=BIG)
    verdicts: str = Field(sa_type=TEXT)
    features: str = Field(sa_type=TEXT)
    row_ids: str = Field(sa_type=TEXT)
    raw_usage: bytes = Field(sa_type=BLOB)
    trace_id: bytes = Field(sa_type=BLOB)
    span_id: bytes = Field(sa_type=BLOB)
    parent_span_id: bytes = Field(sa_type=BLOB)
    prompt: str = Field(sa_type=TEXT)
    prompt_version: str = Field(sa_type=TEXT)
    experiment: str = Field(sa_type=TEXT)
    variant: str = Field(sa_type=TEXT)
    purpose: str = Field(sa_type=TEXT)
    client_retry: int = Field(sa_type=BIG)
    counted_ms: int | None = Field(default=None, sa_type=BIG)
    summed_by: str | None = Field(default=None, sa_type=TEXT)


class AttemptTable(LedgerTable, table=True):
    """One HOLD: who asked what of whom, and the bound that was reserved. The dimensions of its postings.

    `summed_by` is JSON: the values of `rollup_value` that its postings count under, by dimension (NULL: none).
    """

    __tablename__ = "attempt"
    __table_args__ = (
        UniqueConstraint("journal_id", "seq", name="attempt_delivery"),
        Index("attempt_by_call", "call_id"),
        STRICT,
    )

    attempt_id: bytes = Field(primary_key=True, sa_type=BLOB)
    call_id: bytes = Field(sa_type=BLOB)
    journal_id: bytes = Field(sa_type=BLOB)
    seq: int = Field(sa_type=BIG)
    number: int = Field(sa_type=BIG)
    held_ms: int = Field(sa_type=BIG)
    started_ms: int = Field(sa_type=BIG)
    org: str = Field(sa_type=TEXT)
    team: str = Field(sa_type=TEXT)
    key_id: str = Field(sa_type=TEXT)
    endpoint: str = Field(sa_type=TEXT)
    model_asked: str = Field(sa_type=TEXT)
    provider: str = Field(sa_type=TEXT)
    deployment: str = Field(sa_type=TEXT)
    model: str = Field(sa_type=TEXT)
    bound_nusd: int | None = Field(default=None, sa_type=BIG)
    input_estimate: int = Field(sa_type=BIG)
    config_revision: int = Field(sa_type=BIG)
    summed_by: str | None = Field(default=None, sa_type=TEXT)


class PostingTable(LedgerTable, table=True):
    """What one ATTEMPT_END (or VOID: outcome `void`, all 0) posted: the head of its lines.

    Its key is the accounting identity: an attempt ends once, which is `('attempt', 0)`; re-rating adds `('rerate', 1)`
    and so on, whose amounts are differences. `billed_nusd` NULL is as effective. `takes` are the counters of money that
    it spent from, as `ledger_rows.packed_takes` writes them. `counted_ms` is when it counts, where that is not when its
    call began: that month was closed by then. `priced_calls` is 1 where a correction gave its call a price.
    """

    __tablename__ = "posting"
    __table_args__ = (
        UniqueConstraint("journal_id", "seq", name="posting_delivery"),
        Index("posting_by_call", "call_id"),
        Index("posting_unpriced", "attempt_id", sqlite_where=UNPRICED_END, postgresql_where=UNPRICED_END),
        STRICT,
    )

    attempt_id: bytes = Field(primary_key=True, sa_type=BLOB)
    kind: str = Field(primary_key=True, sa_type=TEXT)
    revision: int = Field(primary_key=True, sa_type=BIG)
    call_id: bytes = Field(sa_type=BLOB)
    journal_id: bytes = Field(sa_type=BLOB)
    seq: int = Field(sa_type=BIG)
    posted_ms: int = Field(sa_type=BIG)
    outcome: str = Field(sa_type=TEXT)
    cause: str = Field(sa_type=TEXT)
    status: int = Field(sa_type=BIG)
    state: str = Field(sa_type=TEXT)
    source: str = Field(sa_type=TEXT)
    list_nusd: int | None = Field(default=None, sa_type=BIG)
    effective_nusd: int | None = Field(default=None, sa_type=BIG)
    input_tokens: int = Field(sa_type=BIG)
    output_tokens: int = Field(sa_type=BIG)
    reasoning_tokens: int = Field(sa_type=BIG)
    raw_usage: bytes = Field(sa_type=BLOB)
    served_tier: str = Field(sa_type=TEXT)
    model_served: str = Field(sa_type=TEXT)
    finish_reason: str = Field(sa_type=TEXT)
    upstream_id: str = Field(sa_type=TEXT)
    ttft_us: int = Field(sa_type=BIG)
    duration_us: int = Field(sa_type=BIG)
    reported_nusd: int | None = Field(default=None, sa_type=BIG)
    billed_nusd: int | None = Field(default=None, sa_type=BIG)
    region: str | None = Field(default=None, sa_type=TEXT)
    unknown_usage: str | None = Field(default=None, sa_type=TEXT)
    takes: bytes | None = Field(default=None, sa_type=BLOB)
    counted_ms: int | None = Field(default=None, sa_type=BIG)
    priced_calls: int | None = Field(default=None, sa_type=BIG)
    correction_id: bytes | None = Field(default=None, sa_type=BLOB)


class LedgerLineTable(LedgerTable, table=True):
    """One meter of one posting. Amounts are NULL when it is unpriced.

    `billed_nusd` NULL is as effective; `uplift_ppm`, `part`, `currency` and `native_nano` NULL: the usual, none.
    """

    __tablename__ = "ledger_line"
    __table_args__ = (CLUSTERED,)

    attempt_id: bytes = Field(primary_key=True, sa_type=BLOB)
    kind: str = Field(primary_key=True, sa_type=TEXT)
    revision: int = Field(primary_key=True, sa_type=BIG)
    line_no: int = Field(primary_key=True, sa_type=BIG)
    journal_id: bytes = Field(sa_type=BLOB)
    seq: int = Field(sa_type=BIG)
    meter: str = Field(sa_type=TEXT)
    quantity: int = Field(sa_type=BIG)
    rate_pico: int | None = Field(default=None, sa_type=BIG)
    per: int = Field(sa_type=BIG)
    list_nusd: int | None = Field(default=None, sa_type=BIG)
    effective_nusd: int | None = Field(default=None, sa_type=BIG)
    row_id: str = Field(sa_type=TEXT)
    billed_nusd: int | None = Field(default=None, sa_type=BIG)
    uplift_ppm: int | None = Field(default=None, sa_type=BIG)
    part: str | None = Field(default=None, sa_type=TEXT)
    currency: str | None = Field(default=None, sa_type=TEXT)
    native_nano: int | None = Field(default=None, sa_type=BIG)


class RollupHourTable(LedgerTable, table=True):
    """Sums by the hour in which the call began. Calls come from SETTLE, tokens and money from postings.

    `margin_nusd` is billed less effective, so that what an older version adds is right without it. `prior_…` is money
    of calls in months that had been closed: it counts in the hour in which it was posted, and in no other column.
    """

    __tablename__ = "rollup_hour"
    __table_args__ = (CLUSTERED,)

    org: str = Field(primary_key=True, sa_type=TEXT)
    hour_ms: int = Field(primary_key=True, sa_type=BIG)
    team: str = Field(primary_key=True, sa_type=TEXT)
    key_id: str = Field(primary_key=True, sa_type=TEXT)
    model: str = Field(primary_key=True, sa_type=TEXT)
    provider: str = Field(primary_key=True, sa_type=TEXT)
    deployment: str = Field(primary_key=True, sa_type=TEXT)
    endpoint: str = Field(primary_key=True, sa_type=TEXT)
    calls: int = Field(sa_type=BIG)
    errors: int = Field(sa_type=BIG)
    refused: int = Field(sa_type=BIG)
    unpriced_calls: int = Field(sa_type=BIG)
    duration_us: int = Field(sa_type=BIG)
    attempts: int = Field(sa_type=BIG)
    input_tokens: int = Field(sa_type=BIG)
    output_tokens: int = Field(sa_type=BIG)
    list_nusd: int = Field(sa_type=BIG)
    effective_nusd: int = Field(sa_type=BIG)
    estimated_nusd: int = Field(sa_type=BIG)
    margin_nusd: int = Field(sa_type=BIG, sa_column_kwargs=ZERO)
    prior_list_nusd: int = Field(sa_type=BIG, sa_column_kwargs=ZERO)
    prior_effective_nusd: int = Field(sa_type=BIG, sa_column_kwargs=ZERO)
    prior_margin_nusd: int = Field(sa_type=BIG, sa_column_kwargs=ZERO)


class RollupValueTable(LedgerTable, table=True):
    """Sums by the day (UTC) of a value that callers choose: `dimension` is `user`, `session` or `tag:NAME`; `value` is
    empty for all that had no place (`ledger_values.py`). The figures are those of `rollup_hour`, of the same rows."""

    __tablename__ = "rollup_value"
    __table_args__ = (CLUSTERED,)

    org: str = Field(primary_key=True, sa_type=TEXT)
    dimension: str = Field(primary_key=True, sa_type=TEXT)
    day_ms: int = Field(primary_key=True, sa_type=BIG)
    team: str = Field(primary_key=True, sa_type=TEXT)
    value: str = Field(primary_key=True, sa_type=TEXT)
    key_id: str = Field(primary_key=True, sa_type=TEXT)
    model: str = Field(primary_key=True, sa_type=TEXT)
    calls: int = Field(sa_type=BIG)
    errors: int = Field(sa_type=BIG)
    unpriced_calls: int = Field(sa_type=BIG)
    input_tokens: int = Field(sa_type=BIG)
    output_tokens: int = Field(sa_type=BIG)
    list_nusd: int = Field(sa_type=BIG)
    effective_nusd: int = Field(sa_type=BIG)
    estimated_nusd: int = Field(sa_type=BIG)
    margin_nusd: int = Field(sa_type=BIG)
    prior_list_nusd: int = Field(sa_type=BIG)
    prior_effective_nusd: int = Field(sa_type=BIG)
    prior_margin_nusd: int = Field(sa_type=BIG)


class JournalCursorTable(LedgerTable, table=True):
    """How far a journal is in SQL: everything up to `seq` is stored or dead-lettered."""

    __tablename__ = "journal_cursor"
    __table_args__ = (CLUSTERED,)

    journal_id: bytes = Field(primary_key=True, sa_type=BLOB)
    seq: int = Field(sa_type=BIG)
    segment: int = Field(sa_type=BIG)
    offset: int = Field(sa_type=BIG)
    newest_ms: int = Field(sa_type=BIG)


class DeadLetterTable(LedgerTable, table=True):
    """A record that was not stored as it came, or is an alarm, and why. `payload` is its msgpack."""

    __tablename__ = "dead_letter"
    __table_args__ = (STRICT,)

    journal_id: bytes = Field(primary_key=True, sa_type=BLOB)
    seq: int = Field(primary_key=True, sa_type=BIG)
    call_id: bytes = Field(sa_type=BLOB)
    record_type: int = Field(sa_type=BIG)
    reason: str = Field(sa_type=TEXT)
    detail: str = Field(sa_type=TEXT)
    payload: bytes = Field(sa_type=BLOB)
    recorded_ms: int = Field(sa_type=BIG)


class RefusalStatTable(LedgerTable, table=True):
    """Refusals before identification, by hour and error code."""

    __tablename__ = "refusal_stat"
    __table_args__ = (CLUSTERED,)

    hour_ms: int = Field(primary_key=True, sa_type=BIG)
    code: str = Field(primary_key=True, sa_type=TEXT)
    count: int = Field(sa_type=BIG)


class DetachedTable(LedgerTable, table=True):
    """A partition that was taken out of the ledger: `name` of what was `table_name`, up to `to_ms`."""

    __tablename__ = "detached"
    __table_args__ = (STRICT,)

    name: str = Field(primary_key=True, sa_type=TEXT)
    table_name: str = Field(sa_type=TEXT)
    to_ms: int = Field(sa_type=BIG)
    detached_ms: int = Field(sa_type=BIG)


class CorrectionTable(LedgerTable, table=True):
    """One run of corrections, as its records say: who, why, and what it came to so far."""

    __tablename__ = "correction"
    __table_args__ = (STRICT,)

    correction_id: bytes = Field(primary_key=True, sa_type=BLOB)
    org: str = Field(primary_key=True, sa_type=TEXT)
    kind: str = Field(sa_type=TEXT)
    actor: str = Field(sa_type=TEXT)
    reason: str = Field(sa_type=TEXT)
    first_ms: int = Field(sa_type=BIG)
    last_ms: int = Field(sa_type=BIG)
    postings: int = Field(sa_type=BIG)
    list_nusd: int = Field(sa_type=BIG)
    effective_nusd: int = Field(sa_type=BIG)
    billed_nusd: int = Field(sa_type=BIG)
    prior_effective_nusd: int = Field(sa_type=BIG)


class PeriodTable(LedgerTable, table=True):
    """A month that has been closed, per org: what its sums were then. `digest` is of its rollup rows."""

    __tablename__ = "period"
    __table_args__ = (STRICT,)

    month_ms: int = Field(primary_key=True, sa_type=BIG)
    org: str = Field(primary_key=True, sa_type=TEXT)
    end_ms: int = Field(sa_type=BIG)
    closed_ms: int = Field(sa_type=BIG)
    actor: str = Field(sa_type=TEXT)
    reason: str = Field(sa_type=TEXT)
    rollups: int = Field(sa_type=BIG)
    calls: int = Field(sa_type=BIG)
    attempts: int = Field(sa_type=BIG)
    list_nusd: int = Field(sa_type=BIG)
    effective_nusd: int = Field(sa_type=BIG)
    billed_nusd: int = Field(sa_type=BIG)
    prior_effective_nusd: int = Field(sa_type=BIG)
    digest: bytes = Field(sa_type=BLOB)


class PeriodChainTable(LedgerTable, table=True):
    """What an org's closed months are in all: how many, up to when, and the digest of their rows, one on the other."""

    __tablename__ = "period_chain"
    __table_args__ = (STRICT,)

    org: str = Field(primary_key=True, sa_type=TEXT)
    months: int = Field(sa_type=BIG)
    end_ms: int = Field(sa_type=BIG)
    digest: bytes = Field(sa_type=BLOB)


CALL = table_of(CallTable)
ATTEMPT = table_of(AttemptTable)
POSTING = table_of(PostingTable)
LEDGER_LINE = table_of(LedgerLineTable)
ROLLUP_HOUR = table_of(RollupHourTable)
ROLLUP_VALUE = table_of(RollupValueTable)
JOURNAL_CURSOR = table_of(JournalCursorTable)
DEAD_LETTER = table_of(DeadLetterTable)
REFUSAL_STAT = table_of(RefusalStatTable)
DETACHED = table_of(DetachedTable)
CORRECTION = table_of(CorrectionTable)
PERIOD = table_of(PeriodTable)
PERIOD_CHAIN = table_of(PeriodChainTable)
