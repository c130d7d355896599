"""Alerts in SQL, on SQLite and PostgreSQL: recorded once, seen by whom they concern, deliveries as they are now."""

from __future__ import annotations

import msgspec
import pytest

from gateway.alerts.telling import recording_delayed, trial
from gateway.core.alerts import Alert, AlertView, Delivery, DeliveryState
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.store import migrate
from gateway.store.config_alerts import SqlAlertStore
from store.config_opened import Opened, opened, postgres_database, postgres_server, store

__all__ = ["opened", "postgres_database", "postgres_server", "store"]


def alert(number: int, org: str = "acme", team: str = "growth") -> Alert:
    return msgspec.structs.replace(trial(f"c{number}", org, "tester", number), team=team, scope=(("team", "Zoë %|"),))


async def test_an_alert_is_recorded_once_and_is_what_it_was(opened: Opened) -> None:
    alerts = SqlAlertStore(opened.engine)
    first, second = alert(1), alert(2)
    waiting = Delivery(first.id, "ops", next_ms=5)
    await alerts.record([first, second], [waiting])
    await alerts.record([msgspec.structs.replace(first, title="another")], [Delivery(first.id, "mail")])
    sent = msgspec.structs.replace(waiting, state=DeliveryState.SENT, attempts=2, ended_ms=9, next_ms=0)
    await alerts.record([], [sent, Delivery("alr_unknown", "ops")])
    assert await alerts.alerts("acme") == [
        AlertView(second, ()),
        AlertView(first, (Delivery(first.id, "mail"), sent)),
    ]
    assert await alerts.alert("acme", first.id) == AlertView(first, (Delivery(first.id, "mail"), sent))


async def test_only_those_whom_it_concerns_see_it(opened: Opened) -> None:
    alerts = SqlAlertStore(opened.engine)
    of_all = recording_delayed(600_000, 1, "SQL is away", 3)
    mine, others, teams = alert(1), alert(2, org="other"), alert(4, team="search")
    await alerts.record([mine, others, of_all, teams], [])

    async def seen(org: str, **more: object) -> list[str]:
        return [view.alert.id for view in await alerts.alerts(org, **more)]  # type: ignore[arg-type]

    assert await seen("acme") == [teams.id, mine.id]
    assert await seen("acme", whole=True) == [teams.id, of_all.id, mine.id]
    assert await seen("acme", team="growth") == [mine.id]
    assert await seen("acme", before_ms=4, limit=1) == [mine.id]
    for org, wanted, team in (("acme", others.id, None), ("acme", of_all.id, None), ("acme", mine.id, "search")):
        with pytest.raises(NotFound):
            await alerts.alert(org, wanted, team=team)


async def test_an_alert_of_a_key_that_is_no_more_is_shown_to_no_other_org(opened: Opened) -> None:
    """Its org is not known any more; its user and key would be."""
    alerts = SqlAlertStore(opened.engine)
    orphan = msgspec.structs.replace(alert(1, org="", team=""), key_id="k_gone", scope=(("key", "k_gone"),))
    await alerts.record([orphan], [])
    assert await alerts.alerts("other", whole=True) == []
    with pytest.raises(NotFound):
        await alerts.alert("other", orphan.id, whole=True)


async def test_down_and_up_again_forgets_them_and_says_so_in_between(opened: Opened) -> None:
    alerts = SqlAlertStore(opened.engine)
    await alerts.record([alert(1)], [Delivery(alert(1).id, "ops")])
    await migrate.downgrade(opened.where.url, opened.where.data_dir, "config", "0002")
    for asked in (alerts.record([alert(2)], []), alerts.alerts("acme")):
        with pytest.raises(StoreUnavailable, match="faregate db upgrade"):
            await asked
    await migrate.upgrade(opened.where.url, opened.where.data_dir, "config")
    assert await alerts.alerts("acme") == []


async def test_pages_skip_no_alert_of_one_instant(opened: Opened) -> None:
    alerts = SqlAlertStore(opened.engine)
    made = [msgspec.structs.replace(alert(number), created_ms=5 + number // 4) for number in range(10)]
    await alerts.record(made, [])
    seen: list[Alert] = []
    last: dict[str, object] = {}
    while page := await alerts.alerts("acme", limit=3, **last):  # type: ignore[arg-type]
        seen += [view.alert for view in page]
        last = {"before_ms": seen[-1].created_ms, "before_id": seen[-1].id}
    assert seen == sorted(made, key=lambda one: (-one.created_ms, one.id))
    assert {view.alert.created_ms for view in await alerts.alerts("acme", before_ms=7)} == {5, 6}


async def test_old_alerts_are_forgotten_with_their_deliveries_the_oldest_first(opened: Opened) -> None:
    alerts = SqlAlertStore(opened.engine)
    made = [alert(number) for number in range(1, 6)]
    await alerts.record(made, [Delivery(one.id, channel) for one in made for channel in ("mail", "ops")])
    assert await alerts.forget_alerts(5, limit=3) == 3
    assert [view.alert for view in await alerts.alerts("acme")] == made[:2:-1]
    assert await alerts.forget_alerts(5, limit=3) == 1
    assert await alerts.forget_alerts(5, limit=3) == 0
    (left,) = await alerts.alerts("acme")
    assert (left.alert, len(left.deliveries)) == (made[4], 2)
