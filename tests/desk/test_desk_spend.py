"""Reading the ledger over HTTP: whose calls, how much, how exact."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.calls import make_call, make_month
from desk.fakes import NOW_MS
from desk.world import World
from gateway.core.ids import CALL, make_id, print_id
from gateway.core.queries import Freshness

SPEND = "/admin/v1/spend"
MISSING = print_id(CALL, make_id(NOW_MS - 3_600_000, b"x" * 10))


@pytest.fixture
def filled(world: World) -> World:
    mine = {"key_id": world.ids["data"], "team": "search"}
    world.ledger.found += [
        make_call(NOW_MS - 60_000, **mine, chance=1),
        make_call(NOW_MS - 50_000, **mine, chance=2, model="gpt-5", cost_state="estimated"),
        make_call(NOW_MS - 40_000, **mine, chance=3, model="house-llama", cost_state="unpriced"),
        make_call(NOW_MS - 3 * 86_400_000, **mine, chance=4),
        make_call(NOW_MS - 40 * 86_400_000, **mine, chance=5),
        make_call(NOW_MS - 30_000, key_id=world.ids["search-bot"], team="search", chance=6),
        make_call(NOW_MS - 20_000, key_id=world.ids["support-bot"], team="support", chance=7),
        make_call(NOW_MS - 10_000, key_id=world.ids["foreign"], team="search", org="elsewhere", chance=8),
    ]
    return world


def id_of(world: World, chance: int) -> str:
    return world.ledger.found[chance - 1][0].call_id


async def test_one_call_in_full(filled: World, app: FastAPI) -> None:
    answer = await filled.asking(app, "data").get(f"/v1/requests/{id_of(filled, 1)}")
    assert answer.status == 200
    call = answer.json()
    # 1000 × 0.25 USD/M + 200 × 2 USD/M
    list_price = {"usd": "0.00065", "nano_usd": 650_000}
    assert call["cost"] == {
        "state": "priced", **list_price, "list": list_price, "contracted": list_price, "billed": list_price,
    }  # fmt: skip
    assert call["usage"] == {"input_tokens": 1_000, "output_tokens": 200}
    assert call["deployment"] == "openai/gpt-5-mini"
    attempt = call["attempts"][0]
    assert attempt["reserved"] == {"usd": "0.00199", "nano_usd": 1_990_000}
    assert attempt["source"] == "provider"
    assert [
        (line["meter"], line["quantity"], line["rate_usd"], line["cost"]["nano_usd"]) for line in attempt["lines"]
    ] == [
        ("input", 1_000, "0.00000025", 250_000),
        ("output", 200, "0.000002", 400_000),
    ]
    assert attempt["lines"][0]["price_row"] == "gpt-5-mini:input:2026-08-01"
    assert call["first_token_ms"] == 189.0


async def test_an_unpriced_call_costs_null_and_not_zero(filled: World, app: FastAPI) -> None:
    call = (await filled.asking(app, "data").get(f"/v1/requests/{id_of(filled, 3)}")).json()
    nothing = {"usd": None, "nano_usd": None}
    assert call["cost"] == {"state": "unpriced", **nothing, "list": nothing, "contracted": nothing, "billed": nothing}
    assert call["attempts"][0]["lines"][0]["rate_usd"] is None


@pytest.mark.parametrize(
    ("asker", "seen"),
    [
        ("data", {1, 2, 3, 4, 5}),
        ("search-bot", {6}),
        ("support-bot", {7}),
        ("team", {1, 2, 3, 4, 5, 6}),
        ("admin", {1, 2, 3, 4, 5, 6, 7}),
        ("finance", {1, 2, 3, 4, 5, 6, 7}),
        ("foreign", {8}),
    ],
)
async def test_each_sees_its_own_calls_and_others_do_not_exist(
    filled: World, app: FastAPI, asker: str, seen: set[int]
) -> None:
    asking = filled.asking(app, asker)
    filled.clock.ms += 60_000
    filled.ring.apply((), filled.clock.ms)
    missing = await asking.get(f"/v1/requests/{MISSING}")
    assert missing.status == 404
    for chance in range(1, 9):
        answer = await asking.get(f"/v1/requests/{id_of(filled, chance)}")
        if chance in seen:
            assert answer.status == 200, chance
        else:
            assert (answer.status, answer.text) == (404, missing.text), chance


async def test_a_call_of_a_moment_ago_may_not_be_recorded_yet(world: World, app: FastAPI) -> None:
    data = world.asking(app, "data")
    fresh = print_id(CALL, make_id(NOW_MS - 1_000, b"y" * 10))
    answer = await data.get(f"/v1/requests/{fresh}")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_recorded_yet")
    assert "5 s" in answer.json()["error"]["message"]
    assert answer.header("retry-after") == "2"
    for other in (MISSING, print_id(CALL, make_id(NOW_MS + 60_000, b"y" * 10)), "req_x", "att_" + fresh[4:], "x" * 300):
        answer = await data.get(f"/v1/requests/{other}")
        assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found"), other


async def test_spend_by_team_and_model(filled: World, admin: Asking) -> None:
    reply = (await admin.get(SPEND, by="team,model", since="7d")).json()
    rows = {tuple(row["group"].values()): row for row in reply["data"]}
    assert rows[("search", "gpt-5-mini")]["calls"] == 3
    assert rows[("search", "gpt-5-mini")]["cost"]["usd"] == "0.00195"
    assert rows[("search", "house-llama")]["unpriced_calls"] == 1
    estimated = rows[("search", "gpt-5")]["cost"]
    assert estimated["estimated"]["nano_usd"] == estimated["nano_usd"] == 3_250_000
    assert ("support", "gpt-5-mini") in rows
    assert reply["total"]["calls"] == 6
    assert reply["total"]["cost"]["nano_usd"] == sum(row["cost"]["nano_usd"] for row in reply["data"])
    assert all(Decimal(row["cost"]["usd"]) * 10**9 == row["cost"]["nano_usd"] for row in reply["data"])
    assert reply["truncated"] is False
    assert (reply["from_at"], reply["to_at"]) == ("2026-11-17T22:00:00Z", "2026-11-24T23:00:00Z")
    assert reply["freshness"] == {
        "newest_ms": NOW_MS - 1_000, "newest_at": "2026-11-24T22:14:02Z", "behind_bytes": 0, "dead_letters": 0,
    }  # fmt: skip


async def test_spend_of_a_team_is_its_own(filled: World, app: FastAPI) -> None:
    team = filled.asking(app, "team")
    reply = (await team.get(SPEND, by="team", since="7d")).json()
    assert [row["group"]["team"] for row in reply["data"]] == ["search"]
    assert (await team.get(SPEND, team="search")).status == 200
    assert (await team.get(SPEND, team="support")).status == 404


async def test_the_total_counts_groups_that_are_not_listed(filled: World, admin: Asking) -> None:
    whole = (await admin.get(SPEND, by="model", since="7d")).json()
    cut = (await admin.get(SPEND, by="model", since="7d", limit=1)).json()
    assert len(cut["data"]) == 1
    assert cut["truncated"] is True
    assert cut["total"] == whole["total"]


BAD = [
    {"by": "password"}, {"by": ""}, {"by": "team,team"}, {"by": "team,model,key,day,org"}, {"by": "%%%%"},
    {"since": "tomorrow"}, {"since": "2016-01-01"}, {"since": "now"}, {"since": "2027-01-01"}, {"since": "-7d"},
    {"until": "1999"}, {"limit": 0}, {"limit": 1_000_000}, {"since": "99999999999d"}, {"since": "9999-99-99"},
]  # fmt: skip


@pytest.mark.parametrize("query", BAD, ids=str)
async def test_questions_that_cannot_be_answered_are_refused(admin: Asking, query: dict[str, str]) -> None:
    answer = await admin.get(SPEND, **query)
    assert answer.status == 400, answer.text
    assert answer.json()["error"]["param"] in query


async def test_usage_is_the_keys_own(filled: World, app: FastAPI, admin: Asking) -> None:
    await admin.patch(f"/admin/v1/keys/{filled.ids['data']}", {"budget": "1USD/month", "rpm": 10})
    reply = (await filled.asking(app, "data").get("/v1/usage")).json()
    assert reply["key_id"] == filled.ids["data"]
    assert (reply["today"]["calls"], reply["month"]["calls"]) == (3, 4)
    assert reply["today"]["from_at"] == "2026-11-24T00:00:00Z"
    assert reply["today"]["resets_at"] == "2026-11-25T00:00:00Z"
    assert reply["month"]["resets_at"] == "2026-12-01T00:00:00Z"
    assert reply["month"]["by_model"][0]["model"] == "gpt-5"
    budget, rate = reply["limits"]
    assert (budget["text"], budget["spent"], budget["remaining"]) == ("1USD/month", None, None), "one call is unpriced"
    assert rate["spent"] is None
    filled.ledger.found = [found for found in filled.ledger.found if found[0].cost_state != "unpriced"]
    budget, _ = (await filled.asking(app, "data").get("/v1/usage")).json()["limits"]
    assert (budget["spent"]["usd"], budget["remaining"]["usd"]) == ("0.00455", "0.99545")


async def test_without_sql_reads_say_503_in_the_same_shape(world: World, app: FastAPI, admin: Asking) -> None:
    world.ledger.down = True
    data = world.asking(app, "data")
    for asking, path in ((data, "/v1/usage"), (data, f"/v1/requests/{MISSING}"), (admin, SPEND)):
        answer = await asking.get(path)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "store_unavailable"), path
        assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


async def test_a_month_adds_up_in_every_cut(world: World, admin: Asking) -> None:
    world.ledger.found += make_month([(world.ids["search-bot"], "search"), (world.ids["support-bot"], "support")])
    totals = set()
    for by in ("model", "team", "key", "day", "provider,endpoint", "hour"):
        reply = (await admin.get(SPEND, by=by, since="month")).json()
        assert sum(row["cost"]["nano_usd"] for row in reply["data"]) == reply["total"]["cost"]["nano_usd"]
        totals.add(reply["total"]["cost"]["nano_usd"])
    assert len(totals) == 1


async def test_staleness_is_told(world: World, admin: Asking) -> None:
    world.ledger.fresh = Freshness(0, 123, 4)
    fresh = (await admin.get(SPEND)).json()["freshness"]
    assert fresh == {"newest_ms": None, "newest_at": None, "behind_bytes": 123, "dead_letters": 4}


@pytest.mark.parametrize(
    ("query", "param", "says"),
    [
        ({"by": "user,provider"}, "by", "not by provider"),
        ({"by": "user,session"}, "by", "none together"),
        ({"by": "session", "user": "ann"}, "by", "none together"),
        ({"by": "user", "user": "ann"}, "by", "One user alone"),
        ({"by": "hour", "user": "ann"}, "by", "not by hour"),
        ({"by": "model", "tag": "feature"}, "tag", "feature=search"),
        ({"by": "model", "tag": "feature=search"}, "tag", "no sums of the tag 'feature'"),
        ({"by": "tag:feature"}, "by", "no sums of the tag 'feature'"),
        ({"by": "model", "user": "ann", "session": "s"}, None, "give one"),
    ],
)
async def test_what_callers_choose_has_sums_of_its_own(
    filled: World, app: FastAPI, query: dict[str, str], param: str | None, says: str
) -> None:
    refused = await filled.asking(app, "finance").get(SPEND, **query)
    assert (refused.status, refused.json()["error"]["param"]) == (400, param), refused.text
    assert says in refused.json()["error"]["message"]


async def test_spend_of_one_user_is_of_whole_days(filled: World, app: FastAPI) -> None:
    row, attempts = filled.ledger.found[0]
    filled.ledger.found[0] = msgspec.structs.replace(row, user="ann"), attempts
    reply = (await filled.asking(app, "finance").get(SPEND, by="model", since="1h", user="ann")).json()
    assert reply["from_at"].endswith("T00:00:00Z")
    assert reply["to_at"].endswith("T00:00:00Z")
    assert [group["calls"] for group in reply["data"]] == [reply["total"]["calls"]] == [1]
    nobody = (await filled.asking(app, "finance").get(SPEND, by="model", user="nobody at all")).json()
    assert (nobody["data"], nobody["total"]["calls"]) == ([], 0)
