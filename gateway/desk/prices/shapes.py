"""What the endpoints of the price book read and answer."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.core.charge import PriceRow
from gateway.core.price_admin import MOST_ENDS, PriceDraft, PriceSource, PriceVersion
from gateway.desk.moments import print_moment
from gateway.desk.shapes import Applied, _Write
from gateway.desk.spend.shapes import CorrectionOfAttempt, FreshnessReply, Money
from gateway.pricing.agreements import Agreement
from gateway.pricing.moves import LEAST, UNSEEN, UPLIFT, Move
from gateway.pricing.written import USD, print_amount

PriceState = Literal["priced", "zero", "fallback", "unpriced"]
"""`zero`: explicitly free. `fallback`: by the operator's guess of `prices.yaml`. `unpriced`: the cost is null."""


class ImportPrices(_Write):
    """A price source: genai-prices' data file, or a litellm map."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="The file's name, for people.")]
    content: Annotated[str, Field(description="The file in base64; it may be compressed with gzip.")] = ""
    shipped: Annotated[bool, Field(description="Instead of a file, what ships with this version of Faregate.")] = False


class PublishPrices(_Write):
    """`confirm` is the digest that the diff shows; needed when a rate of a model in use moves by more than 25 %."""

    confirm: Annotated[str, Field(max_length=64)] = ""


class SourceReply(BaseModel):
    kind: Literal["genai", "litellm"]
    name: str
    sha256: Annotated[str, Field(description="Of the JSON, uncompressed.")]
    recorded_at: str | None
    recorded_by: Annotated[str, Field(description="Who imported it; `bundled`: it ships with Faregate.")]

    @classmethod
    def of(cls, source: PriceSource) -> SourceReply:
        at = print_moment(source.recorded_ms) if source.recorded_ms else None
        return cls(
            kind=source.kind, name=source.name, sha256=source.sha256, recorded_at=at, recorded_by=source.recorded_by
        )


class VersionReply(BaseModel):
    number: int
    sha256: Annotated[str, Field(description="Of the content: both sources and what prices.yaml said.")]
    sources: list[SourceReply]
    published_ms: int
    published_at: str
    published_by: str
    revision: Annotated[int, Field(description="The configuration's, from which on it was in force.")]

    @classmethod
    def of(cls, version: PriceVersion) -> VersionReply:
        return cls(
            number=version.number,
            sha256=version.sha256,
            sources=[SourceReply.of(version.genai), SourceReply.of(version.litellm)],
            published_ms=version.published_ms,
            published_at=print_moment(version.published_ms),
            published_by=version.published_by,
            revision=version.revision,
        )


class DraftReply(BaseModel):
    sources: list[SourceReply]
    recorded_at: str
    recorded_by: str

    @classmethod
    def of(cls, draft: PriceDraft) -> DraftReply:
        sources = [SourceReply.of(draft.genai), SourceReply.of(draft.litellm)]
        return cls(sources=sources, recorded_at=print_moment(draft.recorded_ms), recorded_by=draft.recorded_by)


class RowReply(BaseModel):
    """A rate and when it is for. Amounts are exact, as people write them."""

    id: str
    meter: str
    amount: Annotated[str, Field(description="What is owed: `2.5 USD / 1M tokens`.")]
    list_amount: Annotated[str | None, Field(description="The public price, where it is another.")]
    billed_amount: Annotated[str | None, Field(description="What is charged inside, where it is another.")]
    native_amount: Annotated[str | None, Field(description="As agreed, in its own currency.")]
    tier: str
    above: Annotated[int, Field(description="Prompts of more tokens than this; 0: any.")]
    from_at: str | None
    to_at: str | None
    hours: Annotated[list[str], Field(description="UTC; empty: always.")]
    least: int
    source: str

    @classmethod
    def of(cls, row: PriceRow) -> RowReply:
        terms = row.terms
        own, listed, billed = row.rate_pico, None, None
        native = None
        if terms is not None:
            listed = None if terms.list_pico is None else print_amount(terms.list_pico, row.per, row.meter)
            billed = None if terms.billed_pico is None else print_amount(terms.billed_pico, row.per, row.meter)
            if terms.native_pico is not None:
                native = f"{print_amount(terms.native_pico, row.per, row.meter, terms.currency)} at {terms.fx} USD"
        return cls(
            id=row.id,
            meter=row.meter,
            amount=print_amount(own, row.per, row.meter),
            list_amount=listed,
            billed_amount=billed,
            native_amount=native,
            tier=row.tier,
            above=row.min_input,
            from_at=print_moment(row.from_ms) if row.from_ms else None,
            to_at=print_moment(row.to_ms) if row.to_ms else None,
            hours=[_span(start, end) for start, end in row.week],
            least=0 if terms is None else terms.min_quantity,
            source=row.source,
        )


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _span(start: int, end: int) -> str:
    days = [f"{_DAYS[minute // 1440 % 7]} {minute % 1440 // 60:02d}:{minute % 60:02d}" for minute in (start, end)]
    return "-".join(days)


class PendingReply(BaseModel):
    """An announced price: shown, and in force only once it is moved under `prices` in the file. `due`: its day has
    come, so somebody should see whether the price did, too."""

    model: str
    due: bool
    rows: list[RowReply]
    note: str
    line: int


class AgreementReply(BaseModel):
    model: str
    meters: Annotated[list[str], Field(description="Empty: all.")]
    discount_percent: str
    margin_percent: str
    from_at: str | None
    to_at: str | None

    @classmethod
    def of(cls, one: Agreement) -> AgreementReply:
        return cls(
            model=f"{one.kind}/{one.model}",
            meters=list(one.meters),
            discount_percent=one.discount_pct,
            margin_percent=one.margin_pct,
            from_at=print_moment(one.from_ms) if one.from_ms else None,
            to_at=print_moment(one.to_ms) if one.to_ms else None,
        )


class WaitingReply(BaseModel):
    """A change of prices.yaml (or of what ships) that is not in force by itself."""

    confirm: Annotated[str, Field(description="The digest to publish it with.")]
    models: Annotated[list[str], Field(description="Models in use of which a rate would move by more than 25 %.")]


class PricesReply(BaseModel):
    in_force: VersionReply | None
    versions: list[VersionReply]
    draft: DraftReply | None
    waiting: WaitingReply | None
    written: Annotated[list[str], Field(description="Models whose prices are in prices.yaml.")]
    agreements: list[AgreementReply]
    fallback: Annotated[list[str], Field(description="Kinds of providers with a fallback price.")]
    pending: list[PendingReply]
    problem: Annotated[str | None, Field(description="What keeps the policy files from being used.")]


class MoveReply(BaseModel):
    """A rate before and after."""

    model: str
    in_use: bool
    tier: str
    meter: str
    above: int
    from_at: Annotated[str, Field(description="The first moment at which it is another one.")]
    old: Annotated[str | None, Field(description="null: there was no price.")]
    new: Annotated[str | None, Field(description="null: there is none any more.")]
    percent: Annotated[str | None, Field(description="Of the old rate, to two places; null: nothing to compare with.")]
    charged: Annotated[Literal["effective", "billed"], Field(description="Which amount it changes.")]
    confirm: Annotated[bool, Field(description="It goes into force only when somebody confirms it.")]

    @classmethod
    def of(cls, model: str, move: Move, in_use: bool) -> MoveReply:
        return cls(
            model=model,
            in_use=in_use,
            tier=move.tier,
            meter=move.meter,
            above=move.above,
            from_at=print_moment(move.from_ms),
            old=_rate_words(move.meter, move.old),
            new=_rate_words(move.meter, move.new),
            percent=percent_words(move.percent),
            charged="billed" if move.billed else "effective",
            confirm=in_use and move.wants_confirmation,
        )


def _rate_words(meter: str, rate: Fraction | None) -> str | None:
    if rate is None:
        return None
    if meter.startswith(UPLIFT):
        return f"× {percent_words(rate)}"
    if meter.startswith(LEAST):
        return f"at least {rate.numerator} billed"
    if meter.startswith(UNSEEN):
        return f"{rate.numerator} more times" if rate else "all looked at"
    return print_amount(rate.numerator, rate.denominator, meter, USD)


def percent_words(percent: Fraction | None) -> str | None:
    """To two places, half-even, without trailing zeros."""
    if percent is None:
        return None
    hundredths = round(percent * 100)
    sign = "-" if hundredths < 0 else ""
    return f"{sign}{abs(hundredths) // 100}.{abs(hundredths) % 100:02d}".rstrip("0").rstrip(".")


class OpinionReply(BaseModel):
    """A rate of which the two sources differ by more than 1 %."""

    model: str
    in_use: bool
    meter: str
    first: Annotated[str, Field(description="genai-prices', which is believed.")]
    second: Annotated[str, Field(description="The litellm map's.")]
    percent: str


class DiffReply(BaseModel):
    """What would change if it were published now."""

    of: Annotated[Literal["draft", "file", "nothing"], Field(description="Which change: an import, or prices.yaml.")]
    against: Annotated[int, Field(description="The version in force.")]
    confirm: Annotated[str, Field(description="The digest of exactly this change.")]
    needs_confirmation: bool
    data: Annotated[list[MoveReply], Field(description="Models in use first, then by how much.")]
    truncated: bool
    models_priced: Annotated[int, Field(description="Models that get a price.")]
    models_lost: Annotated[int, Field(description="Models that lose theirs.")]
    divergences: list[OpinionReply]


class ImportReply(BaseModel):
    draft: DraftReply
    changed: Annotated[bool, Field(description="False: this source is in force already.")]


class DiscardReply(BaseModel):
    discarded: bool


class PublishReply(BaseModel):
    version: VersionReply
    revision: Annotated[int, Field(description="The configuration's, in use by the workers.")]
    state: Applied


class ExplainModelReply(BaseModel):
    model: str
    state: PriceState
    reason: Annotated[str, Field(description="Why it has no price of its own; empty: it has one.")]
    version: int
    file_line: Annotated[int | None, Field(description="Where prices.yaml says something of it.")]
    rows: list[RowReply]
    uplifts: Annotated[list[str], Field(description="Factors on token rates for where it is computed.")]
    context_window: int
    max_output_tokens: int
    unbounded: Annotated[str, Field(description="Why no call of it has a bound; empty: it has one.")]
    agreements: list[AgreementReply]
    pending: list[PendingReply]
    divergences: list[OpinionReply]


class ChargedLine(BaseModel):
    """quantity × rate = exact, rounded half-even to nano-USD once."""

    meter: str
    quantity: int
    rate: str | None
    exact_usd: Annotated[str | None, Field(description="The product before rounding.")]
    rounded: Annotated[bool, Field(description="Whether rounding changed it.")]
    cost: Money
    list: Money
    billed: Money
    part: Annotated[str | None, Field(description="The model run it is of, where there were several.")]
    price_row: str
    source: Annotated[str, Field(description="Who says so; empty: the row is not in that configuration any more.")]
    tier: str
    above: int
    agreed: Annotated[str, Field(description="What was agreed: the list price, a margin, a currency.")]


class ChargedAttempt(BaseModel):
    id: str
    number: int
    deployment: str
    outcome: str
    state: str
    reason: Annotated[str, Field(description="Why it is unpriced, as far as that is known now.")]
    source: str
    raw_usage: str
    corrections: Annotated[list[CorrectionOfAttempt], Field(description="What changed since it ended; in the lines.")]
    lines: Annotated[list[ChargedLine], Field(description="Those in force.")]
    total: Annotated[Money, Field(description="Effective: what is owed, the sum of the lines.")]
    list: Money
    billed: Annotated[Money, Field(description="What is charged inside, margin included.")]
    reported: Annotated[Money, Field(description="What the provider itself says it cost.")]
    reported_gap_percent: str | None
    reported_differs: Annotated[bool, Field(description="By more than 1 % of ours.")]


class ChargedCall(BaseModel):
    """Why a call cost what it did."""

    id: str
    started_at: str
    model_asked: str
    model_served: str
    config_revision: int
    version: Annotated[int, Field(description="Of the price book; 0: from before there were versions.")]
    attempts: list[ChargedAttempt]
    total: Money


class CoverageRow(BaseModel):
    model: Annotated[str, Field(description="As asked for, or of a route.")]
    deployment: str
    priced_as: Annotated[str, Field(description="kind/model, under which its prices stand.")]
    routed: bool
    state: PriceState
    reason: str
    sources: list[str]
    calls: Annotated[int, Field(description="In the time asked about.")]
    unpriced_calls: int


class CoverageReply(BaseModel):
    version: int
    since_at: str
    data: list[CoverageRow]


class UnpricedReason(BaseModel):
    reason: str
    attempts: int


class UnpricedRow(BaseModel):
    model: str
    deployment: str
    reason: Annotated[str, Field(description="Of its model, as things are now.")]
    reasons: Annotated[
        list[UnpricedReason],
        Field(description=f"Of its newest attempts (up to {MOST_ENDS} of all models), as it was; corrected ones not."),
    ]
    calls: int
    first_at: Annotated[str, Field(description="The hour of the first.")]
    last_at: Annotated[str, Field(description="The hour of the last.")]


class UnpricedReply(BaseModel):
    """Calls whose cost is null, from the ledger's sums by the hour."""

    since_at: str
    data: list[UnpricedRow]
    freshness: FreshnessReply
