"""Limits over HTTP: one owner each, within one org, published like every change, and explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.world import ROUTED, World, folder_of, make_world
from gateway.core.admin import KeyChange
from gateway.core.caller import Role
from gateway.core.limits import EACH, Suspension, Unit
from gateway.desk.limits.file import with_limits
from gateway.desk.policy_files import PolicyFiles
from gateway.limits.text import parse_limit
from gateway.limits.wants import counter_name

LIMITS = "/admin/v1/limits"
SUSPENSIONS = "/admin/v1/suspensions"
EXPLAIN = "/admin/v1/budgets/explain"
FILE = """\
limits:
  brake:
    limit: 50USD/hour
    on_exceed: alert
  search-month:
    limit: 500USD/month
    scope: {team: search}
    alerts: [50, 80]
  elsewhere:
    limit: 5USD/month
    scope: {org: elsewhere}
"""


@pytest.fixture
async def filed(tmp_path: Path) -> World:
    """A world whose folder has a limits.yaml that is in use."""
    made = await make_world()
    made.settings = folder_of(tmp_path)
    made.files.policy = ROUTED
    (tmp_path / "limits.yaml").write_text(FILE)
    await PolicyFiles(made.parts()).reload("test")
    return made


async def test_finance_sets_budgets_and_makes_no_keys(world: World, app: FastAPI) -> None:
    finance = world.asking(app, "finance")
    made = await finance.post(LIMITS, {"name": "users", "limit": "5USD/month", "scope": {"user": "each"}})
    assert made.status == 201
    assert (await finance.patch(f"{LIMITS}/users", {"limit": "7USD/month"})).status == 200
    assert (await finance.post("/admin/v1/keys", {"name": "mine"})).status == 403
    auditor = world.asking(app, "auditor")
    assert (await auditor.post(LIMITS, {"name": "x", "limit": "5USD/month"})).status == 403


async def test_a_limit_is_made_shown_changed_and_removed(world: World, admin: Asking) -> None:
    made = await admin.post(
        LIMITS, {"name": "users", "limit": "5USD/month", "scope": {"team": "search", "user": "each"}}
    )
    assert made.status == 201
    limit = made.json()["limit"]
    assert limit["id"].startswith("lim_")
    assert limit["scope"] == {"org": "default", "team": "search", "user": "each"}
    assert (limit["text"], limit["origin"], limit["max_values"]) == ("5USD/month", "sql", 10_000)
    assert limit["created_by"] == world.ids["admin"]
    _, (delta,), _ = world.publisher.handed[-1]
    assert delta.change is not None
    assert delta.change.limit is not None
    assert delta.change.limit.amount == 5 * 10**9
    for name in ("users", limit["id"]):
        assert (await admin.get(f"{LIMITS}/{name}")).json() == limit
    changed = await admin.patch(f"{LIMITS}/users", {"limit": "7USD/month", "alerts": [80], "name": "each-user"})
    assert changed.status == 200
    after = changed.json()["limit"]
    assert (after["id"], after["name"], after["text"], after["alerts"]) == (
        limit["id"],
        "each-user",
        "7USD/month",
        [80],
    )
    assert after["scope"] == limit["scope"]
    assert [one["name"] for one in (await admin.get(LIMITS)).json()["data"]] == ["each-user"]
    assert (await admin.send("DELETE", f"{LIMITS}/each-user")).json()["id"] == limit["id"]
    assert (await admin.get(f"{LIMITS}/each-user")).status == 404
    kinds = [row["kind"] for row in (await admin.get("/admin/v1/log")).json()["data"]]
    assert kinds[:3] == ["limit.removed", "limit.updated", "limit.created"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limit": "5USD"}, "limit"),
        ({"limit": "5USD/month", "scope": {"tenant": "x"}}, "scope"),
        ({"limit": "5USD/month", "scope": {"org": "elsewhere"}}, "scope"),
        ({"limit": "5USD/month", "scope": {"key": "AAAAAAAAAAAA"}}, "scope"),
        ({"limit": "5USD/month", "on_exceed": "explode"}, "on_exceed"),
        ({"limit": "5USD/month", "on_exceed": "downgrade"}, "downgrade_to"),
        ({"limit": "5USD/month", "on_exceed": "cap_output", "hold": "estimate"}, "hold"),
        ({"limit": "60/min", "scope": {"provider": "openai"}}, "scope"),
        ({"limit": "5USD/month", "max_values": 5}, "max_values"),
        ({"limit": "5USD/month", "windw": "day"}, "windw"),
    ],
)
async def test_a_mistake_is_a_400_that_names_the_member(admin: Asking, body: dict[str, object], param: str) -> None:
    answer = await admin.post(LIMITS, body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_a_limit_that_changes_calls_over_http(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    body = {"name": "large", "limit": "5USD/month", "on_exceed": "downgrade", "downgrade_to": "gtp"}
    refused = await admin.post(LIMITS, body)
    assert (refused.status, refused.json()["error"]["param"]) == (400, "downgrade_to")
    assert "Did you mean 'gpt'?" in refused.json()["error"]["message"]
    made = await admin.post(LIMITS, {**body, "downgrade_to": "gpt"})
    assert (made.status, made.json()["limit"]["downgrade_to"], made.json()["limit"]["min_output"]) == (201, "gpt", None)
    kept = (await admin.patch(f"{LIMITS}/large", {"limit": "6USD/month"})).json()["limit"]
    assert (kept["on_exceed"], kept["downgrade_to"]) == ("downgrade", "gpt")
    capped = (await admin.patch(f"{LIMITS}/large", {"on_exceed": "cap_output", "min_output": 9})).json()["limit"]
    assert (capped["on_exceed"], capped["downgrade_to"], capped["min_output"]) == ("cap_output", None, 9)
    blocks = (await admin.patch(f"{LIMITS}/large", {"on_exceed": "block"})).json()["limit"]
    assert (blocks["on_exceed"], blocks["min_output"]) == ("block", None)
    assert (await admin.patch(f"{LIMITS}/large", {"on_exceed": "downgrade"})).status == 400


async def test_a_limit_keeps_its_counters(admin: Asking) -> None:
    await admin.post(LIMITS, {"name": "a", "limit": "5USD/month"})
    for text in ("5USD/day", "5000tokens/month", "5USD/month@Europe/Vienna"):
        answer = await admin.patch(f"{LIMITS}/a", {"limit": text})
        assert answer.status == 400
        assert "unit and window" in answer.json()["error"]["message"]
    assert (await admin.post(LIMITS, {"name": "a", "limit": "1USD/day"})).status == 409


@pytest.mark.parametrize(
    ("scope", "whole"),
    [
        ({}, {"org": "default"}),
        ({"user": "each"}, {"org": "default", "key": "each", "user": "each"}),
        ({"org": "default", "user": "each"}, {"org": "default", "user": "each"}),
        ({"team": "search", "user": "each"}, {"org": "default", "team": "search", "user": "each"}),
    ],
)
async def test_a_scope_is_within_the_askers_org_and_no_wider_than_it_says(
    admin: Asking, scope: dict[str, str], whole: dict[str, str]
) -> None:
    made = await admin.post(LIMITS, {"limit": "5USD/month", "scope": scope})
    assert made.json()["limit"]["scope"] == whole


async def test_what_a_file_owns_is_changed_there(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    data = (await admin.get(LIMITS)).json()["data"]
    assert [(one["name"], one["origin"]) for one in data] == [
        ("brake", "limits.yaml:2"),
        ("search-month", "limits.yaml:5"),
    ]
    tries = [
        ("PATCH", f"{LIMITS}/brake", {"limit": "9USD/hour"}),
        ("DELETE", f"{LIMITS}/brake", None),
        ("POST", f"{LIMITS}/brake/increase", {"by": "1USD", "lasts": "1h"}),
        ("POST", LIMITS, {"name": "brake", "limit": "9USD/hour"}),
    ]
    for method, path, body in tries:
        answer = await admin.send(method, path, json=body)
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (409, "managed_by_file"), path
        assert (error["file"], error["line"]) == ("limits.yaml", 2)
        assert "limits.yaml, line 2" in error["message"]
    assert (await admin.get(f"{LIMITS}/elsewhere")).status == 404, "another org's"


async def test_another_orgs_limits_do_not_exist(world: World, app: FastAPI) -> None:
    await world.add_key("other-admin", role=Role.ADMIN, org="elsewhere")
    admin, other = world.asking(app, "admin"), world.asking(app, "other-admin")
    made = (await admin.post(LIMITS, {"name": "mine", "limit": "5USD/month"})).json()["limit"]
    lifted = (await admin.post(SUSPENSIONS, {"limit": "mine", "lasts": "1h", "reason": "because"})).json()["suspension"]
    for name in ("mine", made["id"]):
        nothing = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/increase")]
        for method, tail in nothing:
            body = {"by": "1USD", "lasts": "1h"} if tail else {} if method == "PATCH" else None
            assert (await other.send(method, f"{LIMITS}/{name}{tail}", json=body)).status == 404
    assert (await other.send("DELETE", f"{SUSPENSIONS}/{lifted['id']}")).status == 404
    assert (await other.get(LIMITS)).json()["data"] == []
    assert (await other.get(SUSPENSIONS)).json()["data"] == []
    assert [
        row for row in (await other.get("/admin/v1/log")).json()["data"] if row["subject"].startswith(("lim", "sus"))
    ] == []
    assert (await other.post(LIMITS, {"name": "mine", "limit": "5USD/month"})).status == 201


async def test_a_teams_key_sees_what_concerns_its_team(filed: World) -> None:
    app = filed.app()
    admin, team = filed.asking(app, "admin"), filed.asking(app, "team")
    await admin.post(LIMITS, {"name": "support", "limit": "5USD/month", "scope": {"team": "support"}})
    await admin.post(LIMITS, {"name": "search", "limit": "5USD/month", "scope": {"team": "search"}})
    assert [one["name"] for one in (await team.get(LIMITS)).json()["data"]] == ["brake", "search-month", "search"]
    assert (await team.get(f"{LIMITS}/support")).status == 404
    assert (await team.get(EXPLAIN, key=filed.ids["support-bot"])).status == 404
    assert (await team.post(LIMITS, {"limit": "5USD/month"})).status == 403


async def test_an_increase_ends_by_itself_or_when_told(world: World, admin: Asking) -> None:
    await admin.post(LIMITS, {"name": "a", "limit": "5USD/month"})
    more = (await admin.post(f"{LIMITS}/a/increase", {"by": "2.5USD", "lasts": "24h"})).json()["limit"]["increase"]
    assert more == {
        "by": 2_500_000_000,
        "by_usd": "2.5",
        "until_ms": world.clock.ms + 86_400_000,
        "until_at": "2026-11-25T22:14:03Z",
    }
    for body in (
        {"by": "1USD"},
        {"by": "1USD", "lasts": "1h", "until": "2027-01-01"},
        {"by": "1USD", "until": "2020-01-01"},
    ):
        assert (await admin.post(f"{LIMITS}/a/increase", body)).status == 400
    assert (await admin.post(f"{LIMITS}/a/increase", {"by": "none"})).json()["limit"]["increase"] is None


async def test_a_suspension_is_written_down_with_who_and_why(world: World, admin: Asking) -> None:
    for body in (
        {"lasts": "1h", "reason": "everything"},
        {"scope": {"team": "search"}, "lasts": "8d", "reason": "for long"},
        {"scope": {"team": "search"}, "lasts": "1h"},
        {"scope": {"team": "search"}, "lasts": "1h", "reason": ""},
        {"limit": "nothing", "lasts": "1h", "reason": "because"},
    ):
        assert (await admin.post(SUSPENSIONS, body)).status in (400, 404), body
    made = await admin.post(SUSPENSIONS, {"scope": {"team": "search"}, "lasts": "1h", "reason": "incident 7"})
    assert made.status == 201
    one = made.json()["suspension"]
    assert (one["reason"], one["actor"], one["active"]) == ("incident 7", world.ids["admin"], True)
    _, (delta,), _ = world.publisher.handed[-1]
    assert delta.change is not None
    assert delta.change.suspension is not None
    assert delta.change.suspension.until_ms == world.clock.ms + 3_600_000
    assert (await admin.send("DELETE", f"{SUSPENSIONS}/{one['id']}")).status == 200
    (kept,) = (await admin.get(SUSPENSIONS)).json()["data"]
    assert (kept["active"], kept["reason"]) == (False, "incident 7")
    rows = [(row["kind"], row["actor"]) for row in (await admin.get("/admin/v1/log")).json()["data"][:2]]
    assert rows == [("limits.resumed", world.ids["admin"]), ("limits.suspended", world.ids["admin"])]


# ---------------------------------------------------------------- explain


def search_month(world: World) -> str:
    """The counter of the file's limit for the team search."""
    policy = world.config.policy
    assert policy is not None
    (written,) = [one for one in policy.limits if one.id == "search-month"]
    return counter_name(written, ("default", "search"), "2026-11")


