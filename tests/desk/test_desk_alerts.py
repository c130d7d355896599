"""Alerts over HTTP: whose they are, a channel tried, and pause links that act on POST only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import pytest

from desk.alert_fakes import MemoryAlerts, Remembering
from desk.asking import Asking
from desk.world import EMPTY, World
from gateway.alerts.pausing import Pause, pause_of, sign
from gateway.alerts.telling import recording_delayed, trial
from gateway.cli.asgi import Answer
from gateway.core.alerts import (
    Alert,
    AlertKind,
    AlertPolicy,
    Channel,
    ChannelKind,
    Delivery,
    DeliveryState,
    Notified,
)
from gateway.core.caller import GRANTS, Permission, Role
from gateway.core.limits import Unit
from gateway.desk.alerts.endpoints import AlertDesk
from gateway.desk.app import create_desk_app
from gateway.desk.parts import AlertParts, DeskParts

SECRET = b"p" * 32
OPS = Channel("ops", ChannelKind.WEBHOOK, "https://hooks.example.com", "env:S")


@dataclass
class Desk:
    world: World = field(default_factory=World)
    store: MemoryAlerts = field(default_factory=MemoryAlerts)
    notifier: Remembering = field(default_factory=Remembering)

    def parts(self) -> DeskParts:
        return replace(self.world.parts(), alerts=AlertParts(self.store, self.notifier, SECRET))

    def asking(self, name: str | None) -> Asking:
        return self.world.asking(create_desk_app(self.parts()), name)

    def link(self, scope: tuple[tuple[str, str], ...], lasts_ms: int = 1000) -> str:
        pause = Pause("alr_0123456789abcdef", scope, self.world.clock.now_ms() + lasts_ms)
        return f"/alerts/pause?token={sign(pause, SECRET)}"


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.world.add_key("boss", Role.ADMIN)
    await made.world.add_key("money", Role.FINANCE)
    await made.world.add_key("growth", Role.TEAM, team="growth")
    await made.world.add_key("app", Role.DATA, team="growth")
    await made.world.add_key("other", Role.ADMIN, org="other")
    return made


def alert(number: int, org: str = "default", team: str = "growth") -> Alert:
    return msgspec.structs.replace(trial(f"c{number}", org, "tester", number), team=team, key_id="k1")


async def follow(asking: Asking, method: str, link: str) -> Answer:
    path, _, query = link.partition("?")
    return await asking.send(method, path, query=query)


async def test_everybody_sees_the_alerts_that_concern_them(desk: Desk) -> None:
    mine, others, ours = alert(1), alert(2, org="other"), alert(3, team="search")
    whole = recording_delayed(600_000, 1, "SQL is away", 4)
    await desk.store.record([mine, others, ours, whole], [Delivery(mine.id, "ops", DeliveryState.SENT, 2, 0, 9)])

    async def seen(name: str) -> list[str]:
        return [one["id"] for one in (await desk.asking(name).get("/admin/v1/alerts")).json()["data"]]

    assert await seen("boss") == [whole.id, ours.id, mine.id]
    assert await seen("money") == [ours.id, mine.id]
    assert await seen("growth") == [mine.id]
    assert await seen("other") == [whole.id, others.id]
    assert (await desk.asking("app").get("/admin/v1/alerts")).status == 403
    assert (await desk.asking("growth").get(f"/admin/v1/alerts/{ours.id}")).status == 404
    shown = (await desk.asking("money").get(f"/admin/v1/alerts/{mine.id}")).json()
    assert shown["deliveries"] == [
        {"channel": "ops", "state": "sent", "attempts": 2, "next_at": None,
         "ended_at": "1970-01-01T00:00:00.009Z", "error": ""}
    ]  # fmt: skip
    assert shown["figures"] == [{"name": "spent", "amount": 1_234_567_890, "unit": "nusd", "usd": "1.23456789"}]
    page = (await desk.asking("boss").get("/admin/v1/alerts", limit=1)).json()
    assert page["has_more"]
    rest = await desk.asking("boss").get("/admin/v1/alerts", before_ms=page["data"][-1]["created_ms"])
    assert [one["id"] for one in rest.json()["data"]] == [ours.id, mine.id]


async def test_a_channel_is_tried_by_those_who_may_write_limits(desk: Desk) -> None:
    policy = msgspec.structs.replace(EMPTY, alerts=AlertPolicy(channels=(OPS,)))
    await desk.world.config.save_policy(policy, actor="test")
    for name, status in (("money", 200), ("growth", 403), ("app", 403)):
        answer = await desk.asking(name).send("POST", "/admin/v1/alerts/test", json={"channel": "ops"})
        assert answer.status == status, name
    assert [(channel.name, sent.kind) for channel, sent in desk.notifier.sent] == [("ops", AlertKind.TEST)]
    desk.notifier.answer = Notified(False, "answered 500: no")
    failed = (await desk.asking("boss").send("POST", "/admin/v1/alerts/test", json={"channel": "ops"})).json()
    assert (failed["delivered"], failed["detail"]) == (False, "answered 500: no")
    missing = await desk.asking("boss").send("POST", "/admin/v1/alerts/test", json={"channel": "x"})
    assert missing.status == 404
    assert "there are: ops" in missing.json()["error"]["message"]


async def test_a_pause_link_shows_on_get_and_stops_on_post(desk: Desk) -> None:
    key_id = desk.world.ids["app"]
    asking = desk.asking(None)
    link = desk.link((("org", "default"), ("team", "growth"), ("key", key_id)))
    for _ in range(3):
        page = await follow(asking, "GET", link)
        assert page.status == 200
        assert f"Pause the key app ({key_id})" in page.text
        assert '<form method="post"' in page.text
    assert not desk.world.ring.by_id(key_id).paused, "scanners of mail follow links"  # type: ignore[union-attr]
    done = await follow(asking, "POST", link)
    assert done.status == 200
    assert desk.world.ring.by_id(key_id).paused  # type: ignore[union-attr]
    assert (await follow(asking, "POST", link)).status == 200, "twice is once"
    row = (await desk.world.config.log())[0]
    assert (row.subject, row.actor) == (key_id, "pause link of alr_0123456789abcdef")
    assert "It is paused already." in (await follow(asking, "GET", link)).text


async def test_a_users_link_makes_one_limit_of_nothing(desk: Desk) -> None:
    key_id = desk.world.ids["app"]
    link = desk.link((("org", "default"), ("team", "growth"), ("key", key_id), ("user", "<b>ann</b>")))
    page = await follow(desk.asking(None), "GET", link)
    assert "user:&lt;b&gt;ann&lt;/b&gt;" in page.text
    assert "<b>" not in page.text
    for _ in range(2):
        assert (await follow(desk.asking(None), "POST", link)).status == 200
    (view,) = await desk.world.config.limits("default")
    assert (view.limit.unit, view.limit.amount, view.limit.name) == (Unit.USD, 0, "pause-6789abcdef")
    assert dict(view.limit.scope) == {"org": "default", "team": "growth", "key": key_id, "user": "<b>ann</b>"}
    assert view.created_by == "pause link of alr_0123456789abcdef"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_links_do_nothing(desk: Desk, method: str) -> None:
    key_id = desk.world.ids["app"]
    asking = desk.asking(None)
    good = desk.link((("org", "default"), ("key", key_id)))
    expired = desk.link((("org", "default"), ("key", key_id)), lasts_ms=0)
    elsewhere = desk.link((("org", "other"), ("key", key_id)))
    gone = desk.link((("org", "default"), ("key", "nobody")))
    forged = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    before = desk.world.config.revision
    for link, status in (
        ("/alerts/pause", 400), (expired, 403), (forged, 403), (good[:60], 403), (elsewhere, 404), (gone, 404),
    ):  # fmt: skip
        answer = await follow(asking, method, link)
        assert answer.status == status, link
        assert "<form" not in answer.text
    assert desk.world.config.revision == before


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role or "nobody")
async def test_each_role_may_do_what_it_is_granted(desk: Desk, role: Role | None) -> None:
    if role is not None:
        await desk.world.add_key("asker", role)
    asking = desk.asking(None if role is None else "asker")
    granted = frozenset() if role is None else GRANTS[role]
    for method, path, right in (
        ("GET", "/admin/v1/alerts", Permission.READ_KEYS),
        ("GET", "/admin/v1/alerts/alr_x", Permission.READ_KEYS),
        ("POST", "/admin/v1/alerts/test", Permission.WRITE_LIMITS),
    ):
        answer = await asking.send(method, path, json={"channel": "x"} if method == "POST" else None)
        refused = answer.status in (401, 403)
        assert refused == (right not in granted), (role, method, path)
    assert desk.notifier.sent == []


def test_the_routes_beside_the_links_need_a_right(desk: Desk) -> None:
    alerts = desk.parts().alerts
    assert alerts is not None
    rights = {(row.method, row.path): row.permission for row in AlertDesk(desk.parts(), alerts).rows()}
    public = {place for place, right in rights.items() if right is Permission.PUBLIC}
    assert public == {("GET", "/alerts/pause"), ("POST", "/alerts/pause")}
    assert rights["POST", "/admin/v1/alerts/test"] is Permission.WRITE_LIMITS


def test_what_a_link_would_stop() -> None:
    of_key = msgspec.structs.replace(
        alert(1), kind=AlertKind.RATE_OF_SPEND, scope=(("org", "default"), ("team", "growth"), ("key", "k1"))
    )
    whole = (("org", "default"), ("team", "growth"), ("key", "k1"))
    assert pause_of(of_key, 9) == Pause(of_key.id, whole, 9)
    of_user = msgspec.structs.replace(of_key, scope=(*whole, ("user", "ann")))
    assert pause_of(of_user, 9) == Pause(of_key.id, (*whole, ("user", "ann")), 9)
    assert not Pause("a", (*whole, ("user", "ann")), 9).key_alone
    of_team = msgspec.structs.replace(of_key, kind=AlertKind.THRESHOLD, key_id="", scope=whole[:2])
    assert pause_of(of_team, 9) is None
    cut = msgspec.structs.replace(of_key, scope=(*whole, ("user", "aaaa~0123")))
    assert pause_of(cut, 9) is None
    told = msgspec.structs.replace(of_key, kind=AlertKind.SUSPENSION)
    assert pause_of(told, 9) is None


def test_no_link_is_signed_with_a_short_secret() -> None:
    with pytest.raises(ValueError, match="too short"):
        sign(Pause("a", (), 1), b"short")


async def test_a_page_goes_on_where_the_last_one_ended(desk: Desk) -> None:
    """Of alerts of one millisecond, too."""
    made = [msgspec.structs.replace(alert(number), created_ms=5 + number // 4) for number in range(9)]
    await desk.store.record(made, [])
    asking = desk.asking("boss")
    assert (await asking.get("/admin/v1/alerts", before_id="alr_1")).json()["error"]["param"] == "before_id"
    pages: list[str] = []
    query: dict[str, object] = {"limit": 2}
    while True:
        page = (await asking.get("/admin/v1/alerts", **query)).json()
        pages += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        query |= {"before_ms": page["data"][-1]["created_ms"], "before_id": page["data"][-1]["id"]}
    assert pages == [one.id for one in sorted(made, key=lambda one: (-one.created_ms, one.id))]
