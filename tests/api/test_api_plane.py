"""The data plane: what each path answers, that every answer has a request id and every error OpenAI's shape."""

from __future__ import annotations

import asyncio
import logging

import pytest
from flow.scripts import GOOD, requests_per_minute, stream, whole
from flow.virtual_time import play
from flow.world import World, chat

from api.asking import LEAVES, Told, part
from api.planes import JSON, Served, bearer
from gateway.api.exchange import Receive, Scope, Send
from gateway.api.headers import MAX_HEADERS
from gateway.api.routes import ROUTES
from gateway.core.caller import Permission
from gateway.core.ids import CALL, parse_id
from gateway.core.records import AttemptEnd, Settle

TAKEN = [
    ("GET", "/livez", (), 200, b'{"status":"alive"}'),
    ("GET", "/readyz", (), 200, b'{"status":"ready"}'),
    ("HEAD", "/", (), 200, b""),
    ("GET", "/metrics", (bearer("scrape"),), 200, b"faregate_calls_total 1\n"),
    ("GET", "/metrics", (bearer("boss"),), 200, b"faregate_calls_total 1\n"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "body"), TAKEN)
def test_what_is_answered_here(
    method: str, path: str, headers: tuple[tuple[str, str], ...], status: int, body: bytes
) -> None:
    async def asked() -> None:
        told = await Served().ask(method, path, *headers)
        assert (told.status, told.body) == (status, body)

    play(asked())


MANY = tuple((f"h{n}", "") for n in range(MAX_HEADERS))
REFUSED = [
    ("POST", "/v1/chat/completions", (JSON,), 401, "invalid_api_key"),
    ("POST", "/v1/chat/completions", (JSON, bearer("nobody")), 401, "invalid_api_key"),
    ("POST", "/v1/chat/completions", (JSON, bearer("boss")), 403, "permission_denied"),
    ("POST", "/v1/chat/completions", (bearer("app"), ("authorization", "Bearer b")), 400, "invalid_request"),
    (
        "POST",
        "/v1/chat/completions",
        (bearer("app"), *((f"h{n}", "") for n in range(MAX_HEADERS))),
        400,
        "invalid_request",
    ),
    ("POST", "/v1/chat/completions", (bearer("app"),), 415, "unsupported_media_type"),
    ("GET", "/v1/chat/completions", (bearer("app"),), 405, "method_not_allowed"),
    ("DELETE", "/v1/models", (bearer("app"),), 405, "method_not_allowed"),
    ("POST", "/", (), 405, "method_not_allowed"),
    ("POST", "/v1/nothing", (JSON, bearer("app")), 404, "not_found"),
    ("POST", "/v1/chat/completions/", (JSON, bearer("app")), 404, "not_found"),
    ("GET", "/v1/", (), 404, "not_found"),
    ("GET", "/v1/models", (), 401, "invalid_api_key"),
    ("GET", "/v1/models", (bearer("scrape"),), 403, "permission_denied"),
    ("GET", "/v1/models/nothing", (bearer("app"),), 404, "model_not_found"),
    ("GET", "/v1/models/steady", (bearer("narrow"),), 404, "model_not_found"),
    ("GET", "/metrics", (), 401, "invalid_api_key"),
    ("GET", "/metrics", (bearer("app"),), 403, "permission_denied"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "code"), REFUSED)
def test_what_is_refused_here(
    method: str, path: str, headers: tuple[tuple[str, str], ...], status: int, code: str
) -> None:
    async def asked() -> None:
        served = Served()
        told = await served.ask(method, path, *headers)
        assert (told.status, told.error) == (status, code)
        assert parse_id(CALL, told.headers["x-request-id"])
        identified = served.world.records(Settle)
        assert served.plane.refusals.counts == ({} if identified else {code: 1})
        assert served.world.metrics.refused == ([] if identified else [code])
        assert served.plane.running == 0

    play(asked())


