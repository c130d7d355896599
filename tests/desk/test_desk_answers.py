"""What every answer of the desk has: shape, headers, description."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI

from desk.asking import Asking
from desk.world import World
from gateway.api.routes import ROUTES
from gateway.core.ids import CALL, parse_id
from gateway.desk.guard import GuardedRoute


async def test_every_answer_has_an_id_and_careful_headers(app: FastAPI, admin: Asking) -> None:
    seen = set()
    for path in ("/admin/v1/keys", "/nothing", "/ui", "/ui/sign-in", "/docs", "/openapi.json"):
        answer = await admin.get(path)
        assert parse_id(CALL, answer.header("x-request-id")) is not None, path
        seen.add(answer.header("x-request-id"))
        assert answer.header("x-content-type-options") == "nosniff"
        assert "default-src 'self'" in answer.header("content-security-policy")
        assert "unsafe" not in answer.header("content-security-policy")
        assert answer.header("cache-control") == "no-store"
    assert len(seen) == 6


@pytest.mark.parametrize("body", [b"{", b"", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"name":"\\ud800"}', b"[" * 5000])
async def test_bodies_that_are_no_object_are_400(admin: Asking, body: bytes) -> None:
    answer = await admin.send("POST", "/admin/v1/keys", body=body, headers={"content-type": "application/json"})
    assert answer.status == 400, answer.text
    assert answer.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_only_json_is_read(admin: Asking, kind: str) -> None:
    answer = await admin.send("POST", "/admin/v1/keys", body=b'{"name":"x"}', headers={"content-type": kind})
    assert answer.status == 415


async def test_a_body_too_large_is_413(admin: Asking) -> None:
    body = json.dumps({"name": "x" * 300_000}).encode()
    answer = await admin.send("POST", "/admin/v1/keys", body=body, headers={"content-type": "application/json"})
    assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_nobody_unknown_makes_the_desk_read_a_body(app: FastAPI) -> None:
    answer = await Asking(app).send("POST", "/admin/v1/keys", body=b"{" * 300_000)
    assert answer.status == 401


async def test_a_fault_of_our_own_tells_nothing_of_itself(world: World, app: FastAPI) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    world.config.teams = broken  # type: ignore[method-assign,assignment]
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": "GET", "path": "/admin/v1/teams", "query_string": b"", "root_path": "",
        "headers": [(b"authorization", f"Bearer {world.secrets['admin']}".encode())], "scheme": "http",
        "http_version": "1.1", "client": None, "server": None, "asgi": {"version": "3.0"},
    }  # fmt: skip
    with pytest.raises(RuntimeError):  # Starlette re-raises for the server's log once the answer is out
        await app(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert {b"x-request-id", b"content-security-policy"} <= {name for name, _ in sent[0]["headers"]}  # type: ignore[attr-defined]
    error = json.loads(sent[1]["body"])["error"]  # type: ignore[arg-type]
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]


async def test_the_description_has_every_route_of_both_planes_and_no_other(app: FastAPI) -> None:
    document = (await Asking(app).get("/openapi.json")).json()
    described = {(method.upper(), path) for path, members in document["paths"].items() for method in members}
    desk = {
        (route.row.method, route.path)
        for route in app.router.routes
        if isinstance(route, GuardedRoute) and route.row.shown and not route.row.page
    }
    data = {(route.method, route.path.replace("...", "")) for route in ROUTES}
    assert described == desk | data
    for path, members in document["paths"].items():
        for method, operation in members.items():
            assert operation["summary"], path
            assert operation["x-permission"], path
            assert "422" not in operation["responses"], (method, path)
            assert operation["responses"]["default"]
            assert (operation["security"] == []) == (operation["x-permission"] == "public")
    ids = [operation["operationId"] for members in document["paths"].values() for operation in members.values()]
    assert len(set(ids)) == len(ids)
    assert "HTTPValidationError" not in json.dumps(document)


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


async def test_the_description_refers_to_nothing_that_is_missing(app: FastAPI) -> None:
    document = (await Asking(app).get("/openapi.json")).json()
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names


async def test_the_page_of_routes_loads_nothing_from_elsewhere(app: FastAPI) -> None:
    page = (await Asking(app).get("/docs")).text
    assert "/v1/chat/completions" in page
    assert "/admin/v1/keys" in page
    assert "//" not in page.replace("<!doctype", "")
    assert "<script" not in page
    assert "style=" not in page


async def test_the_front_door_leads_to_the_console(app: FastAPI) -> None:
    answer = await Asking(app).get("/")
    assert (answer.status, answer.header("location")) == (303, "/ui")
