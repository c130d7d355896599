"""What the alerts' endpoints read and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.core.alerts import Alert, AlertView, Delivery, Figure
from gateway.desk.moments import print_moment
from gateway.desk.shapes import _Write


class FigureMembers(BaseModel):
    """One amount: `usd` is the exact decimal USD where `unit` is `nusd` (nano-USD), else null."""

    name: str
    amount: int
    unit: str
    usd: str | None

    @classmethod
    def of(cls, figure: Figure) -> FigureMembers:
        return cls(name=figure.name, amount=figure.amount, unit=figure.unit, usd=figure.usd)


class DeliveryMembers(BaseModel):
    channel: str
    state: Annotated[str, Field(description="waiting, sent or given_up.")]
    attempts: int
    next_at: str | None
    ended_at: str | None
    error: Annotated[str, Field(description="What the last attempt failed with; empty when none did.")]

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryMembers:
        return cls(
            channel=delivery.channel,
            state=delivery.state.value,
            attempts=delivery.attempts,
            next_at=print_moment(delivery.next_ms) if delivery.next_ms else None,
            ended_at=print_moment(delivery.ended_ms) if delivery.ended_ms else None,
            error=delivery.error,
        )


class AlertMembers(BaseModel):
    """An alert and what became of it. Pause links are in what is sent to a channel only."""

    id: str
    object: Literal["alert"] = "alert"
    kind: str
    severity: str
    created_ms: int
    created_at: str
    title: str
    next_step: str
    org: str
    team: str
    key_id: str
    scope: dict[str, str]
    limit_id: str
    period: str
    period_ends_at: str | None
    figures: list[FigureMembers]
    note: str
    deliveries: list[DeliveryMembers]

    @classmethod
    def of(cls, view: AlertView) -> AlertMembers:
        alert: Alert = view.alert
        return cls(
            id=alert.id,
            kind=alert.kind.value,
            severity=alert.severity.value,
            created_ms=alert.created_ms,
            created_at=print_moment(alert.created_ms),
            title=alert.title,
            next_step=alert.next_step,
            org=alert.org,
            team=alert.team,
            key_id=alert.key_id,
            scope=dict(alert.scope),
            limit_id=alert.limit_id,
            period=alert.period,
            period_ends_at=None if alert.period_ends_ms is None else print_moment(alert.period_ends_ms),
            figures=[FigureMembers.of(figure) for figure in alert.figures],
            note=alert.note,
            deliveries=[DeliveryMembers.of(delivery) for delivery in view.deliveries],
        )


class AlertList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AlertMembers]
    has_more: bool


class ChannelToTry(_Write):
    """Which channel of `alerts.yaml` to try."""

    channel: Annotated[str, Field(min_length=1, max_length=64)]


class ChannelTested(BaseModel):
    """What came of one attempt."""

    channel: str
    alert_id: str
    delivered: bool
    detail: Annotated[str, Field(description="What it failed with; empty when it was delivered.")]
