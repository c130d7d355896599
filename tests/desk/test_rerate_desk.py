"""Re-rating and closing of months over HTTP: desk, bookkeeper, journals and SQL as they are, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bookkeeper.test_bookkeeper import keeping
from bookkeeper.world import CLOCK, ENTROPY, until
from store.ledger_entries import end, hold, ident, line, settle
from store.stores import Store, postgres_database, postgres_server, store

from desk.asking import Asking
from gateway.app import open_local
from gateway.bookkeeper.bookkeeper import Bookkeeper
from gateway.core.corrections import month_name
from gateway.core.ids import CALL, make_id, print_id
from gateway.core.limits import Take, Unit
from gateway.core.records import Dispatch
from gateway.desk.corrections import rerate
from gateway.desk.corrections.shapes import CORRECTION
from gateway.desk.moments import print_moment
from gateway.desk.parts import LOCAL_HEADER
from gateway.journal.writer import JournalWriter
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import PARTS, open_engine
from gateway.store.months import month_start
from gateway.store.queries_verify import SqlLedgerProof

__all__ = ["postgres_database", "postgres_server", "store"]

ROUTES = "providers:\n  openai:\n    kind: openai\nmodels:\n  gpt: openai/gpt-4o-mini\n"
PRICES = "prices:\n  openai/gpt-4o-mini:\n    rates: {input: 0.15 USD / 1M tokens, output: 0.60 USD / 1M tokens}\n"
RERATE, CLOSE = "/admin/v1/prices/rerate", "/admin/v1/periods/close"
WRONG_NUSD, RIGHT_NUSD = 30, 10 * 150 + 20 * 600
FIRST, SECOND, NOW = (month_start(CLOCK.now_ms(), back) for back in (-2, -1, 0))
COUNTER = "limit_1|key_1|total"


@dataclass
class World:
    settings: Settings
    operator: Asking
    bookkeeper: Bookkeeper
    url: str

    async def spend(self, since_ms: int, until_ms: int) -> dict[str, Any]:
        query = {"by": "org", "since": print_moment(since_ms), "until": print_moment(until_ms)}
        answer = await self.operator.get("/admin/v1/spend", **query)
        assert answer.status == 200, answer.text
        total: dict[str, Any] = answer.json()["total"]
        return total

    async def rerate(self, **members: object) -> dict[str, Any]:
        answer = await self.operator.post(RERATE, {"from": print_moment(FIRST), **members})
        assert answer.status == 200, answer.text
        reply: dict[str, Any] = answer.json()
        return reply

    async def loaded(self, calls: int) -> None:
        await until(lambda: self.bookkeeper.loader.calls >= calls)

    async def proved(self) -> None:
        engine = open_engine(self.url, self.settings.data_dir, "ledger")
        proof = SqlLedgerProof(engine)
        assert (await proof.verify_sums(), await proof.changed_months(), await proof.dead_letters()) == ([], [], [])
        await engine.dispose()


@pytest.fixture
async def world(store: Store, tmp_path: Path) -> AsyncIterator[World]:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "routes.yaml").write_text(ROUTES)
    (policies / "prices.yaml").write_text(PRICES)
    settings = Settings(data_dir=store.data_dir, config_dir=policies, database_url=store.url, key_env="test", workers=0)
    for part in PARTS:
        await migrate.upgrade(store.url, store.data_dir, part)
    async with keeping(settings, store.url) as bookkeeper, open_local(settings) as (app, token):
        operator = Asking(app, **{LOCAL_HEADER: token})  # type: ignore[arg-type]
        assert (await operator.post("/admin/v1/config/reload", {})).status == 200
        yield World(settings, operator, bookkeeper, store.url)


def journal(settings: Settings) -> JournalWriter:
    return JournalWriter.create(
        settings.journal_dir,
        make_id(CLOCK.now_ms(), ENTROPY.bytes(10)),
        clock=CLOCK,
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.journal_reserve_bytes,
        sync_ms=settings.journal_sync_ms,
    )


def write_call(
    writer: JournalWriter, number: int, started_ms: int, *, model: str = "gpt-4o-mini", revision: int = 7, **more: Any
) -> bytes:
    """A call of 10 and 20 tokens, charged 1 nano-USD a token."""
    call_id, attempt_id = ident(number * 2, started_ms), ident(number * 2 + 1, started_ms)
    whose = {"org": "default", "started_ms": started_ms, "deployment": f"openai/{model}"}
    taken = (Take(COUNTER, "limit_1", Unit.USD, WRONG_NUSD),)
    writer.append(
        hold(attempt_id, ts_ms=started_ms, model=model, takes=taken, config_revision=revision, **whose), call_id
    )
    writer.append(Dispatch(started_ms, attempt_id), call_id)
    lines = more.pop("lines", (line("input", 10), line("output", 20)))
    writer.append(end(attempt_id, lines, ts_ms=started_ms + 900, posted=taken, **more), call_id)
    writer.append(settle(attempt_id, ts_ms=started_ms + 1_000, **whose), call_id)
    return call_id


async def test_months_are_closed_and_corrected_as_finance_does_it(world: World) -> None:
    writer = journal(world.settings)
    calls = [write_call(writer, number, FIRST + number * 1_000) for number in range(4)]
    calls += [write_call(writer, number, SECOND + number * 1_000) for number in range(4, 7)]
    running = ident(900, SECOND + 50)
    writer.append(hold(ident(901, SECOND + 50), org="default", started_ms=SECOND + 50, ts_ms=SECOND + 50), running)
    await world.loaded(7)

    async def close(month_ms: int, **members: object) -> tuple[int, dict[str, Any]]:
        answer = await world.operator.post(CLOSE, {"month": month_name(month_ms), **members})
        return answer.status, answer.json()

    status, refused = await close(NOW)
    assert (status, "is not over before" in refused["error"]["message"]) == (409, True)
    status, refused = await close(SECOND)
    assert f"{month_name(FIRST)} is open" in refused["error"]["message"]
    status, seen = await close(FIRST, dry_run=True)
    assert (status, seen["obstacles"], seen["month"]["effective"]["nano_usd"]) == (200, [], 4 * WRONG_NUSD)
    assert (await world.operator.get("/admin/v1/periods")).json()["data"] == []
    status, closed = await close(FIRST, reason="sent to all teams")
    assert (status, closed["month"]["closed"], closed["month"]["calls"]) == (200, True, 4)
    assert (await close(FIRST))[1]["error"]["message"] == f"{month_name(FIRST)} is closed already."
    status, refused = await close(month_start(FIRST, -1))
    assert "is closed already" not in refused["error"]["message"]
    assert (status, f"{month_name(SECOND)} is the month" in refused["error"]["message"]) == (409, True)
    status, refused = await close(SECOND)
    assert (status, "1 call of that time is still running" in refused["error"]["message"]) == (409, True)
    status, seen = await close(SECOND, dry_run=True)
    assert len(seen["obstacles"]) == 2

    dry = await world.rerate(dry_run=True)
    difference = RIGHT_NUSD - WRONG_NUSD
    assert (dry["correction"], dry["total"]["postings"], dry["looked_at"]) == (None, 7, 7)
    assert dry["total"]["effective"]["nano_usd"] == dry["total"]["list"]["nano_usd"] == 7 * difference
    assert dry["total"]["prior_period"]["nano_usd"] == 4 * difference
    assert [(group["day"], group["postings"]) for group in dry["groups"]] == [
        (print_moment(FIRST)[:10], 4),
        (print_moment(SECOND)[:10], 3),
    ]
    (moved,) = dry["counters"]
    assert (moved["limit"], moved["counter"], moved["amount"]["nano_usd"]) == ("limit_1", COUNTER, 7 * difference)
    assert (await world.operator.post(RERATE, {"from": print_moment(FIRST)})).status == 400, "say why"

    done = await world.rerate(reason="a vendor told the price late")
    assert {**done, "correction": None, "dry_run": True, "to_ms": 0, "to_at": ""} == {**dry, "to_ms": 0, "to_at": ""}
    await until(lambda: world.bookkeeper.loader.records >= 7 * 4 + 1 + 8)
    assert (await world.spend(FIRST, SECOND))["cost"]["nano_usd"] == 4 * WRONG_NUSD, "closed is closed"
    assert (await world.spend(SECOND, NOW))["cost"]["nano_usd"] == 3 * RIGHT_NUSD
    present = await world.spend(NOW, CLOCK.now_ms() + 1)
    assert (present["cost"]["nano_usd"], present["cost"]["prior_period"]["nano_usd"]) == (0, 4 * difference)
    shown = (await world.operator.get(f"/v1/requests/{print_id(CALL, calls[0])}")).json()
    assert (shown["cost"]["nano_usd"], shown["corrected"]) == (RIGHT_NUSD, True)
    (attempt,) = shown["attempts"]
    assert [one["prior_period"] for one in attempt["corrections"]] == [True]
    assert [one["quantity"] for one in attempt["corrections"][0]["lines"]] == [-10, -20, 10, 20]
    (run,) = (await world.operator.get("/admin/v1/prices/corrections")).json()["data"]
    assert (run["id"], run["postings"], run["prior_period"]["nano_usd"]) == (done["correction"], 7, 4 * difference)
    assert (run["reason"], run["actor"]) == ("a vendor told the price late", "local")
    again = await world.rerate(reason="once more")
    assert (again["total"]["postings"], again["left"]["the_same"]) == (0, 7)
    assert world.bookkeeper.folder.books.standing(COUNTER)[0] == 7 * RIGHT_NUSD
    await world.proved()
    writer.close()


async def test_what_cannot_be_priced_again_is_left_and_said(world: World) -> None:
    writer = journal(world.settings)
    write_call(writer, 1, SECOND)
    write_call(writer, 2, SECOND, model="nobody-knows-it")
    write_call(writer, 3, SECOND, lines=(), state="priced", list_nusd=0, effective_nusd=0)
    write_call(writer, 4, SECOND, source="estimated", state="estimated")
    unknown = line("input", 10, None)
    write_call(writer, 5, SECOND, lines=(unknown,))
    writer.close()
    await world.loaded(5)
    done = await world.rerate(reason="all of it")
    left = {word: count for word, count in done["left"].items() if count}
    assert (done["looked_at"], done["total"]["postings"], done["priced_first"]) == (5, 3, 1)
    assert left == {"no_price": 1, "nothing_used": 1}
    await until(lambda: world.bookkeeper.loader.records >= 5 * 4 + 4)
    total = await world.spend(SECOND, NOW)
    assert (total["cost"]["estimated"]["nano_usd"], total["unpriced_calls"]) == (RIGHT_NUSD, 0)
    assert total["cost"]["nano_usd"] == 2 * RIGHT_NUSD + 10 * 150 + WRONG_NUSD
    one_model = await world.rerate(dry_run=True, model="openai/nobody-knows-it")
    assert one_model["looked_at"] == 1
    await world.proved()


async def test_a_deployment_that_has_gone_is_priced_as_its_routes_said(world: World) -> None:
    """A model of one's own that was priced as another, and is in no route any more."""
    routes = world.settings.config_dir / "routes.yaml"
    priced_as = "providers:\n  openai:\n    kind: openai\nmodels:\n"
    priced_as += "  mine: {provider: openai, model: my-own, priced_as: gpt-4o-mini}\n"
    routes.write_text(priced_as)
    then = (await world.operator.post("/admin/v1/config/reload", {})).json()["revision"]
    routes.write_text(ROUTES)
    assert (await world.operator.post("/admin/v1/config/reload", {})).json()["revision"] > then
    writer = journal(world.settings)
    write_call(writer, 1, SECOND, model="my-own", revision=then)
    write_call(writer, 2, SECOND, model="my-own", revision=then - 1)
    writer.close()
    await world.loaded(2)
    done = await world.rerate(reason="all of it")
    assert (done["total"]["postings"], done["left"]["no_price"]) == (1, 1)
    assert done["total"]["effective"]["nano_usd"] == RIGHT_NUSD - WRONG_NUSD


