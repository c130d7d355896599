"""What the limits' endpoints read and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from gateway.core.limit_admin import LimitView
from gateway.core.limits import Limit, Suspension, Unit
from gateway.core.money import print_usd
from gateway.desk.moments import parse_duration_s, print_moment
from gateway.desk.shapes import Applied, LimitReply, Name, _Write, limit_members
from gateway.limits.written import write_scope

ScopeText = Annotated[
    dict[str, str],
    Field(
        description="org, team, key, user, session, tag:NAME, model, provider, deployment; `each`: every value has a "
        "count of its own. The org is always the asker's.",
        examples=[{"team": "growth", "user": "each"}],
    ),
]
LimitText = Annotated[str, Field(max_length=100, description="Amount and window.", examples=["5USD/month"])]


class IncreaseText(_Write):
    by: Annotated[str, Field(max_length=60, examples=["100USD"])]
    until: Annotated[str, Field(max_length=40, examples=["2026-12-24"])]


class CreateLimit(_Write):
    """A limit of its own. Its members are those of `limits.yaml`."""

    name: Annotated[Name | None, Field(description="Unique among the org's limits; its id where there is none.")] = None
    limit: LimitText
    scope: ScopeText = {}
    on_exceed: Annotated[str, Field(max_length=20, description="block, downgrade, cap_output, dry_run or alert.")] = (
        "block"
    )
    downgrade_to: Annotated[
        str | None, Field(max_length=256, description="With downgrade, the model such a call goes on with.")
    ] = None
    min_output: Annotated[
        int | None, Field(description="With cap_output, the fewest tokens of output that are worth a call.")
    ] = None
    hold: Annotated[str, Field(max_length=20, description="bound or estimate.")] = "bound"
    alerts: Annotated[list[int], Field(max_length=10)] = []
    max_values: int | None = None
    increase: IncreaseText | None = None

    def members(self) -> dict[str, object]:
        """As `limits.written.read_limit` takes them."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


class ChangeLimit(_Write):
    """What to set; members left out stay. A limit keeps its unit, window and scope: its counters are theirs."""

    name: Name | None = None
    limit: LimitText | None = None
    on_exceed: Annotated[str | None, Field(max_length=20)] = None
    downgrade_to: Annotated[str | None, Field(max_length=256)] = None
    min_output: int | None = None
    hold: Annotated[str | None, Field(max_length=20)] = None
    alerts: Annotated[list[int] | None, Field(max_length=10)] = None
    max_values: int | None = None


class IncreaseLimit(_Write):
    """More for a time: `until` a moment, or `lasts` from now. `by: none` ends it."""

    by: Annotated[str, Field(max_length=60, examples=["100USD", "none"])]
    until: Annotated[str | None, Field(max_length=40, examples=["2026-12-24"])] = None
    lasts: Annotated[str | None, Field(max_length=20, examples=["24h"])] = None


class SuspendLimits(_Write):
    """For a time no limit refuses a call of this scope, or only the limit named. Everything is counted on."""

    scope: ScopeText = {}
    limit: Annotated[Name | None, Field(description="Id or name of the only limit to suspend; none: all.")] = None
    lasts: Annotated[str, Field(max_length=20, examples=["1h"], description="At most 7d.")]
    reason: Annotated[str, Field(min_length=3, max_length=500)]

    @field_validator("lasts")
    @classmethod
    def _lasts(cls, value: str) -> str:
        if not 0 < parse_duration_s(value) <= 7 * 86_400:
            raise ValueError("limits can be suspended for up to 7 days; change them for longer")
        return value


# ---------------------------------------------------------------- replies


class LimitMembers(LimitReply):
    """A limit that is no key's own."""

    object: Literal["limit"] = "limit"
    created_at: str | None = None
    created_by: str | None = None

    @classmethod
    def of_file(cls, limit: Limit) -> LimitMembers:
        return cls.model_validate(limit_members(limit))

    @classmethod
    def of_sql(cls, view: LimitView) -> LimitMembers:
        made = {"created_at": print_moment(view.created_ms), "created_by": view.created_by}
        return cls.model_validate({**limit_members(view.limit), **made})


class LimitWritten(BaseModel):
    limit: LimitMembers
    revision: int
    state: Applied


class LimitRemoved(BaseModel):
    id: str
    revision: int
    state: Applied


class LimitList(BaseModel):
    object: Literal["list"] = "list"
    data: list[LimitMembers]


class SuspensionMembers(BaseModel):
    id: str
    object: Literal["suspension"] = "suspension"
    scope: dict[str, str]
    limit_id: str | None
    reason: str
    actor: str
    created_ms: int
    created_at: str
    until_ms: int
    until_at: str
    active: bool

    @classmethod
    def of(cls, suspension: Suspension, now_ms: int) -> SuspensionMembers:
        return cls(
            id=suspension.id,
            scope=write_scope(suspension.scope),
            limit_id=suspension.limit_id or None,
            reason=suspension.reason,
            actor=suspension.actor,
            created_ms=suspension.created_ms,
            created_at=print_moment(suspension.created_ms),
            until_ms=suspension.until_ms,
            until_at=print_moment(suspension.until_ms),
            active=now_ms < suspension.until_ms,
        )


class SuspensionWritten(BaseModel):
    suspension: SuspensionMembers
    revision: int
    state: Applied


class SuspensionList(BaseModel):
    object: Literal["list"] = "list"
    data: list[SuspensionMembers]


class Amount(BaseModel):
    """An amount in the limit's unit: nano-USD (and exact USD beside it), requests or tokens."""

    amount: int
    usd: str | None

    @classmethod
    def of(cls, amount: int, unit: Unit) -> Amount:
        return cls(amount=amount, usd=print_usd(amount) if unit is Unit.USD else None)


BudgetState = Literal["enforced", "suspended", "dry_run", "alert"]


class BudgetReply(LimitReply):
    """A limit as it stands for one kind of call. Amounts are null where nobody knows the counters, or where the limit
    counts each value of something in `needs` that was not given."""

    state: BudgetState
    needs: Annotated[list[str], Field(description="Give these to see a count: `user`, `session`, …")]
    allowed: Annotated[Amount, Field(description="The amount, a temporary increase included.")]
    spent: Amount | None = None
    reserved: Amount | None = None
    left: Amount | None = None
    overshot: Annotated[Amount | None, Field(description="What was spent beyond it: by estimates, or unenforced.")] = (
        None
    )
    resets_ms: int | None = None
    resets_at: str | None = None
    binds: Annotated[bool, Field(description="Of the enforced limits of its unit, the one with the least left.")] = (
        False
    )


class ExplainReply(BaseModel):
    """Every limit that applies to a key's calls, and which of them binds."""

    object: Literal["budgets"] = "budgets"
    key_id: str
    name: str
    org: str
    team: str
    at_ms: int
    at: str
    counted: Annotated[bool, Field(description="False: nobody who knows the counters answers now.")]
    budgets: list[BudgetReply]
    suspensions: list[SuspensionMembers]
