"""The route table: every row has a permission, paths match exactly as sent, and nothing stands twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.routes import ROUTES, Route, RouteTable, spellings
from gateway.core.caller import GRANTS, Permission, Role
from gateway.dialects.discover import discover

TABLE = RouteTable()


def test_every_row_names_a_permission_and_a_call_names_a_surface_that_exists() -> None:
    surfaces = discover()
    for route in ROUTES:
        assert isinstance(route.permission, Permission)
        assert route.path.startswith("/")
        assert route.summary
        assert (route.surface in surfaces) is (route.handler == "call")


def test_only_what_tells_nothing_is_public() -> None:
    public = {(route.method, route.path) for route in ROUTES if route.permission is Permission.PUBLIC}
    assert public == {("GET", "/"), ("HEAD", "/"), ("GET", "/livez"), ("GET", "/readyz")}


def test_every_permission_of_the_table_is_granted_to_some_role_and_models_only_to_applications() -> None:
    for route in ROUTES:
        assert any(route.permission in granted for granted in GRANTS.values())
        if route.handler in ("call", "models", "model"):
            assert {role for role in Role if route.permission in GRANTS[role]} == {Role.DATA}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_row_is_found_by_its_own_path_and_method(route: Route) -> None:
    path = route.path.replace("{id...}", "a/b/c").replace("{id}", "a")
    match = TABLE.find(route.method, path)
    assert match is not None
    assert match.route is route
    assert match.rest == ("a/b/c" if "{id...}" in route.path else "a" if "{id}" in route.path else "")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens", "/v1/models"])
def test_the_base_url_of_the_other_sdk_is_forgiven(path: str) -> None:
    method = "GET" if path == "/v1/models" else "POST"
    known = TABLE.find(method, path)
    assert known is not None
    assert known.route is not None
    for written in (f"/v1{path}", path.removeprefix("/v1")):
        assert TABLE.find(method, written) == known
    assert TABLE.find(method, f"/v1/v1{path}") is None


def test_only_what_sdks_call_has_other_spellings() -> None:
    assert TABLE.find("GET", "/requests/req_1") is None
    assert TABLE.find("GET", "/v1/livez") is None
    assert TABLE.find("GET", "/models/a/b") == TABLE.find("GET", "/v1/models/a/b")


def test_another_method_is_told_which_ones_there_are() -> None:
    match = TABLE.find("DELETE", "/v1/chat/completions")
    assert match is not None
    assert (match.route, match.methods) == (None, ("POST",))
    match = TABLE.find("POST", "/")
    assert match is not None
    assert match.methods == ("GET", "HEAD")


TRICKS = [
    "", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/V1/chat/completions",
    "/v1/chat/Completions", "/v1/chat/completions;x", "/v1/chat/completions\0", "/v1/chat/completions ",
    " /v1/chat/completions", "/v1/chat/completions?x", "/v1/./chat/completions", "/v1/x/../chat/completions",
    "/v1/chat/completions%00", "/v1/chat%2fcompletions", "v1/chat/completions", "/v1/models/", "/v1/requests/",
    "/v1/requests/a/b", "/v1/requests", "/livez/", "/metrics/", "/METRICS", "http://x/metrics",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_a_trick_spelling_is_not_found(path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        assert TABLE.find(method, path) is None


@given(st.text(st.sampled_from("/v1chatompleinsrqu{}.%;\\ "), max_size=30), st.sampled_from(["GET", "POST"]))
def test_no_path_is_found_that_is_not_a_row(path: str, method: str) -> None:
    literal = {path for route in ROUTES if "{" not in route.path for path in spellings(route)}
    match = TABLE.find(method, path)
    if match is not None and path not in literal:
        assert path.startswith(("/v1/models/", "/v1/v1/models/", "/models/", "/v1/requests/"))
        assert path.endswith(match.rest)
        assert match.rest


def test_a_row_that_stands_twice_is_refused() -> None:
    row = Route("GET", "/x/{id}", "desk", Permission.READ_OWN, "x")
    with pytest.raises(ValueError, match="twice"):
        RouteTable((row, row))
    with pytest.raises(ValueError, match="twice"):
        RouteTable((*ROUTES, Route("GET", "/livez", "alive", Permission.PUBLIC, "again")))
