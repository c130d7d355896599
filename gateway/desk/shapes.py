"""What the control plane reads and answers, as pydantic models: the OpenAPI description is made of them.

Writes are explicit models that refuse unknown members. Money stands twice: a decimal string in USD (`_usd`) and
integer nano-USD (`_nusd`); null means unpriced, never 0. Times are ms UTC (`_ms`) and, for people, ISO (`_at`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from gateway.core.admin import ConfigRow, KeyChange, KeyView
from gateway.core.caller import Role
from gateway.core.limits import Limit, Unit
from gateway.core.money import print_usd
from gateway.desk.moments import parse_duration_s, print_moment
from gateway.limits.text import (
    MAX_AMOUNT,
    parse_budget,
    print_limit,
    requests_per_minute,
    tokens_per_minute,
    write_limit,
)
from gateway.limits.written import write_scope

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_PRINTABLE)]
Word = Annotated[str, StringConstraints(max_length=128, pattern=_PRINTABLE)]
Applied = Literal["applied", "pending"]
"""`pending`: committed, but not every worker has acknowledged it within a second; they will within 250 ms of asking."""
KeyState = Literal["active", "paused", "expired", "revoked"]


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _KeySettings(_Write):
    """What may be said of a key both when it is made and later."""

    team: Annotated[Name | None, Field(description="Team the key's spend belongs to.")] = None
    models: Annotated[
        list[Name] | None, Field(max_length=256, description="Models it may use, `*` at the end allowed; empty: all.")
    ] = None
    tags: Annotated[dict[Name, Word] | None, Field(max_length=16, description="Recorded with each call.")] = None
    rpm: Annotated[int | None, Field(ge=1, le=MAX_AMOUNT, description="Requests per minute.")] = None
    tpm: Annotated[int | None, Field(ge=1, le=MAX_AMOUNT, description="Tokens per minute.")] = None
    budget: Annotated[
        str | list[str] | None,
        Field(description="Hard budgets, each with its window: `5USD/month`.", examples=["5USD/month"]),
    ] = None
    expires_in: Annotated[
        str | None, Field(description="Length of life from now: `30d`; `never`.", examples=["30d"])
    ] = None

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str | list[str] | None) -> str | list[str] | None:
        for text in _several(value):
            parse_budget(text)
        return value

    @field_validator("expires_in")
    @classmethod
    def _expires_in(cls, value: str | None) -> str | None:
        if value is not None and value != "never" and parse_duration_s(value) == 0:
            raise ValueError("a key cannot expire at once; revoke it instead")
        return value

    def _change(self, now_ms: int, name: str | None, org: str | None, role: str | None) -> KeyChange:
        limits: list[Limit] = []
        limits.extend(parse_budget(text) for text in _several(self.budget))
        if self.rpm is not None:
            limits.append(requests_per_minute(self.rpm))
        if self.tpm is not None:
            limits.append(tokens_per_minute(self.tpm))
        expires_ms: int | None = None
        if self.expires_in is not None:
            expires_ms = 0 if self.expires_in == "never" else now_ms + parse_duration_s(self.expires_in) * 1000
        return KeyChange(
            name=name,
            org=org,
            team=self.team,
            role=role,
            models=None if self.models is None else tuple(self.models),
            tags=None if self.tags is None else tuple(sorted(self.tags.items())),
            expires_ms=expires_ms,
            limits=tuple(limits) if limits else None,
        )


def _several(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


class CreateKey(_KeySettings):
    """A new key in the org of whoever asks."""

    name: Annotated[Name, Field(description="Unique among the org's keys.")]
    role: Annotated[Role, Field(description="`data` calls models; the others read or administer.")] = Role.DATA
    if_absent: Annotated[bool, Field(description="Return an existing key of this name instead of refusing.")] = False

    def change(self, now_ms: int, org: str) -> KeyChange:
        return self._change(now_ms, self.name, org, self.role.value)


class ImportKey(_KeySettings):
    """A key of another gateway by its SHA-256. It calls models and can never administer."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
    name: Name

    def change(self, now_ms: int, org: str) -> KeyChange:
        return self._change(now_ms, self.name, org, Role.DATA.value)


class UpdateKey(_KeySettings):
    """What to set; members left out stay as they are. A limit replaces the one of its unit and window. Role and org are
    for life."""

    name: Name | None = None

    def change(self, now_ms: int) -> KeyChange:
        return self._change(now_ms, self.name, None, None)


class RotateKey(_Write):
    overlap_s: Annotated[
        int, Field(ge=0, le=30 * 86_400, description="How long the old secret still works; 0: it ends now.")
    ] = 86_400


# ---------------------------------------------------------------- replies


class ErrorDetail(BaseModel):
    model_config = ConfigDict(extra="allow")
    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """The shape of every error, OpenAI's."""

    error: ErrorDetail


class Increase(BaseModel):
    """A temporary increase: what is added, in the limit's unit, and when that ends."""

    by: int
    by_usd: str | None
    until_ms: int
    until_at: str


