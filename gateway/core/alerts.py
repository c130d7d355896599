"""Alerts: what somebody is told of money, whom, and how they are delivered. Values and the ports to keep them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from gateway.core.limits import Unit


class AlertKind(StrEnum):
    THRESHOLD = "threshold"
    """So many per cent of a limit are spent."""
    FORECAST = "forecast"
    """At the present pace the limit will not last to the end of its window."""
    RATE_OF_SPEND = "rate_of_spend"
    """A key, user or session spends much faster than it does, or than it may."""
    SUSPENSION = "suspension"
    INCREASE = "increase"
    UNPRICED = "unpriced"
    """A model without a price answers calls: what they cost is not known."""
    RECORDING_DELAY = "recording_delay"
    JOURNAL_FAULT = "journal_fault"
    TEST = "test"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Figure(msgspec.Struct, frozen=True):
    """One amount of an alert, in its unit: nano-USD, with the exact USD as text beside it, or a count."""

    name: str
    amount: int
    unit: str = Unit.USD.value
    usd: str | None = None


class Alert(msgspec.Struct, frozen=True):
    """One alert; never changed, and made once per `dedupe`, of which `id` is a digest: told again, it has the same id.

    `org`, `team` and `key_id` are whom it concerns, empty where it concerns several. `scope` are the values it is about
    (dimension, value). `period` names the window, `period_ends_ms` is its end (None: never, or none). `next_step` is
    a sentence that says what to do. `links` are (name, URL).
    """

    id: str
    dedupe: str
    kind: AlertKind
    severity: Severity
    created_ms: int
    title: str
    next_step: str
    org: str = ""
    team: str = ""
    key_id: str = ""
    scope: tuple[tuple[str, str], ...] = ()
    limit_id: str = ""
    period: str = ""
    period_ends_ms: int | None = None
    figures: tuple[Figure, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    note: str = ""


class DeliveryState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given_up"


class Delivery(msgspec.Struct, frozen=True):
    """How far one alert has come on its way to one channel. `error` is what the last attempt failed with."""

    alert_id: str
    channel: str
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    next_ms: int = 0
    ended_ms: int = 0
    error: str = ""


class ChannelKind(StrEnum):
    WEBHOOK = "webhook"
    SLACK = "slack"
    EMAIL = "email"


class Encryption(StrEnum):
    """How mail is sent: TLS from the first byte, TLS asked for after the greeting, or none."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class Channel(msgspec.Struct, frozen=True):
    """Where alerts can be sent. It holds no secret: `secret` is a reference (`env:NAME`, `file:/path`).

    webhook: `address` is its URL and `secret` signs. slack: `secret` is the URL, which is one. email: `address` is
    `host:port`, `secret` the password of `user` (both empty: no sign-in). `networks` are addresses that may be
    connected to besides public ones, `ca_bundle` a PEM file that replaces the system's trust.
    """

    name: str
    kind: ChannelKind
    address: str = ""
    secret: str = ""
    networks: tuple[str, ...] = ()
    ca_bundle: str = ""
    recipients: tuple[str, ...] = ()
    sender: str = ""
    user: str = ""
    encryption: Encryption = Encryption.STARTTLS


class Route(msgspec.Struct, frozen=True):
    """Alerts of this owner, and of these kinds (none: all), go to these channels."""

    channels: tuple[str, ...]
    org: str = ""
    team: str = ""
    key_id: str = ""
    kinds: tuple[AlertKind, ...] = ()


class AlertRules(msgspec.Struct, frozen=True):
    """When there is an alert. `thresholds` are for limits on money that name none. Times are seconds.

    `forecast_from_percent` is the share of a window before which there is no forecast (0: no forecasts at all).
    `rate_factor` times its same-hour median is too fast, from `rate_minimum_nusd` in an hour on; so is more than
    `rate_per_hour_nusd` (0: there is no such limit). `quiet_s` is how long the same subject is not told of again.
    """

    thresholds: tuple[int, ...] = (50, 80, 100)
    forecast_from_percent: int = 20
    rate_factor: int = 5
    rate_minimum_nusd: int = 20_000_000_000
    rate_per_hour_nusd: int = 0
    quiet_s: int = 6 * 3600
    recording_delay_s: int = 300


class AlertPolicy(msgspec.Struct, frozen=True):
    """A compiled `alerts.yaml`. `url` is where people reach this gateway, for links; empty: no links.

    `default` are the channels of alerts that no route takes.
    """

    channels: tuple[Channel, ...] = ()
    default: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: AlertRules = AlertRules()
    url: str = ""
    pause_hours: int = 24

    def channel(self, name: str) -> Channel | None:
        return next((one for one in self.channels if one.name == name), None)


class AlertView(msgspec.Struct, frozen=True):
    """An alert and what became of it."""

    alert: Alert
    deliveries: tuple[Delivery, ...]


class AlertStore(Protocol):
    """Alerts in SQL: what people look at. The bookkeeper's outbox is what is sent from. Raises StoreUnavailable."""

    async def record(self, alerts: Sequence[Alert], deliveries: Sequence[Delivery]) -> None:
        """Adds alerts that are not there yet, and brings deliveries to their present state."""
        ...

    async def alerts(
        self,
        org: str,
        *,
        team: str | None = None,
        whole: bool = False,
        before_ms: int | None = None,
        before_id: str = "",
        limit: int = 100,
    ) -> list[AlertView]:
        """The newest first, of one instant by their ids: those of an org (of one team only), and with `whole` those of
        no org in particular. `before_ms` and `before_id` are the last one's of the page before; without the id all of
        that instant are left out."""
        ...

    async def alert(self, org: str, alert_id: str, *, team: str | None = None, whole: bool = False) -> AlertView:
        """Raises NotFound, also for another org's."""
        ...

    async def forget_alerts(self, before_ms: int, limit: int = 1000) -> int:
        """Deletes the oldest alerts made before a time, with their deliveries: at most `limit`, and how many."""
        ...


class Notified(msgspec.Struct, frozen=True):
    """What came of one attempt to deliver. With `over` another attempt makes no sense."""

    ok: bool
    detail: str = ""
    over: bool = False


class Notifier(Protocol):
    async def send(self, channel: Channel, alert: Alert) -> Notified:
        """One attempt, within 20 seconds. Never raises but when cancelled: what went wrong is in `detail`, which holds
        no secret."""
        ...