@pytest.mark.parametrize("route", [r for r in ROUTES if r.permission is not Permission.PUBLIC and r.handler != "desk"],
                         ids=lambda route: f"{route.method} {route.path}")  # fmt: skip
def test_every_row_is_closed_without_a_key(route: object) -> None:
    async def asked() -> None:
        path = route.path.replace("{id...}", "fast")  # type: ignore[attr-defined]
        assert (await Served().ask(route.method, path)).status == 401  # type: ignore[attr-defined]

    play(asked())


def test_an_answer_tells_which_methods_there_are() -> None:
    async def asked() -> None:
        assert (await Served().ask("GET", "/v1/chat/completions")).headers["allow"] == "POST"
        assert (await Served().ask("PUT", "/")).headers["allow"] == "GET, HEAD"

    play(asked())


TO_DESK = [
    "/ui",
    "/admin/v1/keys",
    "/v1/requests/req_x",
    "/v1/usage",
    "/openapi.json",
    "/v1",
    "/V1/models",
    "//v1/x",
    "/",
]


@pytest.mark.parametrize("path", TO_DESK)
def test_everything_else_is_the_desks_which_authenticates_it_itself(path: str) -> None:
    async def asked() -> None:
        told = await Served().ask("GET", path)
        assert (told.status, told.body, told.headers["x-desk"]) == (200, b"desk", path)
        assert parse_id(CALL, told.headers["x-request-id"])

    play(asked())


def test_the_desks_own_request_id_stays() -> None:
    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"X-Request-Id", b"its own")]})
        await send({"type": "http.response.body", "body": b""})

    async def asked() -> None:
        assert (await Served(desk=named).ask("GET", "/ui")).raw == [(b"X-Request-Id", b"its own")]

    play(asked())


def test_readiness_says_why_not_and_goes_before_the_calls_do() -> None:
    async def asked() -> None:
        served = Served(reason="no configuration yet")
        told = await served.ask("GET", "/readyz")
        assert (told.status, told.json) == (503, {"status": "no configuration yet"})
        assert (await served.ask("GET", "/livez")).status == 200
        served = Served()
        served.plane.draining = True
        told = await served.ask("GET", "/readyz")
        assert (told.status, told.json) == (503, {"status": "draining"})
        told = await served.chat()
        assert (told.status, told.error, told.headers["retry-after"]) == (503, "server_shutting_down", "1")
        assert (await served.ask("GET", "/livez")).status == 200
        assert served.world.events == []

    play(asked())


def test_running_calls_are_counted_while_they_run() -> None:
    async def asked() -> None:
        served = Served(World([whole(5.0, b"{}")]))
        calls = [asyncio.create_task(served.chat()) for _ in range(3)]
        await asyncio.sleep(1)
        assert served.plane.running == 3
        await asyncio.gather(*calls)
        assert served.plane.running == 0

    play(asked())


def test_models_are_listed_as_openai_does() -> None:
    async def asked() -> None:
        told = await Served().ask("GET", "/v1/models", bearer("app"))
        assert told.json["object"] == "list"
        rows = {row["id"]: row for row in told.json["data"]}
        assert {"fast", "steady", "both"} <= set(rows)
        openai = {"id": "fast", "object": "model", "created": 0, "owned_by": "cancels"}
        anthropic = {"type": "model", "display_name": "fast", "created_at": "1970-01-01T00:00:00Z"}
        assert rows["fast"] == openai | anthropic
        narrow = await Served().ask("GET", "/v1/models", bearer("narrow"))
        assert [row["id"] for row in narrow.json["data"]] == ["fast"]

    play(asked())