async def test_explain_lists_every_limit_that_applies_and_which_binds(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    key_id = filed.ids["search-bot"]
    await filed.config.update_key(key_id, KeyChange(limits=(parse_limit("5USD/day"), parse_limit("60/min"))), actor="t")
    users = (
        await admin.post(LIMITS, {"name": "users", "limit": "2USD/month", "scope": {"key": key_id, "user": "each"}})
    ).json()
    users_id = users["limit"]["id"]
    filed.standings.counters = {
        f"{key_id}:usd:day|{key_id}|2026-11-24": (4 * 10**9, 10**8),
        f"{users_id}|default,{key_id},ann|2026-11": (3 * 10**9, 0),
        search_month(filed): (100 * 10**9, 7),
    }
    found = (await admin.get(EXPLAIN, key=key_id)).json()
    assert found["counted"] is True
    by_name = {one["name"] or one["text"]: one for one in found["budgets"]}
    assert set(by_name) == {"5USD/day", "60requests/60s", "brake", "search-month", "users"}
    day = by_name["5USD/day"]
    assert (day["spent"]["usd"], day["reserved"]["usd"], day["left"]["usd"]) == ("4", "0.1", "0.9")
    assert (day["resets_at"], day["binds"], day["state"]) == ("2026-11-25T00:00:00Z", True, "enforced")
    assert by_name["search-month"]["origin"] == "limits.yaml:5"
    assert by_name["search-month"]["reserved"]["amount"] == 7
    assert (by_name["brake"]["state"], by_name["brake"]["binds"]) == ("alert", False)
    assert by_name["60requests/60s"]["binds"] is True
    assert (by_name["users"]["needs"], by_name["users"]["spent"]) == (["user"], None)
    told = (await admin.get(EXPLAIN, key=key_id, user="ann")).json()
    (ann,) = [one for one in told["budgets"] if one["name"] == "users"]
    assert (ann["needs"], ann["left"]["usd"], ann["overshot"]["usd"], ann["binds"]) == ([], "0", "1", True)
    assert [one["name"] for one in told["budgets"] if one["binds"] and one["unit"] == Unit.USD] == ["users"]


async def test_explain_shows_an_increase_beside_what_is_written(filed: World) -> None:
    """The amount was shown as if it had always been the larger one, and no increase."""
    admin = filed.asking(filed.app(), "admin")
    await admin.post(LIMITS, {"name": "a", "limit": "5USD/month", "scope": {"team": "search"}})
    more = (await admin.post(f"{LIMITS}/a/increase", {"by": "2USD", "lasts": "1h"})).json()["limit"]
    found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"])).json()["budgets"]
    (one,) = [budget for budget in found if budget["name"] == "a"]
    assert (one["text"], one["amount_usd"], one["increase"]) == ("5USD/month", "5", more["increase"])
    assert (one["allowed"]["usd"], one["left"]["usd"]) == ("7", "7")


async def test_explain_says_what_is_suspended_and_when_nobody_knows_the_counters(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    await admin.post(SUSPENSIONS, {"scope": {"team": "search"}, "lasts": "1h", "reason": "incident 7"})
    filed.standings.away = True
    found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"])).json()
    assert found["counted"] is False
    (month,) = [one for one in found["budgets"] if one["name"] == "search-month"]
    assert (month["state"], month["spent"], month["left"]) == ("suspended", None, None)
    assert [one["reason"] for one in found["suspensions"]] == ["incident 7"]


async def test_an_older_suspension_still_holds_after_many_newer_ones(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    await admin.post(SUSPENSIONS, {"scope": {"team": "search"}, "lasts": "7d", "reason": "the first"})
    for n in range(100):
        filed.clock.ms += 1
        await filed.config.suspend("default", Suspension("", (("team", f"t{n}"),), filed.clock.ms, "other", "t", 0))
    found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"])).json()
    assert [one["reason"] for one in found["suspensions"]] == ["the first"]
    assert [one["state"] for one in found["budgets"] if one["name"] == "search-month"] == ["suspended"]


async def test_a_model_leads_to_where_it_would_go(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    await admin.post(LIMITS, {"name": "there", "limit": "5USD/month", "scope": {"provider": "openai"}})
    for model, needs in (("", ["provider:openai"]), ("gpt", []), ("openai/new", [])):
        found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"], model=model)).json()
        assert [one["needs"] for one in found["budgets"] if one["name"] == "there"] == [needs], model


async def test_explain_knows_the_keys_own_tags_and_what_can_never_match(filed: World) -> None:
    """A key's own tag is of all its calls, and no caller can say another value of it."""
    admin = filed.asking(filed.app(), "admin")
    key_id = filed.ids["search-bot"]
    await filed.config.update_key(key_id, KeyChange(tags=(("env", "prod"),)), actor="t")
    for name, scope in {
        "prod": {"tag:env": "prod"},
        "test": {"tag:env": "test"},
        "zone": {"tag:zone": "eu"},
        "gpt": {"model": "gpt", "user": "each"},
    }.items():
        assert (await admin.post(LIMITS, {"name": name, "limit": "5USD/month", "scope": scope})).status == 201
    for asked, shown in (
        ({}, {"prod": [], "zone": ["tag:zone:eu"], "gpt": ["user", "model:gpt"]}),
        ({"tag": "zone=eu"}, {"prod": [], "zone": [], "gpt": ["user", "model:gpt"]}),
        ({"tag": "env=test"}, {"prod": [], "zone": ["tag:zone:eu"], "gpt": ["user", "model:gpt"]}),
        ({"model": "openai/new"}, {"prod": [], "zone": ["tag:zone:eu"]}),
        ({"model": "gpt", "user": "ann"}, {"prod": [], "zone": ["tag:zone:eu"], "gpt": []}),
    ):
        found = (await admin.get(EXPLAIN, key=key_id, **asked)).json()["budgets"]
        needs = {one["name"]: one["needs"] for one in found if one["origin"] == "sql"}
        assert needs == shown, asked


async def test_no_time_is_too_late_to_be_shown(admin: Asking) -> None:
    """It was a 500 of every list from then on."""
    await admin.post(LIMITS, {"name": "a", "limit": "5USD/month"})
    for until in ("9999-12-31T23:59:59-14:00", "9999-06-01", "0001-01-01T00:00:00+14:00"):
        answer = await admin.post(f"{LIMITS}/a/increase", {"by": "1USD", "until": until})
        assert (answer.status, answer.json()["error"]["param"]) == (400, "until"), until
    assert (await admin.post(f"{LIMITS}/a/increase", {"by": "1USD", "until": "9998-12-31"})).status == 200
    assert (await admin.get(LIMITS)).status == 200


async def test_a_suspension_of_what_is_not_there_would_lift_nothing(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    for scope in ({"model": "gtp"}, {"provider": "opnai"}, {"key": "AAAAAAAAAAAA"}):
        answer = await admin.post(SUSPENSIONS, {"scope": scope, "lasts": "1h", "reason": "because"})
        assert (answer.status, answer.json()["error"]["param"]) == (400, "scope"), scope
    assert (
        await admin.post(SUSPENSIONS, {"scope": {"model": "gpt"}, "lasts": "1h", "reason": "because"})
    ).status == 201


async def test_an_owner_sees_the_same_of_its_own_key(filed: World) -> None:
    app = filed.app()
    filed.standings.counters[search_month(filed)] = (5 * 10**9, 0)
    mine = (await filed.asking(app, "search-bot").get("/v1/usage")).json()["budgets"]
    theirs = (await filed.asking(app, "admin").get(EXPLAIN, key=filed.ids["search-bot"])).json()["budgets"]
    assert mine == theirs
    assert {one["name"]: one["spent"]["usd"] for one in mine} == {"brake": "0", "search-month": "5"}


# ---------------------------------------------------------------- the file


async def test_the_files_limits_are_part_of_the_policy_and_its_hash(filed: World, tmp_path: Path) -> None:
    policy = filed.config.policy
    assert policy is not None
    assert [one.id for one in policy.limits] == ["brake", "elsewhere", "search-month"]
    assert policy.limits[2].scope == (("org", EACH), ("team", "search"))
    again = with_limits(ROUTED, tmp_path)
    assert (again.hash, again.limits) == (policy.hash, policy.limits)
    (tmp_path / "limits.yaml").unlink()
    assert with_limits(ROUTED, tmp_path) is ROUTED