BAD = [
    {"from": "tomorrow"}, {"from": "7d", "to": "8d"}, {"from": "2019-01-01", "to": "2026-01-01"}, {"from": 7},
    {"from": "7d", "after": "req_x"}, {"from": "7d", "correction": "cor_"}, {"from": "7d", "more": 1}, {},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=str)
async def test_what_makes_no_sense_is_refused(world: World, body: dict[str, object]) -> None:
    assert (await world.operator.post(RERATE, {"dry_run": True, **body})).status == 400


@pytest.mark.parametrize("month", ["2026-13", "2026", "", "October"])
async def test_what_is_no_month_is_refused(world: World, month: str) -> None:
    answer = await world.operator.post(CLOSE, {"month": month})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "month")


async def test_a_call_whose_attempts_are_on_two_pages_has_its_price_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both attempts had no price. SQL may not know of the first one's when the second one is read."""
    monkeypatch.setattr(rerate, "ATTEMPTS_AT_ONCE", 1)
    writer = journal(world.settings)
    call_id, first, second = (ident(number, SECOND) for number in (50, 51, 52))
    whose = {"org": "default", "started_ms": SECOND, "deployment": "openai/gpt-4o-mini"}
    unknown = line("input", 10, None)
    for number, attempt_id in enumerate((first, second), 1):
        writer.append(hold(attempt_id, ts_ms=SECOND, model="gpt-4o-mini", attempt_no=number, **whose), call_id)
        writer.append(Dispatch(SECOND, attempt_id), call_id)
        writer.append(end(attempt_id, (unknown,), ts_ms=SECOND + 900), call_id)
    nothing = {"cost_state": "unpriced", "list_nusd": None, "effective_nusd": None}
    writer.append(settle(second, ts_ms=SECOND + 1_000, attempts=2, **nothing, **whose), call_id)
    writer.close()
    await world.loaded(1)
    assert (await world.spend(SECOND, NOW))["unpriced_calls"] == 1
    assert (await world.rerate(reason="it has a price now"))["priced_first"] == 2
    await until(lambda: world.bookkeeper.loader.records >= 7 + 3)
    total = await world.spend(SECOND, NOW)
    assert (total["unpriced_calls"], total["cost"]["nano_usd"]) == (0, 2 * 10 * 150)
    await world.proved()


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_the_next_part_of_a_run_reads_what_the_part_before_has_done(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Each request is one page: the command goes on from `next`."""
    monkeypatch.setattr(rerate, "ATTEMPTS_AT_ONCE", size)
    monkeypatch.setattr(rerate, "WORK_S", -1.0)
    writer = journal(world.settings)
    call_id, attempts = ident(50, SECOND), [ident(51 + number, SECOND) for number in range(3)]
    whose = {"org": "default", "started_ms": SECOND, "deployment": "openai/gpt-4o-mini"}
    for number, attempt_id in enumerate(attempts, 1):
        writer.append(hold(attempt_id, ts_ms=SECOND, model="gpt-4o-mini", attempt_no=number, **whose), call_id)
        writer.append(end(attempt_id, (line("input", 10, None),), ts_ms=SECOND + 900), call_id)
    nothing = {"cost_state": "unpriced", "list_nusd": None, "effective_nusd": None}
    writer.append(settle(attempts[-1], ts_ms=SECOND + 1_000, attempts=3, **nothing, **whose), call_id)
    writer.close()
    await world.loaded(1)
    going_on: dict[str, object] = {}
    while True:
        part = await world.rerate(reason="it has a price now", **going_on)
        if part["next"] is None:
            break
        going_on = {"after": part["next"], "correction": part["correction"]}
    await until(lambda: world.bookkeeper.loader.records >= 7 + 4)
    assert (await world.spend(SECOND, NOW))["unpriced_calls"] == 0
    await world.proved()


async def test_a_run_is_gone_on_with_by_the_request_that_began_it_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id of an earlier run would add what another request does, for another reason, to what that one did."""
    monkeypatch.setattr(rerate, "ATTEMPTS_AT_ONCE", 1)
    monkeypatch.setattr(rerate, "WORK_S", -1.0)
    writer = journal(world.settings)
    whose = {"org": "default", "started_ms": SECOND, "deployment": "openai/gpt-4o-mini"}
    for number in (60, 62):
        attempt_id = ident(number + 1, SECOND)
        writer.append(hold(attempt_id, ts_ms=SECOND, model="gpt-4o-mini", **whose), ident(number, SECOND))
        writer.append(end(attempt_id, (line("input", 10),), ts_ms=SECOND + 900), ident(number, SECOND))
        writer.append(settle(attempt_id, ts_ms=SECOND + 1_000, **whose), ident(number, SECOND))
    writer.close()
    await world.loaded(2)
    part = await world.rerate(reason="wrong")
    await until(lambda: world.bookkeeper.loader.records >= 6 + 2)
    going_on = {"from": print_moment(FIRST), "correction": part["correction"]}
    finance = await world.operator.post("/admin/v1/keys", {"name": "f", "role": "finance"})
    other = Asking(world.operator.app, authorization=f"Bearer {finance.json()['secret']}")
    stale = print_id(CORRECTION, make_id(CLOCK.now_ms() - 2 * 3_600_000, bytes(10)))
    for asking, members in (
        (world.operator, {**going_on, "reason": "wrong"}),
        (world.operator, {**going_on, "reason": "another", "after": part["next"]}),
        (other, {**going_on, "reason": "wrong", "after": part["next"]}),
        (world.operator, {**going_on, "reason": "wrong", "after": part["next"], "correction": stale}),
    ):
        answer = await asking.post(RERATE, members)
        assert (answer.status, answer.json()["error"]["param"]) == (400, "correction"), answer.text
    done = await world.rerate(reason="wrong", after=part["next"], correction=part["correction"])
    assert (done["correction"], done["total"]["postings"]) == (part["correction"], 1)


async def test_a_team_does_not_see_sums_of_the_whole_org(world: World) -> None:
    created = await world.operator.post("/admin/v1/keys", {"name": "search", "role": "team", "team": "search"})
    assert created.status in (200, 201), created.text
    team = Asking(world.operator.app, authorization=f"Bearer {created.json()['secret']}")
    status = (await world.operator.post(CLOSE, {"month": month_name(FIRST)})).status
    assert (status, (await world.operator.get("/admin/v1/periods")).json()["data"]) == (409, []), "nothing is recorded"
    for path in ("/admin/v1/prices/corrections", "/admin/v1/periods"):
        assert (await world.operator.get(path)).status == 200
        assert (await team.get(path)).status == 404
