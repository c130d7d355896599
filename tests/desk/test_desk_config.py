"""Configuration: files become revisions, mistakes never do, and the log tells who changed what."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path

import msgspec
import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.world import EMPTY, World, make_world, until
from gateway.core.config import Deployment, ModelRoute, Policy
from gateway.desk.policy_files import PolicyFiles
from gateway.settings import Settings

CONFIG = "/admin/v1/config"
ROUTE = ModelRoute("gpt-5", (Deployment("openai/gpt-5", "openai", "gpt-5"),))
NEXT: Policy = msgspec.structs.replace(EMPTY, hash="b" * 64, models={"gpt-5": ROUTE})
PROBLEM = "policies/routes.yaml:3: there is no provider 'opnai'. Did you mean 'openai'?"


async def test_before_the_first_policy_there_is_none(admin: Asking) -> None:
    reply = (await admin.get(CONFIG)).json()
    assert (reply["revision"], reply["hash"], reply["problem"], reply["models"]) == (None, None, None, [])


async def test_reload_stores_publishes_and_tells(world: World, admin: Asking) -> None:
    world.files.policy = NEXT
    reply = await admin.post(f"{CONFIG}/reload")
    assert (reply.status, reply.json()["changed"], reply.json()["state"]) == (200, True, "applied")
    revision, _, policy = world.publisher.handed[-1]
    assert policy is not None
    assert (policy.hash, policy.revision, revision) == (NEXT.hash, reply.json()["revision"], reply.json()["revision"])
    shown = (await admin.get(CONFIG)).json()
    assert (shown["hash"], shown["models"], shown["problem"]) == (NEXT.hash, ["gpt-5"], None)
    handed = len(world.publisher.handed)
    again = (await admin.post(f"{CONFIG}/reload")).json()
    assert (again["changed"], again["revision"]) == (False, reply.json()["revision"])
    assert len(world.publisher.handed) == handed


async def test_a_reload_that_not_all_workers_have_is_pending(world: World, admin: Asking) -> None:
    world.publisher.reached = False
    reply = await admin.post(f"{CONFIG}/reload")
    assert (reply.status, reply.json()["state"]) == (202, "pending")


async def test_an_invalid_file_changes_nothing_and_is_told(
    world: World, admin: Asking, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.post(f"{CONFIG}/reload")
    stored, handed = world.config.policy, len(world.publisher.handed)
    world.files.problem = PROBLEM
    with caplog.at_level(logging.ERROR, "faregate.desk"):
        for _ in range(3):
            answer = await admin.post(f"{CONFIG}/reload")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "config_invalid")
    assert answer.json()["error"]["message"] == PROBLEM
    assert world.config.policy is stored
    assert len(world.publisher.handed) == handed
    assert [record.message for record in caplog.records] == [f"the policy files are not used: {PROBLEM}"]
    shown = (await admin.get(CONFIG)).json()
    assert (shown["hash"], shown["problem"], shown["problem_at"]) == (EMPTY.hash, PROBLEM, "2026-11-24T22:14:03Z")
    world.files.problem = ""
    await admin.post(f"{CONFIG}/reload")
    assert (await admin.get(CONFIG)).json()["problem"] is None


async def test_validate_compiles_and_changes_nothing(world: World, admin: Asking) -> None:
    await admin.post(f"{CONFIG}/reload")
    before = world.config.revision
    assert (await admin.post(f"{CONFIG}/validate")).json() == {
        "valid": True, "hash": EMPTY.hash, "changed": False, "models": [], "providers": [],
    }  # fmt: skip
    world.files.policy = NEXT
    assert (await admin.post(f"{CONFIG}/validate")).json()["changed"] is True
    world.files.problem = PROBLEM
    assert (await admin.post(f"{CONFIG}/validate")).status == 400
    assert world.config.revision == before


async def test_teams_and_log(world: World, app: FastAPI, admin: Asking) -> None:
    assert (await admin.get("/admin/v1/teams")).json()["data"] == ["search", "support"]
    assert (await world.asking(app, "team").get("/admin/v1/teams")).json()["data"] == ["search"]
    await admin.post(f"{CONFIG}/reload")
    await admin.post(f"/admin/v1/keys/{world.ids['data']}/revoke")
    rows = (await admin.get("/admin/v1/log")).json()["data"]
    assert [(row["kind"], row["subject"], row["actor"]) for row in rows[:2]] == [
        ("key.revoke", world.ids["data"], world.ids["admin"]),
        ("policy", EMPTY.hash, world.ids["admin"]),
    ]
    assert world.ids["foreign"] not in str(rows)
    assert len((await admin.get("/admin/v1/log", limit=1)).json()["data"]) == 1


@pytest.fixture
async def watched(tmp_path: Path) -> World:
    """A desk whose files are real; what they compile to is read from the file: its text becomes the hash."""
    world = await make_world()
    world.settings = Settings(config_dir=tmp_path)
    return world


async def test_the_watch_follows_the_folder(watched: World, tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"

    def compiled() -> Policy:
        text = routes.read_text() if routes.exists() else "missing"
        watched.files.problem = f"{routes}:1: {text}" if text in ("bad", "missing") else ""
        return msgspec.structs.replace(watched.files.compile(), hash=text)

    files = PolicyFiles(dataclasses.replace(watched.parts(), compile_policy=compiled))
    stop = asyncio.Event()
    task = asyncio.create_task(files.watch(stop))

    def stored() -> str:
        return "" if watched.config.policy is None else watched.config.policy.hash

    await until(lambda: "missing" in files.standing.problem)
    routes.write_text("first")
    await until(lambda: stored() == "first")
    routes.write_text("bad")
    await until(lambda: files.standing.problem.endswith(":1: bad"))
    assert stored() == "first"
    watched.config.down = True
    routes.write_text("second")
    await until(lambda: "could not be stored" in files.standing.problem)
    watched.config.down = False
    await until(lambda: stored() == "second")
    assert files.standing.problem == ""
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_the_lifespan_watches_and_stops(watched: World, tmp_path: Path) -> None:
    watched.watch_files = True
    app = watched.app()
    async with app.router.lifespan_context(app):
        await until(lambda: watched.config.policy is not None)


async def test_a_compiler_that_breaks_ends_neither_watch_nor_policy(
    watched: World, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks() -> Policy:
        raise RuntimeError("a bug")

    files = PolicyFiles(dataclasses.replace(watched.parts(), compile_policy=breaks))
    stop = asyncio.Event()
    task = asyncio.create_task(files.watch(stop))
    await until(lambda: "unforeseen" in caplog.text)
    assert not task.done()
    stop.set()
    await task