@pytest.mark.parametrize("name", ["fast", "any/with/many/slashes", "any/a b"])
def test_one_model_may_have_slashes(name: str) -> None:
    async def asked() -> None:
        told = await Served().ask("GET", f"/v1/models/{name}", bearer("app"))
        assert (told.status, told.json["id"], told.json["owned_by"]) == (200, name, "cancels")

    play(asked())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_call_is_answered_and_its_watch_ends_with_it(streamed: bool) -> None:
    async def asked() -> None:
        served = Served(World([stream(*GOOD) if streamed else whole()], limits=(requests_per_minute(5),)))
        told = await served.chat(body=chat(stream=streamed))
        assert told.status == 200
        assert told.done
        assert told.headers["x-ratelimit-remaining-requests"] == "4"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(asked())


def test_a_caller_that_leaves_ends_its_call() -> None:
    async def asked() -> None:
        served = Served(World([whole(50.0, b"{}")]))
        headers = (JSON, bearer("app"))
        told = await served.ask("POST", "/v1/chat/completions", *headers, body=(part(chat()), 2.0, LEAVES))
        assert told.sent == []
        assert served.world.settle.outcome == "client_gone"
        assert served.world.settle.duration_us == pytest.approx(2_000_000, rel=0.01)

    play(asked())


class Faulty:
    name = "faulty"

    def check(self, *asked: object) -> None:
        raise ZeroDivisionError("the cat stood on it")


def test_a_fault_of_our_own_is_500_without_a_traceback_and_the_log_has_both_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def asked() -> tuple[Told, Served]:
        served = Served(World([whole()], guards=(Faulty(),)))
        return await served.chat(), served

    with caplog.at_level(logging.ERROR, "faregate.api"):
        told, served = play(asked())
    assert (told.status, told.error) == (500, "internal_error")
    assert b"cat" not in told.body
    assert b"Traceback" not in told.body
    assert told.headers["x-request-id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert caplog.text.count("req_") == 2, "the caller's id and the ledger's"
    assert served.world.settle.error_code == "internal_error"
    assert served.plane.refusals.counts == {}, "it was identified, so it is in the ledger"


def test_a_fault_inside_a_stream_ends_it_with_an_error_event() -> None:
    async def asked() -> Told:
        served = Served(World([stream(*GOOD)]))
        served.world.metrics.broken = True
        told = await served.chat(body=chat(stream=True))
        assert served.world.settle.outcome == "ok", "it was settled before the fault, and is not settled again"
        return told

    told = play(asked())
    assert told.status == 200
    assert b'"code":"internal_error"' in told.body
    assert told.body.endswith(b"\n\n")
    assert b"[DONE]" not in told.body


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_what_cannot_be_recorded_at_all_is_not_given_out_as_complete(streamed: bool) -> None:
    async def asked() -> None:
        served = Served(World([stream(*GOOD) if streamed else whole()], refuse=(AttemptEnd,)))
        told = await served.chat(body=chat(stream=streamed))
        assert b'"code":"usage_log_unavailable"' in told.body
        assert b"[DONE]" not in told.body
        assert told.status == (200 if streamed else 503)
        assert served.world.engine.open_holds() == 1, "its money stays held: what it cost is not known"

    play(asked())


def test_refusals_are_handed_over_as_one_record_and_counted_anew() -> None:
    async def asked() -> None:
        served = Served()
        for key in ("nobody", "nobody", "boss"):
            await served.chat(key)
        record = served.plane.refusals.record(5)
        assert record is not None
        assert (record.ts_ms, record.counts) == (5, {"invalid_api_key": 2, "permission_denied": 1})
        assert served.plane.refusals.record(6) is None

    play(asked())


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/v1/messages/x", "/messages", "/v1/messages"])
def test_errors_at_paths_of_messages_are_in_anthropics_shape(path: str) -> None:
    async def asked() -> None:
        told = await Served().ask("GET", path, bearer("app"))
        said = told.json
        assert said["type"] == "error"
        assert said["error"]["type"] in ("not_found_error", "invalid_request_error")
        assert said["request_id"] == told.headers["request-id"] == told.headers["x-request-id"]
        plain = await Served().ask("GET", "/v1/chat/completions/x/messages", bearer("app"))
        assert "code" in plain.json["error"]

    play(asked())
