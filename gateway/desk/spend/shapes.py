"""What the ledger's replies look like: sums, one call, a key's own usage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.core.charge import MILLION, Line
from gateway.core.money import NANO, PICO_PER_NANO, divide_half_even, print_usd
from gateway.core.queries import AttemptRow, Bucket, CallRow, CorrectionRow, Freshness, SpendRow
from gateway.desk.limits.shapes import BudgetReply
from gateway.desk.moments import print_moment
from gateway.desk.shapes import LimitReply
from gateway.pricing.reported import gap_ppm, is_gap

PICO_PER_USD = NANO * PICO_PER_NANO


class Money(BaseModel):
    """An amount twice: exact decimal USD, and integer nano-USD. Null: unpriced, never 0."""

    usd: Annotated[str | None, Field(examples=["0.00065"])]
    nano_usd: Annotated[int | None, Field(examples=[650_000])]

    @classmethod
    def of(cls, nusd: int | None) -> Money:
        return cls(usd=None if nusd is None else print_usd(nusd), nano_usd=nusd)


class Cost(Money):
    """Effective cost with its state (priced, unpriced, estimated), and FOCUS' other amounts beside it: the list price,
    contracted after what was negotiated, billed to the organisation with its margin."""

    state: str
    list: Money
    contracted: Money
    billed: Money

    @classmethod
    def stated(cls, state: str, effective_nusd: int | None, list_nusd: int | None, billed_nusd: int | None) -> Cost:
        effective = Money.of(effective_nusd)
        return cls(
            state=state,
            usd=effective.usd,
            nano_usd=effective.nano_usd,
            list=Money.of(list_nusd),
            contracted=effective,
            billed=Money.of(billed_nusd),
        )


class Tokens(BaseModel):
    input_tokens: int
    output_tokens: int


class SummedCost(Money):
    """Effective cost of what is priced; `estimated` is the part of it that is. `prior_period` is what was posted in
    this time for months that had been closed: it is in none of the other amounts."""

    list: Money
    contracted: Money
    billed: Money
    estimated: Money
    prior_period: Money


class Sums(BaseModel):
    """Sums of calls. `unpriced_calls` are not in the cost."""

    calls: int
    errors: int
    unpriced_calls: int
    usage: Tokens
    cost: SummedCost


class SpendGroup(Sums):
    group: Annotated[dict[str, str], Field(description="The value of each dimension of `by`.")]
    bucket: Annotated[
        Bucket,
        Field(
            description="Of a user, session or tag: `value` is one of them, `other` all that came when so many had "
            "sums that there was no place, `none` all calls without one; both have an empty value."
        ),
    ] = Bucket.VALUE


class FreshnessReply(BaseModel):
    """How current the sums are."""

    newest_ms: Annotated[int | None, Field(description="The newest record in SQL; null when there is none.")]
    newest_at: str | None
    behind_bytes: Annotated[int, Field(description="Journal not yet in SQL.")]
    dead_letters: Annotated[int, Field(description="Records that could not be stored; should be 0.")]

    @classmethod
    def of(cls, freshness: Freshness) -> FreshnessReply:
        return cls(
            newest_ms=freshness.newest_ms or None,
            newest_at=print_moment(freshness.newest_ms) if freshness.newest_ms else None,
            behind_bytes=freshness.behind_bytes,
            dead_letters=freshness.dead_letters,
        )


class SpendReply(BaseModel):
    object: Literal["spend"] = "spend"
    by: list[str]
    from_ms: int
    from_at: str
    to_ms: int
    to_at: str
    currency: Literal["USD"] = "USD"
    time_zone: Literal["UTC"] = "UTC"
    data: list[SpendGroup]
    total: Annotated[Sums, Field(description="Of all groups, listed or not.")]
    truncated: Annotated[bool, Field(description="More groups exist than the limit allows.")]
    freshness: FreshnessReply


class LineReply(BaseModel):
    """One meter of an attempt: quantity × rate ÷ per, rounded half-even once."""

    meter: str
    quantity: int
    rate_usd: Annotated[str | None, Field(description="USD for `per` units; null: no price.")]
    per: int
    cost: Money
    list: Money
    billed: Money
    price_row: str
    uplift: Annotated[str | None, Field(description="The factor for where it was computed, in the rate.")] = None
    part: Annotated[str | None, Field(description="The model run it is of, where there were several.")] = None
    native: Annotated[str | None, Field(description="The amount in the currency it was agreed in.")] = None

    @classmethod
    def of(cls, line: Line) -> LineReply:
        return cls(
            meter=line.meter,
            quantity=line.quantity,
            rate_usd=None if line.rate_pico is None else print_rate(line.rate_pico),
            per=line.per,
            cost=Money.of(line.effective_nusd),
            list=Money.of(line.list_nusd),
            billed=Money.of(line.billed_nusd),
            price_row=line.row_id,
            uplift=print_factor(line.uplift_ppm) if line.uplift_ppm else None,
            part=line.part or None,
            native=None if line.native_nano is None else f"{print_usd(line.native_nano)} {line.currency}",
        )


def percent_of(ppm: int | None) -> str | None:
    """Millionths as per cent, to two places."""
    if ppm is None:
        return None
    hundredths = divide_half_even(ppm, 100)
    sign = "-" if hundredths < 0 else ""
    return f"{sign}{abs(hundredths) // 100}.{abs(hundredths) % 100:02d}".rstrip("0").rstrip(".")


def print_rate(pico: int) -> str:
    """The exact USD of a rate in pico-USD."""
    whole, rest = divmod(pico, PICO_PER_USD)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")


def print_factor(ppm: int) -> str:
    """1 100 000 → `1.1`."""
    whole, rest = divmod(ppm, MILLION)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


class CorrectionOfAttempt(BaseModel):
    """A later change of what an attempt costs: amounts are differences. Its lines take back those in force before, with
    negative quantities, and put others in their place."""

    revision: int
    posted_ms: int
    posted_at: str
    reason: str
    cost: Cost
    prior_period: Annotated[bool, Field(description="Its month was closed: it counts when it was posted.")]
    lines: list[LineReply]

    @classmethod
    def of(cls, row: CorrectionRow) -> CorrectionOfAttempt:
        return cls(
            revision=row.revision,
            posted_ms=row.posted_ms,
            posted_at=print_moment(row.posted_ms),
            reason=row.reason,
            cost=Cost.stated(row.state, row.effective_nusd, row.list_nusd, row.billed_nusd),
            prior_period=row.counted_ms is not None,
            lines=[LineReply.of(line) for line in row.lines],
        )


class AttemptTokens(Tokens):
    reasoning_tokens: Annotated[int, Field(description="A part of the output.")]


class AttemptReply(BaseModel):
    id: str
    number: int
    deployment: str
    outcome: str
    cause: str
    status: int
    source: Annotated[str, Field(description="Who counted the usage: provider, estimated, cache, none.")]
    cost: Cost
    reserved: Annotated[Money, Field(description="What was held for it before it was sent.")]
    usage: AttemptTokens
    raw_usage: Annotated[str, Field(description="The provider's own usage JSON.")]
    reported: Annotated[Money, Field(description="What the provider itself says it cost; null: it does not say.")]
    reported_gap_percent: Annotated[str | None, Field(description="By how much that differs from ours.")]
    reported_differs: Annotated[bool, Field(description="By more than 1 %.")]
    first_token_ms: float | None
    duration_ms: float | None
    region: Annotated[str | None, Field(description="Where the reply says it was computed.")] = None
    unknown_usage: Annotated[list[str], Field(description="Members of the usage that no reader knows.")] = []
    lines: Annotated[list[LineReply], Field(description="Those in force.")]
    corrections: list[CorrectionOfAttempt] = []

    @classmethod
    def of(cls, row: AttemptRow) -> AttemptReply:
        return cls(
            id=row.attempt_id,
            number=row.number,
            deployment=row.deployment,
            outcome=row.outcome,
            cause=row.cause,
            status=row.status,
            source=row.source,
            cost=Cost.stated(row.state, row.effective_nusd, row.list_nusd, row.billed_nusd),
            reserved=Money.of(row.bound_nusd),
            usage=AttemptTokens(
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                reasoning_tokens=row.reasoning_tokens,
            ),
            raw_usage=row.raw_usage,
            reported=Money.of(row.reported_nusd),
            reported_gap_percent=percent_of(gap_ppm(row.effective_nusd, row.reported_nusd)),
            reported_differs=is_gap(row.effective_nusd, row.reported_nusd),
            first_token_ms=_ms(row.ttft_us),
            duration_ms=_ms(row.duration_us),
            region=row.region or None,
            unknown_usage=list(row.unknown_usage),
            lines=[LineReply.of(line) for line in row.lines],
            corrections=[CorrectionOfAttempt.of(one) for one in row.corrections],
        )


class CallReply(BaseModel):
    """One call as the ledger has it. `outcome` is `running` until its end is recorded."""

    id: str
    object: Literal["request"] = "request"
    started_ms: int
    started_at: str
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
    error_code: str | None
    finish_reason: str | None
    cost: Cost
    corrected: Annotated[bool, Field(description="Its cost was another one when it ended: see the attempts.")] = False
    usage: Tokens
    first_token_ms: float | None
    duration_ms: float | None
    gateway_ms: Annotated[float | None, Field(description="The gateway's own share of the duration.")]
    causes: list[str]
    config_revision: int
    trace_id: str
    attempts: list[AttemptReply]

    @classmethod
    def of(cls, row: CallRow, attempts: tuple[AttemptRow, ...]) -> CallReply:
        return cls(
            id=row.call_id,
            started_ms=row.started_ms,
            started_at=print_moment(row.started_ms),
            team=row.team,
            key_id=row.key_id,
            user=row.user,
            session=row.session,
            tags=row.tags,
            endpoint=row.endpoint,
            stream=row.stream,
            model_asked=row.model_asked,
            model_served=row.model_served,
            deployment=row.deployment,
            provider=row.provider,
            outcome=row.outcome,
            status=row.status,
            error_code=row.error_code or None,
            finish_reason=row.finish_reason or None,
            cost=Cost.stated(row.cost_state, row.effective_nusd, row.list_nusd, _billed_nusd(row, attempts)),
            corrected=row.corrected,
            usage=Tokens(input_tokens=row.input_tokens, output_tokens=row.output_tokens),
            first_token_ms=_ms(row.ttft_us),
            duration_ms=_ms(row.duration_us),
            gateway_ms=_ms(row.overhead_us),
            causes=list(row.causes),
            config_revision=row.config_revision,
            trace_id=row.trace_id,
            attempts=[AttemptReply.of(attempt) for attempt in attempts],
        )


def _billed_nusd(row: CallRow, attempts: tuple[AttemptRow, ...]) -> int | None:
    """Of a call: its attempts' together. None where its cost is not known."""
    if row.effective_nusd is None:
        return None
    return row.effective_nusd + sum((one.billed_nusd or 0) - (one.effective_nusd or 0) for one in attempts)


