"""The desk behind its Unix socket: everything goes there and comes back as it is, or a clear 503."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from api.asking import LEAVES, Told, ask, part
from api.planes import Served
from api.servers import request, send_raw, serving
from gateway.api.desk_relay import DeskRelay
from gateway.api.exchange import Receive, Scope, Send
from gateway.core.errors import UpstreamTimeout
from gateway.core.ids import CALL, parse_id
from gateway.core.upstream import Upstream, UpstreamReply, UpstreamRequest
from gateway.dialects.discover import discover
from gateway.upstream.aiohttp_client import AiohttpUpstream

PLAIN = discover()["chat.completions"]
COOKIES = [(b"set-cookie", b"session=1; HttpOnly"), (b"set-cookie", b"theme=dark"), (b"set-cookie", b"visitor=2")]


class Desk:
    """An ASGI application that keeps what it was asked and answers by its path."""

    def __init__(self) -> None:
        self.asked: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        self.asked.append((scope, body))
        status, headers = 200, [(b"x-desk", b"1")]
        match scope["path"]:
            case "/cookies":
                headers = [*COOKIES, (b"vary", b"cookie"), (b"vary", b"accept")]
            case "/moved":
                status, headers = 303, [(b"location", b"/ui?next=%2Fui")]
            case "/unzipped":
                headers = [(b"content-encoding", b"gzip")]
            case "/nothing":
                status = 204
            case _:
                pass
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["path"] == "/cut":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": b"" if status == 204 else body or b"desk"})


class Relayed:
    """A desk on a socket and the relay to it."""

    def __init__(self, desk: Desk, relay: DeskRelay) -> None:
        self.desk = desk
        self.relay = relay

    async def ask(self, method: str, path: str, *headers: tuple[str, str], **more: Any) -> Told:
        return await ask(self.relay, method, path, headers, **more)

    @property
    def scope(self) -> Scope:
        return self.desk.asked[-1][0]

    def header(self, name: str) -> list[str]:
        return [value.decode() for key, value in self.scope["headers"] if key == name.encode()]


@pytest.fixture
async def relayed(tmp_path: Path) -> AsyncIterator[Relayed]:
    desk = Desk()
    upstream = AiohttpUpstream()
    path = tmp_path / "desk.sock"
    async with serving(desk, path):
        yield Relayed(desk, DeskRelay(upstream, str(path), PLAIN, 1000))
        await upstream.close()


async def test_a_request_arrives_as_it_was_sent(relayed: Relayed) -> None:
    headers = (
        ("host", "faregate.test:4000"), ("cookie", "a=b; c=d"), ("authorization", "Bearer x"),
        ("content-type", "application/x-www-form-urlencoded"), ("accept", "text/html"), ("x-twice", "1"),
        ("x-twice", "2"), ("connection", "keep-alive"), ("transfer-encoding", "chunked"), ("te", "trailers"),
        ("x-faregate-client", "6.6.6.6"),
    )  # fmt: skip
    body = (part(b"name=", True), 0.01, part(b"value&x=%26"))
    told = await relayed.ask("POST", "/ui/sign-in", *headers, body=body, query=b"next=%2Fui&x=1")
    assert (told.status, told.body) == (200, b"name=value&x=%26")
    assert relayed.scope["method"] == "POST"
    assert relayed.scope["query_string"] == b"next=%2Fui&x=1"
    for name, value in (("host", "faregate.test:4000"), ("cookie", "a=b; c=d"), ("authorization", "Bearer x"),
                        ("content-length", "16"), ("accept", "text/html")):  # fmt: skip
        assert relayed.header(name) == [value]
    assert relayed.header("x-twice") == ["1", "2"]
    assert relayed.header("te") == relayed.header("transfer-encoding") == []
    assert relayed.header("x-faregate-client") == ["10.0.0.7"], "who asks is ours to say"


async def test_of_repeated_headers_every_one_comes_back(relayed: Relayed) -> None:
    told = await relayed.ask("GET", "/cookies")
    assert [pair for pair in told.raw if pair[0] == b"set-cookie"] == COOKIES
    assert [value for name, value in told.raw if name == b"vary"] == [b"cookie", b"accept"]
    own = {b"date", b"server", b"content-length", b"transfer-encoding", b"connection"}
    assert not own & {name for name, _ in told.raw}, "those are the worker's server's"


@pytest.mark.parametrize("path", ["/a%2Fb", "/a%20b", "/a//b", "/a/../b", "/%C3%A9", "//x", "/a;b=c", "/a%00b"])
async def test_a_path_arrives_as_its_bytes_were_sent(relayed: Relayed, path: str) -> None:
    assert (await relayed.ask("GET", path)).status == 200
    assert relayed.scope["raw_path"].decode() == path


@pytest.mark.parametrize("path", [b"*", b"", b"@elsewhere/ui", b"%2Fui", b".elsewhere/"])
async def test_what_is_no_path_does_not_become_part_of_the_host(relayed: Relayed, path: bytes) -> None:
    told = await relayed.ask("OPTIONS", "*", raw_path=path)
    assert (told.status, told.error) == (404, "not_found")
    assert relayed.desk.asked == []


async def test_redirects_encodings_and_empty_answers_are_passed_on(relayed: Relayed) -> None:
    moved = await relayed.ask("GET", "/moved")
    assert (moved.status, moved.headers["location"]) == (303, "/ui?next=%2Fui")
    zipped = await relayed.ask("GET", "/unzipped")
    assert (zipped.headers["content-encoding"], zipped.body) == ("gzip", b"desk")
    nothing = await relayed.ask("GET", "/nothing")
    assert (nothing.status, nothing.body) == (204, b"")
    head = await relayed.ask("HEAD", "/ui")
    assert (head.status, head.body) == (200, b"")


async def test_a_body_that_stops_in_the_middle_is_not_passed_on_as_a_whole(relayed: Relayed) -> None:
    told = await relayed.ask("POST", "/ui/limits", body=(part(b"amount=10", True), LEAVES))
    assert told.sent == []
    assert relayed.desk.asked == []


async def test_a_body_that_is_too_large_is_refused(relayed: Relayed) -> None:
    told = await relayed.ask("POST", "/ui", body=(part(b"x" * 600, True), part(b"x" * 600)))
    assert (told.status, told.error) == (413, "request_too_large")
    assert relayed.desk.asked == []


async def test_a_reply_that_is_cut_is_not_passed_off_as_complete(relayed: Relayed) -> None:
    cut: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return dict(part(b""))

    async def send(message: Any) -> None:
        cut.append(message)

    scope = {"method": "GET", "path": "/cut", "headers": [], "query_string": b"", "client": None}
    with pytest.raises(Exception, match="ended the connection"):
        await relayed.relay(scope, receive, send)
    assert all(message.get("more_body", True) for message in cut)
    assert relayed.header("x-faregate-client") == [""]


async def test_a_desk_that_is_away_is_503_and_says_that_calls_go_on(tmp_path: Path) -> None:
    upstream = AiohttpUpstream()
    relay = DeskRelay(upstream, str(tmp_path / "nobody.sock"), PLAIN, 1000)
    served = Served(desk=relay)
    told = await served.ask("GET", "/ui")
    assert (told.status, told.error, told.headers["retry-after"]) == (503, "control_plane_unavailable", "2")
    assert "Model calls are served" in told.json["error"]["message"]
    assert str(tmp_path) not in told.body.decode()
    assert parse_id(CALL, told.headers["x-request-id"])
    assert (await served.chat()).status == 200
    await upstream.close()


async def test_a_desk_that_never_answers_is_given_up(tmp_path: Path) -> None:
    class Silent:
        """core.ports.Upstream that is asked and fails as after its time-out."""

        asked: UpstreamRequest | None = None

        async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
            self.asked = request
            raise UpstreamTimeout("desk did not finish within 30 s (total deadline).")

        async def close(self) -> None:
            return

    silent: Upstream = Silent()
    told = await ask(DeskRelay(silent, "x.sock", PLAIN, 1000), "GET", "/ui")
    assert (told.status, told.error) == (503, "control_plane_unavailable")
    assert silent.asked is not None  # type: ignore[attr-defined]
    assert silent.asked.endpoint.timeout_s == 30.0  # type: ignore[attr-defined]


async def test_through_two_real_servers_two_cookies_stay_two(tmp_path: Path) -> None:
    desk, upstream, path = Desk(), AiohttpUpstream(), tmp_path / "desk.sock"
    served = Served(desk=DeskRelay(upstream, str(path), PLAIN, 1000))
    async with serving(desk, path), serving(served.plane) as port:
        received = await send_raw(port, request("GET", "/cookies"))
        assert received.all("set-cookie") == [value.decode() for _, value in COOKIES]
        assert len(received.all("date")) == 1
        assert len(received.all("x-request-id")) == 1
        form = request("POST", "/ui/x?y=%2F", "content-type: text/plain", body=b"hello")
        assert (await send_raw(port, form)).body == b"hello"
        scope, _ = desk.asked[-1]
        assert (scope["raw_path"], scope["query_string"]) == (b"/ui/x", b"y=%2F")
        host = [value for name, value in scope["headers"] if name == b"host"]
        assert host == [b"faregate.test"]
        client = [value for name, value in scope["headers"] if name == b"x-faregate-client"]
        assert client == [b"127.0.0.1"]
        await upstream.close()
    await asyncio.sleep(0)
