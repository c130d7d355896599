"""Limits over HTTP: one owner each, within one org, published like every change, and explained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.world import EMPTY, World, folder_of, make_world
from gateway.core.admin import KeyChange
from gateway.core.caller import Role
from gateway.core.config import Deployment, ModelRoute, ProviderSettings
from gateway.core.errors import ConfigInvalid
from gateway.core.limits import EACH, Unit
from gateway.desk.limits_file import with_limits
from gateway.desk.policy_files import PolicyFiles
from gateway.limits.text import parse_limit

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
HEAD = "limits:\n  a:\n    limit: 5USD/day\n"
ROUTED = msgspec.structs.replace(
    EMPTY,
    providers={"openai": ProviderSettings("openai", "openai", "openai_chat", "https://a")},
    models={"gpt": ModelRoute("gpt", (Deployment("openai/gpt", "openai", "gpt"),))},
    wildcards=(ModelRoute("openai/*", (Deployment("openai/*", "openai", "*"),)),),
)


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
        ({"limit": "5USD/month", "on_exceed": "downgrade"}, "on_exceed"),
        ({"limit": "60/min", "scope": {"provider": "openai"}}, "scope"),
        ({"limit": "5USD/month", "max_values": 5}, "max_values"),
        ({"limit": "5USD/month", "windw": "day"}, "windw"),
    ],
)
async def test_a_mistake_is_a_400_that_names_the_member(admin: Asking, body: dict[str, object], param: str) -> None:
    answer = await admin.post(LIMITS, body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


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
        "search-month|default,search|2026-11": (100 * 10**9, 7),
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


async def test_explain_says_what_is_suspended_and_when_nobody_knows_the_counters(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    await admin.post(SUSPENSIONS, {"scope": {"team": "search"}, "lasts": "1h", "reason": "incident 7"})
    filed.standings.away = True
    found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"])).json()
    assert found["counted"] is False
    (month,) = [one for one in found["budgets"] if one["name"] == "search-month"]
    assert (month["state"], month["spent"], month["left"]) == ("suspended", None, None)
    assert [one["reason"] for one in found["suspensions"]] == ["incident 7"]


async def test_a_model_leads_to_where_it_would_go(filed: World) -> None:
    admin = filed.asking(filed.app(), "admin")
    await admin.post(LIMITS, {"name": "there", "limit": "5USD/month", "scope": {"provider": "openai"}})
    for model, needs in (("", ["provider:openai"]), ("gpt", []), ("openai/new", [])):
        found = (await admin.get(EXPLAIN, key=filed.ids["search-bot"], model=model)).json()
        assert [one["needs"] for one in found["budgets"] if one["name"] == "there"] == [needs], model


async def test_an_owner_sees_the_same_of_its_own_key(filed: World) -> None:
    app = filed.app()
    filed.standings.counters["search-month|default,search|2026-11"] = (5 * 10**9, 0)
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits:\n  a:\n    limit: 5USD\n", "limits.yaml:3: limit a: limit: '5USD' names no window"),
        ("limits:\n  a:\n    limt: 5USD/day\n", "limits.yaml:3: limit a: limt: is no member of a limit"),
        ("limits:\n  a:\n    scope: {}\n", "limits.yaml:2: limit a: limit: is missing"),
        ("limits:\n  lim_1:\n    limit: 5USD/day\n", "limits.yaml:2: limit lim_1: id: ids that begin with lim_"),
        (f"{HEAD}    scope: {{provider: opnai}}\n", "there is no provider 'opnai'. Did you mean 'openai'?"),
        (f"{HEAD}    scope: {{model: gtp}}\n", "there is no model 'gtp'. Did you mean 'gpt'?"),
        (f"{HEAD}    scope: {{deployment: x/y}}\n", "has no provider that is there"),
        ("limits:\n  a:\n    limit: 5USD/day\n    scope: [team]\n", "must be a mapping"),
        ("limits:\n  a:\n    limit: 5USD/day\n    max_values: many\n    scope: {user: each}\n", "limit a: max_values"),
        ("limit:\n  a: {}\n", "unknown section 'limit'. Did you mean 'limits'?"),
        ("limits:\n  a:\n    limit: 5USD/day\n  a:\n    limit: 6USD/day\n", "'a' is there twice"),
        ("limits: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_files_mistake_has_its_line_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(ConfigInvalid) as found:
        with_limits(ROUTED, tmp_path)
    assert said in found.value.message


def test_dates_need_no_quotes_and_a_model_under_a_wildcard_is_one(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text(
        "limits:\n  a:\n    limit: 5USD/day\n    scope: {model: openai/new}\n"
        "    increase: {by: 5USD, until: 2026-12-24}\n    alerts: [50]\n"
    )
    (found,) = with_limits(ROUTED, tmp_path).limits
    assert (found.increase_until_ms, found.alerts) == (1_798_070_400_000, (50,))


def test_the_shipped_file_and_its_schema_are_valid(tmp_path: Path) -> None:
    """`python -m gateway.limits.schema > policies/limits.schema.json` writes the schema."""
    import jsonschema
    import yaml

    from gateway.limits.schema import limits_schema, schema_text

    policies = Path(__file__).resolve().parents[2] / "policies"
    assert (policies / "limits.schema.json").read_text() == schema_text()
    text = (policies / "limits.yaml").read_text()
    assert with_limits(ROUTED, policies) is ROUTED, "everything in it is commented out"
    shown = "\n".join(
        line.replace("  # ", "  ", 1) if line.startswith("  # ") and _is_yaml(line) else line
        for line in text.split("\n")
    )
    jsonschema.Draft202012Validator(limits_schema()).validate(yaml.safe_load(shown))
    (tmp_path / "limits.yaml").write_text(shown.replace("gpt-4o-mini", "gpt"))
    assert len(with_limits(ROUTED, tmp_path).limits) == 8


def _is_yaml(line: str) -> bool:
    rest = line.removeprefix("  # ")
    return rest.startswith("  ") or rest.endswith(":")
