"""Alerts of a bookkeeper: each once over kills and refolds, delivered until they arrive, without SQL too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookkeeper.alert_world import KEY, MONTH, OPS, RULES, START_MS, TELLING, Town, month_limit, quiet_status, shares
from gateway.alerts.pausing import pause_of
from gateway.alerts.thresholds import level_of
from gateway.core.alerts import AlertKind, AlertPolicy, AlertRules, Route
from gateway.core.errors import StoreUnavailable
from gateway.core.limits import EACH, Limit, Suspension, Unit, Window, WindowKind
from gateway.core.money import NANO
from gateway.core.queries import QueryScope, SpendRow

HOUR_MS = 3_600_000
PERCENTS = (50, 80, 100)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), st.integers(1, 30), st.integers(0, 2)),
        st.tuples(st.sampled_from(["die", "checkpoint", "look"]), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_each_threshold_is_told_once_whoever_is_killed_when(steps: list[tuple[str, int, int]]) -> None:
    """Three limits, any order of spending, kills, checkpoints and looks: exactly the thresholds reached, once each."""
    with TemporaryDirectory() as folder:
        town = Town(Path(folder))
        limits = [month_limit(100, f"lim_{number}") for number in range(3)]
        town.set(*limits)
        spent = [0, 0, 0]
        for step, nusd, which in steps:
            match step:
                case "spend":
                    town.spend(nusd, limits[which])
                    spent[which] += nusd
                case "die":
                    town.die()
                case "checkpoint":
                    town.checkpoint()
                case _:
                    town.look_now()
        town.die()
        town.look_now()
        town.close()
        expected = {
            (limit.id, percent)
            for limit, total in zip(limits, spent, strict=True)
            for percent in PERCENTS
            if total >= level_of(percent, 100)
        }
        assert set(shares(town)) == expected
        ids = {alert.id for _, alert in town.told.sent if alert.kind is AlertKind.THRESHOLD}
        assert len(ids) == len(expected)


async def test_a_death_between_sending_and_knowing_sends_again_with_the_same_id(town: Town) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    outbox = town.alerting.outbox
    (delivery,) = outbox.waiting()
    await town.told.send(OPS, outbox.alert(delivery.alert_id))  # type: ignore[arg-type]
    town.die()  # it was sent, and nothing of that is on disk
    await town.look()
    ids = [alert.id for _, alert in town.told.sent]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    await town.look()
    assert len(town.told.sent) == 2


async def test_a_raised_limit_is_judged_as_it_was_raised(town: Town) -> None:
    """Spending after a raise is never judged by the old amount, though nobody has looked in between."""
    limit = month_limit(100)
    town.set(limit)
    town.spend(95, limit)
    town.set(month_limit(300))
    town.spend(60, limit)
    town.set(month_limit(310))
    town.spend(5, limit)
    await town.look()
    told = sorted((alert.figures[1].amount, alert.figures[2].amount) for _, alert in town.told.sent)
    assert told == [(100, 50), (100, 80), (300, 50)]


async def test_an_increase_is_told_and_its_end_judges_anew(town: Town) -> None:
    limit = month_limit(100, increase=100, increase_until_ms=START_MS + HOUR_MS)
    town.set(limit)
    town.spend(90, limit)
    await town.look()
    assert shares(town) == []
    town.clock.ms += 2 * HOUR_MS
    await town.look()
    assert sorted(shares(town)) == [("lim_1", 50), ("lim_1", 80)]
    assert town.told.sent[0][1].kind is AlertKind.INCREASE


async def test_a_limit_that_refuses_is_used_up_whatever_is_left(town: Town) -> None:
    limit = month_limit(100)
    wide = Limit("lim_2", Unit.USD, 10_000, MONTH, (("team", "growth"), ("org", "acme")))
    town.set(limit, wide)
    town.spend(90, limit)
    for _ in range(3):
        town.refuse()
        await town.look()
    town.die()
    town.refuse()
    await town.look()
    assert sorted(shares(town)) == [("lim_1", 50), ("lim_1", 80), ("lim_1", 100)]
    assert "is used up" in town.told.titles[0]


async def test_rates_are_not_told_of_unless_they_ask_for_it(town: Town) -> None:
    silent = Limit("lim_r", Unit.REQUESTS, 10, Window(WindowKind.HOUR), (("key", "k1"),))
    asking = msgspec.structs.replace(silent, id="lim_a", alerts=(70,))
    town.set(silent, asking)
    town.spend(9, silent, asking)
    await town.look()
    assert shares(town) == [("lim_a", 70)]


async def test_each_users_limit_tells_of_the_user_and_could_stop_him(town: Town) -> None:
    limit = Limit("lim_u", Unit.USD, 100, MONTH, (("key", EACH), ("user", EACH)), max_values=9)
    town.set(limit)
    for user in ("ann", "bob, the | second%", "x" * 100):
        town.spend(60, limit, user=user)
    await town.look()
    told = {dict(alert.scope)["user"]: alert for _, alert in town.told.sent}
    assert set(told) >= {"ann", "bob, the | second%"}
    assert len(town.told.sent) == 3
    for alert in told.values():
        assert (alert.org, alert.team, alert.key_id) == ("acme", "growth", "k1")
    pauses = {user: pause_of(alert, 9) for user, alert in told.items()}
    whole = (("org", "acme"), ("key", "k1"))
    for user in ("ann", "bob, the | second%"):
        pause = pauses.pop(user)
        assert pause is not None
        assert pause.scope == (*whole, ("user", user))
    assert list(pauses.values()) == [None], "a long name is not told whole, so nobody can be stopped by it"
    assert ["pause" in dict(alert.links) for _, alert in town.told.sent].count(True) == 2


async def test_a_rolling_budget_is_told_once_in_its_length(town: Town) -> None:
    limit = Limit("lim_d", Unit.USD, 100, Window(WindowKind.ROLLING, 86_400), (("key", "k1"),))
    town.set(limit)
    for _ in range(10):
        town.spend(12, limit)
        town.clock.ms += HOUR_MS // 2
        await town.look()
    assert sorted(set(shares(town))) == [("lim_d", 50), ("lim_d", 80), ("lim_d", 100)]


async def test_a_forecast_is_told_once_and_again_for_a_raised_limit(tmp_path: Path) -> None:
    town = Town(tmp_path, msgspec.structs.replace(TELLING, rules=AlertRules()))
    limit = month_limit(1000)
    town.set(limit)
    for _ in range(3):
        town.spend(240, limit)
        await town.look()
    forecasts = [alert for _, alert in town.told.sent if alert.kind is AlertKind.FORECAST]
    assert len(forecasts) == 1
    assert "will not last" in forecasts[0].title
    assert forecasts[0].period_ends_ms is not None
    assert START_MS < forecasts[0].figures[3].amount < forecasts[0].period_ends_ms
    town.set(month_limit(1100))
    town.spend(1, limit)
    await town.look()
    assert len([alert for _, alert in town.told.sent if alert.kind is AlertKind.FORECAST]) == 2
    town.close()


# ---------------------------------------------------------------- rate of spend


def rates(town: Town) -> list[tuple[str, ...]]:
    found = [alert for _, alert in town.told.sent if alert.kind is AlertKind.RATE_OF_SPEND]
    return [tuple(name for name, _ in alert.scope) for alert in found]


async def test_a_runaway_is_told_once_until_it_was_quiet(town: Town) -> None:
    for _ in range(5):
        town.spend(6 * NANO, user="ann")
        await town.look()
    assert rates(town) == [("org", "team", "key"), ("org", "team", "key", "user")]
    town.clock.ms += 7 * HOUR_MS
    town.spend(25 * NANO, user="bob")
    await town.look()
    assert len(rates(town)) == 4


async def test_spending_is_remembered_over_a_clean_end_and_counted_once(town: Town) -> None:
    town.spend(19 * NANO)
    await town.look()
    town.alerting.close()
    town.die()  # folds the same record again
    await town.look()
    assert rates(town) == []
    town.spend(1 * NANO)
    await town.look()
    assert len(rates(town)) == 1


class Rollups:
    """core.queries.LedgerQueries, as far as alerts ask it."""

    def __init__(self, *amounts: int) -> None:
        self.amounts = amounts
        self.asked = 0
        self.down = False

    async def spend(
        self, scope: QueryScope, by: tuple[str, ...], from_ms: int, to_ms: int, limit: int = 1000
    ) -> list[SpendRow]:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("away")
        assert (scope.org, scope.key_id, by) == ("acme", "k1", ("hour",))
        hours = [(f"2026-11-{17 - day:02d}T11:00Z",) for day in range(len(self.amounts))]
        return [
            SpendRow(hour, 1, 0, 0, 0, amount * NANO, 0, 0, 0) for hour, amount in zip(hours, self.amounts, strict=True)
        ]


async def test_what_is_usual_is_asked_of_the_rollups_once_an_hour(tmp_path: Path) -> None:
    rollups = Rollups(*[30] * 14)
    town = Town(tmp_path, ledger=rollups)  # type: ignore[arg-type]
    for _ in range(7):
        town.spend(20 * NANO)
        await town.look()
    assert rates(town) == [], "140 is less than five times 30"
    assert rollups.asked == 1
    town.spend(20 * NANO)
    await town.look()
    (alert,) = [alert for _, alert in town.told.sent if alert.kind is AlertKind.RATE_OF_SPEND]
    assert [(figure.name, figure.usd) for figure in alert.figures] == [
        ("spent_in_60_minutes", "160"),
        ("same_hour_median", "30"),
    ]
    assert dict(alert.links)["pause"].startswith("https://gateway.example.com/alerts/pause?token=")
    town.close()


async def test_without_sql_it_says_what_it_does_not_know(tmp_path: Path) -> None:
    rollups = Rollups()
    rollups.down = True
    town = Town(tmp_path, ledger=rollups)  # type: ignore[arg-type]
    town.spend(20 * NANO)
    await town.look()
    (alert,) = [alert for _, alert in town.told.sent if alert.kind is AlertKind.RATE_OF_SPEND]
    assert "SQL did not answer" in alert.note
    town.close()


async def test_a_limit_per_hour_is_of_the_file(tmp_path: Path) -> None:
    rules = AlertRules(rate_per_hour_nusd=2 * NANO)
    town = Town(tmp_path, msgspec.structs.replace(TELLING, rules=rules))
    town.spend(2 * NANO)
    await town.look()
    assert rates(town) == []
    town.spend(1)
    await town.look()
    assert len(rates(town)) == 1
    assert "over 2 USD an hour" in town.told.titles[0]
    town.close()


# ---------------------------------------------------------------- the rest


async def test_suspensions_unpriced_models_and_delays_are_told_once(town: Town) -> None:
    town.suspensions.append(Suspension("sus_1", (("org", "acme"),), START_MS + HOUR_MS, "incident 7", "boss", 1))
    town.set()
    town.status = quiet_status(behind_ms=600_000, behind_bytes=9, store_fault="SQL is away", journal_fault="torn")
    for _ in range(3):
        town.spend(0, state="unpriced")
        await town.look()
        town.die()
    assert sorted(alert.kind.value for _, alert in town.told.sent) == [
        "journal_fault", "recording_delay", "suspension", "unpriced",
    ]  # fmt: skip


async def test_whom_it_concerns_is_told(tmp_path: Path) -> None:
    routes = (Route((), kinds=(AlertKind.THRESHOLD,)), Route(("ops",), team="growth"), Route((), key_id="k9"))
    town = Town(tmp_path, msgspec.structs.replace(TELLING, default=(), routes=routes))
    town.keys = (KEY, msgspec.structs.replace(KEY, key_id="k9"))
    limit, other = month_limit(100), Limit("lim_9", Unit.USD, 100, MONTH, (("key", "k9"),))
    town.set(limit, other)
    town.spend(60, limit)
    town.spend(60, other)
    await town.look()
    assert shares(town) == [("lim_1", 50)]
    town.close()


async def test_nobody_is_told_without_a_file_but_it_is_kept(tmp_path: Path) -> None:
    town = Town(tmp_path, AlertPolicy(rules=RULES))
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    await town.look()
    assert town.told.sent == []
    alerts, deliveries = town.alerting.outbox.unrecorded(10)
    assert [alert.title.split(" (")[0] for alert in alerts] == ["50 % of limit"]
    assert deliveries == []
    town.close()