class LimitReply(BaseModel):
    id: str
    name: Annotated[str, Field(description="For people; of a limit in a file its id, empty of a key's own.")]
    text: Annotated[str, Field(examples=["5USD/month"], description="As it is written.")]
    words: Annotated[str, Field(examples=["5 USD per month (UTC)"], description="As it is read.")]
    unit: str
    amount: Annotated[int, Field(description="Nano-USD, requests or tokens.")]
    amount_usd: str | None
    window: str
    window_s: Annotated[int, Field(description="Length of a rolling window, else 0.")]
    zone: str
    scope: Annotated[dict[str, str], Field(description="What it is about; `each`: every value has a count of its own.")]
    on_exceed: str
    downgrade_to: Annotated[str | None, Field(description="The model that a call without room goes on with.")]
    min_output: Annotated[int | None, Field(description="The fewest tokens of output that a cap leaves.")]
    hold: str
    alerts: Annotated[list[int], Field(description="Per cent of the amount.")]
    max_values: Annotated[int | None, Field(description="How many values of what callers send are counted at a time.")]
    increase: Increase | None
    origin: Annotated[str, Field(description="`sql`, or the file and line that own it.")]

    @classmethod
    def of(cls, limit: Limit) -> LimitReply:
        return cls(**limit_members(limit))


def limit_members(limit: Limit) -> dict[str, object]:
    """The members of a LimitReply."""
    return {
        "id": limit.id,
        "name": limit.name or (limit.id if limit.origin != "sql" else ""),
        "text": write_limit(limit),
        "words": print_limit(limit),
        "unit": limit.unit.value,
        "amount": limit.amount,
        "amount_usd": print_usd(limit.amount) if limit.unit is Unit.USD else None,
        "window": limit.window.kind.value,
        "window_s": limit.window.length_s,
        "zone": limit.window.zone,
        "scope": write_scope(limit.scope),
        "on_exceed": limit.on_exceed.value,
        "downgrade_to": limit.downgrade_to or None,
        "min_output": limit.min_output or None,
        "hold": limit.hold.value,
        "alerts": list(limit.alerts),
        "max_values": limit.max_values or None,
        "increase": _increase(limit),
        "origin": limit.origin,
    }


def _increase(limit: Limit) -> Increase | None:
    if not limit.increase:
        return None
    return Increase(
        by=limit.increase,
        by_usd=print_usd(limit.increase) if limit.unit is Unit.USD else None,
        until_ms=limit.increase_until_ms,
        until_at=print_moment(limit.increase_until_ms),
    )


class KeyMembers(BaseModel):
    """A key; its secret is never among the members."""

    id: str
    object: Literal["key"] = "key"
    prefix: Annotated[str, Field(description="How its text begins, to recognise it by.")]
    name: str
    org: str
    team: str
    role: str
    models: list[str]
    tags: dict[str, str]
    state: KeyState
    created_ms: int
    created_at: str
    expires_ms: int | None
    expires_at: str | None
    limits: list[LimitReply]

    @classmethod
    def of(cls, view: KeyView) -> KeyMembers:
        return cls.model_validate(
            {
                "id": view.key_id,
                "prefix": view.prefix,
                "name": view.name,
                "org": view.org,
                "team": view.team,
                "role": view.role,
                "models": list(view.models),
                "tags": view.tags,
                "state": view.state,
                "created_ms": view.created_ms,
                "created_at": print_moment(view.created_ms),
                "expires_ms": view.expires_ms or None,
                "expires_at": print_moment(view.expires_ms) if view.expires_ms else None,
                "limits": [LimitReply.of(limit) for limit in view.limits],
            }
        )


class KeyReply(BaseModel):
    """A key after a write. `secret` is its full text, shown this once; null when the key existed already."""

    key: KeyMembers
    secret: str | None = None
    created: bool = False
    revision: int
    state: Applied


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyMembers]
    has_more: bool


class TeamList(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


class LogRow(BaseModel):
    revision: int
    kind: str
    subject: str
    actor: str
    ts_ms: int
    at: str

    @classmethod
    def of(cls, row: ConfigRow) -> LogRow:
        at = print_moment(row.ts_ms)
        return cls(revision=row.revision, kind=row.kind, subject=row.subject, actor=row.actor, ts_ms=row.ts_ms, at=at)


class LogReply(BaseModel):
    object: Literal["list"] = "list"
    data: list[LogRow]


class ConfigReply(BaseModel):
    """The configuration in use. `problem` tells why the files on disk are not it; null when they are."""

    revision: int | None
    hash: str | None
    models: list[str]
    providers: list[str]
    problem: str | None
    problem_at: str | None
    checked_at: str | None


class ValidReply(BaseModel):
    """What the files on disk would become. `changed`: they differ from the configuration in use."""

    valid: Literal[True] = True
    hash: str
    changed: bool
    models: list[str]
    providers: list[str]


class ReloadReply(BaseModel):
    revision: int
    hash: str
    changed: bool
    state: Applied
