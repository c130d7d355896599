"""Keys over HTTP."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.fakes import NOW_MS
from desk.world import World

KEYS = "/admin/v1/keys"


async def made(asking: Asking, **members: Any) -> dict[str, Any]:
    answer = await asking.post(KEYS, {"name": "new", **members})
    assert answer.status == 201, answer.text
    return dict(answer.json())


async def test_a_new_key_works_at_once_and_its_secret_is_shown_once(world: World, app: FastAPI, admin: Asking) -> None:
    reply = await made(
        admin, team="search", budget="5USD/month", rpm=60, tpm=9000, models=["gpt-5", "claude-*"],
        tags={"env": "prod"}, expires_in="30d",
    )  # fmt: skip
    assert reply["state"] == "applied"
    assert reply["created"] is True
    assert reply["secret"].startswith("fg_test_")
    key = reply["key"]
    assert key["state"] == "active"
    assert key["org"] == "default"
    assert key["models"] == ["gpt-5", "claude-*"]
    assert key["tags"] == {"env": "prod"}
    assert key["expires_ms"] == NOW_MS + 30 * 86_400_000
    assert key["expires_at"] == "2026-12-24T22:14:03Z"
    assert [limit["words"] for limit in key["limits"]] == [
        "5 USD per month (UTC)", "60 requests in any minute", "9000 tokens in any minute",
    ]  # fmt: skip
    budget = key["limits"][0]
    assert (budget["text"], budget["amount"], budget["amount_usd"]) == ("5USD/month", 5_000_000_000, "5")
    assert budget["scope"] == {"key": key["id"]}
    shown = await admin.get(f"{KEYS}/{key['id']}")
    assert shown.json() == key
    assert reply["secret"] not in shown.text
    assert reply["secret"][30:] not in (await admin.get(KEYS)).text
    assert (await Asking(app, authorization=f"Bearer {reply['secret']}").get("/v1/usage")).status == 200


async def test_if_absent_makes_a_key_once(admin: Asking) -> None:
    first = await made(admin)
    again = await admin.post(KEYS, {"name": "new", "if_absent": True})
    assert again.status == 200
    assert again.json()["key"]["id"] == first["key"]["id"]
    assert again.json()["secret"] is None
    assert again.json()["created"] is False
    taken = await admin.post(KEYS, {"name": "new"})
    assert (taken.status, taken.json()["error"]["code"], taken.json()["error"]["param"]) == (409, "conflict", "name")


async def test_every_write_is_handed_to_the_workers_in_order(world: World, admin: Asking) -> None:
    key_id = (await made(admin))["key"]["id"]
    for action in ("pause", "resume", "rotate", "revoke"):
        assert (await admin.post(f"{KEYS}/{key_id}/{action}")).status == 200
    await admin.patch(f"{KEYS}/{world.ids['data']}", {"team": "other"})
    revisions = [revision for revision, _, _ in world.publisher.handed]
    assert revisions == sorted(revisions)
    assert len(revisions) == 6
    deltas = [delta for _, deltas, _ in world.publisher.handed for delta in deltas]
    assert [delta.key_id for delta in deltas] == [key_id] * 5 + [world.ids["data"]]
    assert deltas[4].key is None


async def test_a_write_that_not_all_workers_have_is_pending(world: World, admin: Asking) -> None:
    world.publisher.reached = False
    answer = await admin.post(KEYS, {"name": "new"})
    assert (answer.status, answer.json()["state"]) == (202, "pending")
    assert answer.json()["secret"].startswith("fg_")
    answer = await admin.post(f"{KEYS}/{answer.json()['key']['id']}/revoke")
    assert (answer.status, answer.json()["state"], answer.json()["key"]["state"]) == (202, "pending", "revoked")


async def test_a_write_whose_delta_cannot_be_read_back_is_pending_not_failed(world: World, admin: Asking) -> None:
    commit = world.config._commit

    def commit_and_go_down(*members: Any) -> int:
        revision = commit(*members)
        world.config.down = True
        return revision

    world.config._commit = commit_and_go_down  # type: ignore[method-assign]
    answer = await admin.post(KEYS, {"name": "new"})
    assert (answer.status, answer.json()["state"]) == (202, "pending")


async def test_pause_resume_and_revoke_take_effect_here_at_once(world: World, app: FastAPI, admin: Asking) -> None:
    data = world.asking(app, "data")
    path = f"{KEYS}/{world.ids['data']}"
    assert (await data.get("/v1/usage")).status == 200
    assert (await admin.post(f"{path}/pause")).json()["key"]["state"] == "paused"
    assert (await data.get("/v1/usage")).status == 403
    assert (await admin.post(f"{path}/resume")).json()["key"]["state"] == "active"
    assert (await data.get("/v1/usage")).status == 200
    assert (await admin.post(f"{path}/revoke")).json()["key"]["state"] == "revoked"
    assert (await data.get("/v1/usage")).status == 401
    assert (await admin.get(path)).json()["state"] == "revoked"


async def test_rotation_keeps_the_old_secret_for_its_overlap(world: World, app: FastAPI, admin: Asking) -> None:
    old = world.asking(app, "data")
    path = f"{KEYS}/{world.ids['data']}/rotate"
    answer = await admin.post(path, {"overlap_s": 60})
    new = Asking(app, authorization=f"Bearer {answer.json()['secret']}")
    assert [(await old.get("/v1/usage")).status, (await new.get("/v1/usage")).status] == [200, 200]
    world.clock.ms += 61_000
    world.ring.apply((), world.clock.ms)
    assert [(await old.get("/v1/usage")).status, (await new.get("/v1/usage")).status] == [401, 200]
    await admin.post(path, {"overlap_s": 0})
    assert (await new.get("/v1/usage")).status == 401


async def test_an_imported_key_works_unchanged_and_only_for_calls(app: FastAPI, admin: Asking) -> None:
    text = "sk-proj-of-another-gateway"
    digest = hashlib.sha256(text.encode()).hexdigest()
    answer = await admin.post(f"{KEYS}/import", {"sha256": digest.upper(), "name": "old", "budget": "1USD/day"})
    assert answer.status == 201
    assert answer.json()["secret"] is None
    assert answer.json()["key"]["role"] == "data"
    assert (await Asking(app, authorization=f"Bearer {text}").get("/v1/usage")).status == 200
    for wrong in ({"sha256": digest, "name": "x", "role": "admin"}, {"sha256": "abc", "name": "x"}):
        assert (await admin.post(f"{KEYS}/import", wrong)).status == 400


async def test_update_changes_what_is_given_and_nothing_else(admin: Asking) -> None:
    key = (await made(admin, team="a", budget="5USD/month", rpm=60, models=["gpt-5"]))["key"]
    path = f"{KEYS}/{key['id']}"
    changed = (await admin.patch(path, {"budget": "7.5USD/month", "expires_in": "1h"})).json()["key"]
    assert {limit["text"] for limit in changed["limits"]} == {"7.5USD/month", "60requests/60s"}
    assert (changed["team"], changed["models"], changed["name"]) == ("a", ["gpt-5"], "new")
    assert (await admin.patch(path, {"expires_in": "never", "models": []})).json()["key"]["expires_ms"] is None
    assert (await admin.get(path)).json()["models"] == []


UNWANTED = [
    {"name": "x", "is_admin": True}, {"name": "x", "org": "elsewhere"}, {"name": "x", "__proto__": {}},
    {"name": "x", "limits": []}, {"name": "x", "key_id": "abc"}, {"name": "x", "scope": "*"}, {},
    {"name": ""}, {"name": "x\u001b[31m"}, {"name": "x\u202e"}, {"name": "x" * 129}, {"name": 7}, [], "x",
    {"name": "x", "role": "root"}, {"name": "x", "rpm": 0}, {"name": "x", "rpm": -1}, {"name": "x", "rpm": 1 << 70},
    {"name": "x", "budget": "5"}, {"name": "x", "budget": "-5USD/month"}, {"name": "x", "budget": "5EUR/month"},
    {"name": "x", "budget": "1e3USD/month"}, {"name": "x", "budget": "99999999999999USD/day"},
    {"name": "x", "expires_in": "0d"}, {"name": "x", "expires_in": "soon"}, {"name": "x", "expires_in": "999999d"},
    {"name": "x", "tags": {f"t{n}": "v" for n in range(17)}}, {"name": "x", "tags": {"a": 1}},
    {"name": "x", "models": ["m"] * 257}, {"name": "x", "models": "gpt-5"},
]  # fmt: skip


@pytest.mark.parametrize("body", UNWANTED, ids=lambda body: str(body)[:60])
async def test_a_write_that_is_not_exactly_right_changes_nothing(world: World, admin: Asking, body: Any) -> None:
    before = world.config.revision
    answer = await admin.post(KEYS, body)
    assert answer.status == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert world.config.revision == before


async def test_a_refusal_names_the_member_at_fault(admin: Asking) -> None:
    answer = await admin.post(KEYS, {"name": "x", "budget": "5USD"})
    assert answer.json()["error"]["param"] == "budget"
    assert "5USD/month" in answer.json()["error"]["message"]
    answer = await admin.post(KEYS, {"name": "x", "tags": {"a": 1}})
    assert answer.json()["error"]["param"] == "tags.a"
    answer = await admin.post(KEYS, {"name": "x", "is_admin": True})
    assert answer.json()["error"]["param"] == "is_admin"


async def test_a_role_is_for_life(world: World, admin: Asking) -> None:
    answer = await admin.patch(f"{KEYS}/{world.ids['data']}", {"role": "admin"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "role")


async def test_a_key_may_have_several_budgets(admin: Asking) -> None:
    key = (await made(admin, budget=["5USD/month", "1USD/day"]))["key"]
    assert {limit["text"] for limit in key["limits"]} == {"5USD/month", "1USD/day"}
    assert (await admin.post(KEYS, {"name": "x", "budget": ["5USD/month", "2"]})).status == 400


async def test_keys_of_others_do_not_exist(world: World, app: FastAPI, admin: Asking) -> None:
    team = world.asking(app, "team")
    cases = [
        (admin, world.ids["foreign"]), (admin, "sha_000000000000"), (admin, "x" * 65), (admin, "%00"),
        (team, world.ids["support-bot"]), (team, world.ids["foreign"]), (team, world.ids["admin"]),
    ]  # fmt: skip
    answers = [await asking.get(f"{KEYS}/{key_id}") for asking, key_id in cases]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1, "an answer tells that something is there"
    assert (await team.get(f"{KEYS}/{world.ids['search-bot']}")).status == 200
    for action in ("pause", "resume", "revoke", "rotate"):
        assert (await admin.post(f"{KEYS}/{world.ids['foreign']}/{action}")).status == 404
    assert (await admin.patch(f"{KEYS}/{world.ids['foreign']}", {"name": "mine"})).status == 404
    assert world.config.kept[world.ids["foreign"]].record.name == "foreign"


async def test_lists_hold_what_the_asker_may_see(world: World, app: FastAPI, admin: Asking) -> None:
    names = [key["name"] for key in (await admin.get(KEYS)).json()["data"]]
    assert "search-bot" in names
    assert "foreign" not in names
    team = world.asking(app, "team")
    assert {key["team"] for key in (await team.get(KEYS)).json()["data"]} == {"search"}
    assert (await team.get(KEYS, team="search")).status == 200
    assert (await team.get(KEYS, team="support")).status == 404
    assert [key["name"] for key in (await admin.get(KEYS, team="support")).json()["data"]] == ["support-bot"]


async def test_lists_come_in_pages(admin: Asking) -> None:
    every = [key["id"] for key in (await admin.get(KEYS)).json()["data"]]
    first = (await admin.get(KEYS, limit=4)).json()
    assert first["has_more"] is True
    rest = (await admin.get(KEYS, limit=1000, offset=4)).json()
    assert rest["has_more"] is False
    assert [key["id"] for key in first["data"] + rest["data"]] == every
    for wrong in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"limit": "x"}):
        assert (await admin.get(KEYS, **wrong)).status == 400  # type: ignore[arg-type]


async def test_the_operator_chooses_the_org_and_a_key_cannot(world: World, app: FastAPI, local: Asking) -> None:
    local.headers["x-faregate-org"] = "elsewhere"
    assert [key["name"] for key in (await local.get(KEYS)).json()["data"]] == ["foreign"]
    admin = world.asking(app, "admin", x_faregate_org="elsewhere")
    assert "foreign" not in (await admin.get(KEYS)).text
    assert (await admin.post(KEYS, {"name": "new"})).json()["key"]["org"] == "default"
