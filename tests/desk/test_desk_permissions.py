"""Who may use which route: every route has a permission, and one place decides."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.away import Away
from desk.world import LOCAL_TOKEN, World
from gateway.core.caller import GRANTS, Permission, Role, permits
from gateway.desk.app import create_desk_app
from gateway.desk.guard import GuardedRoute
from gateway.desk.parts import LOCAL_HEADER, CorrectionParts, PriceParts

FILLED = {"id": "nothing", "name": "nothing"}
ROLES = [None, *Role]


@pytest.fixture
def app(world: World) -> FastAPI:
    """A desk with every route there is; what stands behind prices and corrections is away."""
    away = Away()
    prices = PriceParts(away, away, lambda sheets: world.files.compile(), ("openai",))
    parts = replace(world.parts(), prices=prices, corrections=CorrectionParts(away, away, away))
    return create_desk_app(parts)


def routes_of(app: FastAPI) -> list[GuardedRoute]:
    guarded = [route for route in app.router.routes if isinstance(route, GuardedRoute)]
    assert guarded
    return guarded


def path_of(route: GuardedRoute) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: FILLED[found.group(1)], route.path)


def test_every_route_of_the_desk_is_guarded_and_names_one_permission(app: FastAPI) -> None:
    for route in app.router.routes:
        assert isinstance(route, GuardedRoute), f"{route} is not behind the guard"
        assert isinstance(route.row.permission, Permission)


def test_public_routes_are_exactly_these(app: FastAPI) -> None:
    public = {(route.row.method, route.path) for route in routes_of(app) if route.row.permission is Permission.PUBLIC}
    assert public == {
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/alerts/pause"),
        ("POST", "/alerts/pause"),
        ("GET", "/ui/sign-in"),
        ("POST", "/ui/sign-in"),
        ("POST", "/ui/sign-out"),
        ("POST", "/ui/theme"),
        ("GET", "/ui/static/{name}"),
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "nobody")
async def test_the_api_lets_each_role_use_what_it_is_granted_and_nothing_else(
    world: World, app: FastAPI, role: Role | None
) -> None:
    asking = world.asking(app, None if role is None else role.value)
    key = None if role is None else world.ring.by_id(world.ids[role.value])
    for route in routes_of(app):
        if route.row.page:
            continue
        before = world.config.revision
        answer = await asking.send(route.row.method, path_of(route))
        where = f"{role} {route.row.method} {route.path}"
        if role is Role.FINANCE and route.row.permission is Permission.WRITE_PRICES:
            # Prices are every org's, and there are several here: test_prices_shared.py.
            assert answer.status in (400, 403), where
            assert world.config.revision == before, where
        elif permits(key, route.row.permission):
            assert answer.status not in (401, 403), where
        else:
            assert answer.status == (401 if role is None else 403), where
            assert world.config.revision == before, where
            assert answer.json()["error"]["code"] in ("invalid_api_key", "permission_denied"), where


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "nobody")
async def test_pages_take_sessions_of_roles_that_may_open_the_console(
    world: World, app: FastAPI, role: Role | None
) -> None:
    asking = Asking(app)
    key = None if role is None else world.ring.by_id(world.ids[role.value])
    if key is not None:
        asking.cookies["faregate_session"] = world.sessions.open(key, key.hashes[0][1])
    for route in routes_of(app):
        if route.row.page and route.row.method == "GET" and route.row.permission is not Permission.PUBLIC:
            answer = await asking.get(path_of(route))
            if permits(key, route.row.permission):
                assert answer.status in (200, 404), route.path
            elif key is None:
                assert answer.status == 303, route.path
                assert answer.header("location").startswith("/ui/sign-in")
            else:
                assert answer.status == 403, route.path


async def test_neither_plane_of_credentials_opens_the_other(world: World, app: FastAPI) -> None:
    """A cookie is nothing to the API (so a stolen click cannot administer); a key in a header is nothing to a page."""
    key = world.ring.by_id(world.ids["admin"])
    assert key is not None
    asking = Asking(app)
    asking.cookies["faregate_session"] = world.sessions.open(key, key.hashes[0][1])
    assert (await asking.get("/admin/v1/keys")).status == 401
    assert (await world.asking(app, "admin").get("/ui")).status == 303
    assert (await Asking(app, **{LOCAL_HEADER: LOCAL_TOKEN}).get("/ui")).status == 303


def test_roles_that_open_the_console_may_read_what_it_shows() -> None:
    for role, granted in GRANTS.items():
        if Permission.OPEN_CONSOLE in granted:
            assert {Permission.READ_SPEND, Permission.READ_OWN} <= granted, role


async def test_the_local_token_is_the_operator(app: FastAPI, local: Asking) -> None:
    assert (await local.get("/admin/v1/keys")).status == 200
    for wrong in ("", "x", LOCAL_TOKEN[:-1], LOCAL_TOKEN + "x", "é" * 43):
        answer = await Asking(app, **{LOCAL_HEADER: wrong}).get("/admin/v1/keys")
        assert answer.status == 401, wrong


async def test_an_empty_local_token_opens_nothing(world: World) -> None:
    from dataclasses import replace

    from gateway.desk.app import create_desk_app

    app = create_desk_app(replace(world.parts(), local_token=""))
    assert (await Asking(app, **{LOCAL_HEADER: ""}).get("/admin/v1/keys")).status == 401


async def test_x_api_key_works_like_bearer(world: World, app: FastAPI) -> None:
    assert (await Asking(app, x_api_key=world.secrets["admin"]).get("/admin/v1/keys")).status == 200


async def test_unclear_credentials_are_refused(world: World, app: FastAPI) -> None:
    admin, data = world.secrets["admin"], world.secrets["data"]
    two = Asking(app)
    two.headers = {"authorization": f"Bearer {admin}", "Authorization": f"Bearer {data}"}
    assert (await two.get("/admin/v1/keys")).status == 400
    assert (await Asking(app, authorization=f"Bearer {admin}", x_api_key=data).get("/admin/v1/keys")).status == 400
    assert (await Asking(app, authorization="Bearer " + "x" * 70_000).get("/admin/v1/keys")).status == 400
    for strange in (
        f"Basic {admin}",
        "Bearer",
        "Bearer ' OR 1=1--",
        "Bearer %",
        f"Bearer {admin}é",
        f"bearer\t{admin}",
    ):
        assert (await Asking(app, authorization=strange).get("/admin/v1/keys")).status == 401, strange


async def test_a_key_that_ended_opens_nothing(world: World, app: FastAPI) -> None:
    admin = world.asking(app, "admin")
    await world.config.set_paused(world.ids["admin"], True, actor="test")
    world.ring.apply(world.config.deltas, world.clock.now_ms())
    assert (await admin.get("/admin/v1/keys")).status == 403
    await world.config.revoke_key(world.ids["admin"], actor="test")
    world.ring.apply(world.config.deltas, world.clock.now_ms())
    assert (await admin.get("/admin/v1/keys")).status == 401


HOSTS = ["x/#@a", "x/?", "x:1/../", "", "localhost:4000", "admin@desk", "desk\\@evil"]


@pytest.mark.parametrize("host", HOSTS)
async def test_the_host_header_has_no_say(app: FastAPI, host: str) -> None:
    for route in routes_of(app):
        if route.row.permission is not Permission.PUBLIC:
            answer = await Asking(app, host=host).send(route.row.method, path_of(route))
            assert answer.status == (401 if not route.row.page else 303), route.path


TRICKS = [
    "//admin/v1/keys", "/admin//v1/keys", "/admin/v1/keys/", "/ADMIN/v1/keys", "/admin/v1/Keys", "/admin/v1/keys;x",
    "/admin/v1/./keys", "/x/../admin/v1/keys", "/admin/v1/keys%2f", "/admin/v1/%6beys", "/ui/", "/ui//requests",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
async def test_other_spellings_of_a_path_are_other_paths(app: FastAPI, admin: Asking, path: str) -> None:
    answer = await admin.get(path)
    assert answer.status == 404
    if path.startswith("/ui"):
        assert "<h1>Not here</h1>" in answer.text
    else:
        assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(app: FastAPI, admin: Asking, method: str) -> None:
    answer = await admin.send(method, "/admin/v1/keys", headers={"x-http-method-override": "POST"})
    assert answer.status == 405
    assert "GET" in answer.header("allow") or "POST" in answer.header("allow")


def test_every_part_of_the_desk_is_walked_through_here(app: FastAPI) -> None:
    asked = {route.row.permission for route in routes_of(app)}
    elsewhere = {Permission.CALL_MODELS, Permission.READ_METRICS, Permission.WRITE_PROMPTS}
    planned = {Permission.READ_CONTENT, Permission.READ_AUDIT}
    assert asked | elsewhere | planned == set(Permission)
