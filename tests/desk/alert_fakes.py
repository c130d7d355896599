"""Alerts in memory and a notifier that remembers, behind the desk's ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.alerts import Alert, AlertView, Channel, Delivery, Notified
from gateway.core.errors import NotFound


@dataclass
class MemoryAlerts:
    """core.alerts.AlertStore."""

    views: list[AlertView] = field(default_factory=list)

    async def record(self, alerts: Sequence[Alert], deliveries: Sequence[Delivery]) -> None:
        for alert in alerts:
            mine = tuple(one for one in deliveries if one.alert_id == alert.id)
            self.views.append(AlertView(alert, mine))

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
        orgs = {org, ""} if whole else {org}
        found = [
            view
            for view in self.views
            if view.alert.org in orgs
            and team in (None, view.alert.team)
            and (
                before_ms is None
                or view.alert.created_ms < before_ms
                or (before_id and view.alert.created_ms == before_ms and view.alert.id > before_id)
            )
        ]
        return sorted(found, key=lambda view: (-view.alert.created_ms, view.alert.id))[:limit]

    async def forget_alerts(self, before_ms: int, limit: int = 1000) -> int:
        old = sorted(view.alert.created_ms for view in self.views if view.alert.created_ms < before_ms)[:limit]
        self.views = [view for view in self.views if view.alert.created_ms not in old]
        return len(old)

    async def alert(self, org: str, alert_id: str, *, team: str | None = None, whole: bool = False) -> AlertView:
        for view in await self.alerts(org, team=team, whole=whole, limit=10**6):
            if view.alert.id == alert_id:
                return view
        raise NotFound(f"There is no alert {alert_id!r}.")


@dataclass
class Remembering:
    """core.alerts.Notifier."""

    answer: Notified = field(default_factory=lambda: Notified(True))
    sent: list[tuple[Channel, Alert]] = field(default_factory=list)

    async def send(self, channel: Channel, alert: Alert) -> Notified:
        self.sent.append((channel, alert))
        return self.answer
