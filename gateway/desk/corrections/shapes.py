"""What re-rating asks and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.corrections import CorrectionRun
from gateway.core.ids import print_id
from gateway.desk.moments import print_moment
from gateway.desk.spend.shapes import Money

CORRECTION = "cor"
"""The prefix of a run of corrections' id."""
_Word = Annotated[str | None, Field(max_length=256)]


class RerateBody(BaseModel):
    """Calls that began in [from, to) are priced again. With `after` of a reply's `next`, its run goes on there."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[str, Field(alias="from", max_length=40, examples=["2026-11-01"])]
    until: Annotated[str, Field(alias="to", max_length=40)] = "now"
    model: _Word = None
    key: _Word = None
    team: _Word = None
    dry_run: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""
    correction: Annotated[str | None, Field(max_length=64, description="The run that goes on.")] = None
    after: Annotated[str | None, Field(max_length=64)] = None


class Differences(BaseModel):
    """By how much costs change."""

    postings: int
    list: Money
    effective: Money
    billed: Money
    prior_period: Annotated[Money, Field(description="The part of `effective` that is of closed months.")]


class DifferenceGroup(Differences):
    model: str
    team: str
    day: str


class MovedCounter(BaseModel):
    """A counter of a limit that is not over, and what it moves by."""

    limit: str
    counter: str
    amount: Money


class LeftAsTheyAre(BaseModel):
    """Attempts that are not corrected, and why."""

    the_same: int = 0
    no_price: Annotated[int, Field(description="No price is known now for all of it: what was charged stays.")] = 0
    nothing_used: int = 0
    several_runs: Annotated[int, Field(description="Runs of several models; a line does not say of which.")] = 0
    callers_own: Annotated[int, Field(description="Billed by the provider to the caller, who sent its own key.")] = 0
    not_in_detail: Annotated[int, Field(description="Recorded by a version that did not keep the region.")] = 0
    changed_meanwhile: Annotated[int, Field(description="Another run has corrected it: run this again.")] = 0


class RerateReply(BaseModel):
    """One part of a run. `next` null: it is done. Sums and groups are of this part."""

    object: Literal["rerate"] = "rerate"
    dry_run: bool
    version: Annotated[int, Field(description="Of the price book, that is in force; 0: there are no versions.")]
    correction: str | None
    from_ms: int
    from_at: str
    to_ms: int
    to_at: str
    looked_at: int
    priced_first: Annotated[int, Field(description="Postings that had no price and have one now.")]
    counters_unknown: Annotated[int, Field(description="Corrected, but recorded before counters were kept with them.")]
    left: LeftAsTheyAre
    total: Differences
    groups: list[DifferenceGroup]
    counters: list[MovedCounter]
    next: str | None


class CorrectionReply(BaseModel):
    """A run of corrections."""

    id: str
    kind: str
    actor: str
    reason: str
    first_at: str
    last_at: str
    postings: int
    list: Money
    effective: Money
    billed: Money
    prior_period: Money

    @classmethod
    def of(cls, run: CorrectionRun) -> CorrectionReply:
        return cls(
            id=print_id(CORRECTION, run.correction_id) if len(run.correction_id) == 16 else "",
            kind=run.kind,
            actor=run.actor,
            reason=run.reason,
            first_at=print_moment(run.first_ms),
            last_at=print_moment(run.last_ms),
            postings=run.postings,
            list=Money.of(run.list_nusd),
            effective=Money.of(run.effective_nusd),
            billed=Money.of(run.billed_nusd),
            prior_period=Money.of(run.prior_effective_nusd),
        )


class CorrectionList(BaseModel):
    object: Literal["list"] = "list"
    data: list[CorrectionReply]