def _ms(us: int) -> float | None:
    """Milliseconds; negative microseconds mean that there is no such time."""
    return None if us < 0 else us / 1000


class ModelSums(Sums):
    model: str


class PeriodReply(Sums):
    """One calendar period of UTC up to now, and when it ends."""

    from_ms: int
    from_at: str
    resets_ms: int
    resets_at: str
    by_model: list[ModelSums]


class OwnLimit(LimitReply):
    """A limit this key is held to. `spent` is known for its own money limits of a UTC day or month in
    which nothing is unpriced: of an unpriced call a budget counts what was reserved, and sums count nothing."""

    spent: Money | None = None
    remaining: Money | None = None


class UsageReply(BaseModel):
    object: Literal["usage"] = "usage"
    key_id: str
    currency: Literal["USD"] = "USD"
    time_zone: Literal["UTC"] = "UTC"
    today: PeriodReply
    month: PeriodReply
    limits: list[OwnLimit]
    budgets: Annotated[list[BudgetReply], Field(description="Every limit that applies to this key, as it stands now.")]
    freshness: FreshnessReply


def sums_members(row: SpendRow) -> dict[str, Any]:
    """The members of Sums."""
    effective = Money.of(row.effective_nusd)
    return {
        "calls": row.calls,
        "errors": row.errors,
        "unpriced_calls": row.unpriced_calls,
        "usage": Tokens(input_tokens=row.input_tokens, output_tokens=row.output_tokens),
        "cost": SummedCost(
            usd=effective.usd,
            nano_usd=effective.nano_usd,
            list=Money.of(row.list_nusd),
            contracted=effective,
            billed=Money.of(row.billed_nusd),
            estimated=Money.of(row.estimated_nusd),
            prior_period=Money.of(row.prior_effective_nusd),
        ),
    }


def total_of(rows: list[SpendRow]) -> SpendRow:
    """The sum of rows, with an empty group."""
    return SpendRow((), *(sum(getattr(row, word) for row in rows) for word in _FIGURES))


_FIGURES = [word for word in SpendRow.__struct_fields__ if word not in ("group", "bucket")]
