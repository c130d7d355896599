"""Alerts over HTTP: listed, shown, a channel tried; and the page behind a pause link."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import Query
from starlette.responses import HTMLResponse

from gateway.alerts.pausing import PATH, Pause, read
from gateway.alerts.telling import trial
from gateway.core.alerts import AlertPolicy
from gateway.core.caller import KeyRecord, Permission, Role, team_scope
from gateway.core.errors import BadRequest, Conflict, FaregateError, NotFound
from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.desk.alerts.shapes import AlertList, AlertMembers, ChannelTested, ChannelToTry
from gateway.desk.commit import publish
from gateway.desk.guard import Asker, Row
from gateway.desk.limits.explain import present_policy
from gateway.desk.parts import AlertParts, DeskParts
from gateway.limits.scope import has_values, scope_words, whole_scope

_TAG = "Alerts"
_BASE = "/admin/v1/alerts"
_NAME_DIGITS = 10


class AlertDesk:
    """The endpoints. Alerts of another org do not exist here; those of the whole gateway are for administrators."""

    def __init__(self, parts: DeskParts, alerts: AlertParts) -> None:
        self._parts = parts
        self._alerts = alerts

    def rows(self) -> list[Row]:
        read_alerts, write, public = Permission.READ_KEYS, Permission.WRITE_LIMITS, Permission.PUBLIC
        return [
            Row("GET", _BASE, read_alerts, self.listing, "List alerts", _TAG, reply=AlertList),
            Row("GET", f"{_BASE}/{{id}}", read_alerts, self.show, "Show an alert", _TAG, reply=AlertMembers),
            Row("POST", f"{_BASE}/test", write, self.test, "Try a channel", _TAG, reply=ChannelTested),
            Row("GET", PATH, public, self.ask, "What a pause link would stop", _TAG, shown=False),
            Row("POST", PATH, public, self.pause, "Stop it", _TAG, shown=False),
        ]

    # ------------------------------------------------------------ the API

    async def listing(
        self,
        asker: Asker,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        before_ms: Annotated[
            int | None, Query(ge=0, description="Only older ones: `created_ms` of the last one of the page before.")
        ] = None,
        before_id: Annotated[
            str, Query(max_length=64, description="Its `id`, too: several may have been made in one millisecond.")
        ] = "",
    ) -> AlertList:
        if before_id and before_ms is None:
            raise BadRequest(
                "`before_id` goes with `before_ms`: both are of the last alert of a page.", param="before_id"
            )
        found = await self._alerts.store.alerts(
            asker.org,
            team=team_scope(asker),
            whole=_sees_all(asker),
            before_ms=before_ms,
            before_id=before_id,
            limit=limit + 1,
        )
        return AlertList(data=[AlertMembers.of(view) for view in found[:limit]], has_more=len(found) > limit)

    async def show(self, asker: Asker, id: str) -> AlertMembers:
        view = await self._alerts.store.alert(asker.org, id, team=team_scope(asker), whole=_sees_all(asker))
        return AlertMembers.of(view)

    async def test(self, asker: Asker, body: ChannelToTry) -> ChannelTested:
        """One attempt, now; nothing is kept of it."""
        policy: AlertPolicy = (await present_policy(self._parts)).alerts
        channel = policy.channel(body.channel)
        if channel is None:
            known = ", ".join(one.name for one in policy.channels) or "none yet"
            raise NotFound(f"There is no channel {body.channel!r} in alerts.yaml; there are: {known}.")
        alert = trial(channel.name, asker.org, asker.key_id, self._parts.clock.now_ms())
        result = await self._alerts.notifier.send(channel, alert)
        return ChannelTested(channel=channel.name, alert_id=alert.id, delivered=result.ok, detail=result.detail)

    # ------------------------------------------------------------ the page

    async def ask(self, token: Annotated[str, Query(max_length=4096)] = "") -> HTMLResponse:
        """Says what the link would stop. Changes nothing: scanners of mail follow links."""
        try:
            pause = self._pause(token)
            what, how = await self._words(pause)
        except FaregateError as error:
            return self._page("This link cannot be used", escape(error.message), status=error.status)
        form = f'<form method="post" action="{PATH}?token={escape(token)}"><button>Stop it</button></form>'
        return self._page(what, f"<p>{how}</p>{form}")

    async def pause(self, token: Annotated[str, Query(max_length=4096)] = "") -> HTMLResponse:
        try:
            pause = self._pause(token)
            done = await (self._pause_key(pause) if pause.key_alone else self._limit(pause))
        except FaregateError as error:
            return self._page("Nothing was stopped", escape(error.message), status=error.status)
        return self._page("Stopped", f"<p>{done}</p>")

    # ------------------------------------------------------------ within

    def _pause(self, token: str) -> Pause:
        if not token:
            raise BadRequest("This link is not whole. Copy all of it from the alert.", param="token")
        return read(token, self._alerts.secret, self._parts.clock.now_ms())

    async def _words(self, pause: Pause) -> tuple[str, str]:
        """(what would happen, how it is undone), as HTML."""
        if pause.key_alone:
            scope = dict(pause.scope)
            view = await self._parts.config.key(scope["key"])
            if view.org != scope.get("org", view.org):
                raise NotFound("There is no such key any more.")
            name = escape(f"{view.name} ({view.key_id}) of {view.org} / {view.team}")
            state = " It is paused already." if view.state == "paused" else ""
            return (
                f"Pause the key {name}?",
                f"Its calls are refused until somebody resumes it: faregate keys resume {escape(view.key_id)}.{state}",
            )
        words = escape(scope_words(pause.scope))
        return (
            f"Stop spending by {words}?",
            f"A limit of 0 USD is made for it, which holds until it is removed: faregate limits remove {_name(pause)}.",
        )

    async def _pause_key(self, pause: Pause) -> str:
        await self._words(pause)
        view, revision = await self._parts.config.set_paused(dict(pause.scope)["key"], True, actor=_actor(pause))
        state = "" if await publish(self._parts, revision) else " Not every worker has heard of it yet."
        return f"The key {escape(view.name)} ({view.key_id}) is paused.{state}"

    async def _limit(self, pause: Pause) -> str:
        scope = whole_scope(pause.scope)
        limit = Limit(
            id="",
            unit=Unit.USD,
            amount=0,
            window=Window(WindowKind.TOTAL),
            scope=scope,
            name=_name(pause),
            max_values=1 if has_values(scope) else 0,
        )
        words = escape(scope_words(scope))
        try:
            _, revision = await self._parts.config.create_limit(dict(scope)["org"], limit, actor=_actor(pause))
        except Conflict:
            return f"The limit {limit.name} is there already: {words} may spend nothing."
        state = "" if await publish(self._parts, revision) else " Not every worker has heard of it yet."
        return f"The limit {limit.name} is made: {words} may spend nothing until it is removed.{state}"

    def _page(self, title: str, body: str, status: int = 200) -> HTMLResponse:
        console = self._parts.console
        style = "" if console is None else f'<link rel="stylesheet" href="{escape(console.stylesheet)}">'
        return HTMLResponse(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">'
            f'<meta name="referrer" content="no-referrer"><title>Faregate</title>{style}</head>'
            f"<body><main><h1>{title}</h1>{body}</main></body></html>",
            status_code=status,
            headers={"referrer-policy": "no-referrer"},
        )


def _sees_all(asker: KeyRecord) -> bool:
    return asker.role == Role.ADMIN


def _actor(pause: Pause) -> str:
    """Who did it, for the log: whoever was sent this alert."""
    return f"pause link of {pause.alert_id}"


def _name(pause: Pause) -> str:
    """The limit's name: one link makes one limit, however often it is followed."""
    return f"pause-{pause.alert_id[-_NAME_DIGITS:]}"
