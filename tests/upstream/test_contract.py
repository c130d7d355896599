"""What every upstream client promises, when all goes well: requests as given, replies as sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.core.upstream import Upstream
from gateway.upstream.discover import discover
from upstream.servers import HANG_S, Seen, Wire, chunked, free_port, ok, replying, serving

MEMBERS = discover()
LIMIT = 1024 * 1024


def test_aiohttp_is_found() -> None:
    assert "aiohttp" in MEMBERS


async def pieces(client: Upstream, seen: Seen) -> list[bytes]:
    reply = await client.send(seen.ask())
    return [piece async for piece in reply.chunks()]


# ---------------------------------------------------------------- what is sent, what is read


async def test_the_request_as_it_was_given(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        reply = await upstream.send(seen.ask(headers=(("x-request-id", "att_1"), ("content-type", "text/x"))))
        assert await reply.read(LIMIT) == b"{}"
    head, _, body = seen.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert body == b'{"model":"m"}'
    names = sorted(line.split(b":")[0].lower() for line in lines[1:])
    assert names == [b"accept-encoding", b"content-length", b"content-type", b"host", b"x-request-id"]
    assert b"identity" in head


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "PUT", "M-SEARCH"])
async def test_methods_paths_and_queries_go_unchanged(upstream: Upstream, method: str) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        url = f"http://127.0.0.1:{seen.port}/admin/v1/keys/a%2Fb?x=%20y&z=a+b&e="
        reply = await upstream.send(seen.ask(method=method, url=url, body=b"" if method == "GET" else b"{}"))
        assert await reply.read(LIMIT) == b"{}"
    assert seen.requests[0].startswith(f"{method} /admin/v1/keys/a%2Fb?x=%20y&z=a+b&e= HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("size", [256 * 1024, 5_000_000])
async def test_a_large_body_arrives_whole(upstream: Upstream, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    async with serving(replying(ok(b"{}"))) as seen:
        assert await (await upstream.send(seen.ask(body=body))).read(LIMIT) == b"{}"
    assert b"content-length: %d\r\n" % len(body) in seen.requests[0][:1000].lower()
    assert seen.requests[0].endswith(b"\r\n\r\n" + body)


async def test_an_empty_post_says_so(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        await (await upstream.send(seen.ask(body=b""))).read(LIMIT)
    assert b"content-length: 0" in seen.requests[0].lower()


async def test_the_callers_own_accept_encoding_wins(upstream: Upstream) -> None:
    async with serving(replying(ok(b"\x1f\x8bzip", b"content-encoding: gzip"))) as seen:
        reply = await upstream.send(seen.ask(headers=(("Accept-Encoding", "gzip"),)))
        assert await reply.read(LIMIT) == b"\x1f\x8bzip", "bodies are never decompressed"
        assert reply.headers["content-encoding"] == "gzip"
    assert seen.requests[0].lower().count(b"accept-encoding") == 1


async def test_headers_are_lower_case_and_the_last_wins(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}", b"X-One: a", b"x-one: b", b"X-Two: c"))) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, reply.headers["x-one"], reply.headers["x-two"]) == (200, "b", "c")
        await reply.read(LIMIT)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_an_error_status_is_a_reply(upstream: Upstream, status: int) -> None:
    async with serving(replying(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nno" % status)) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, await reply.read(LIMIT)) == (status, b"no")


async def test_a_redirect_is_not_followed(upstream: Upstream) -> None:
    async with serving(
        replying(b"HTTP/1.1 302 F\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    ) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:1/")
        assert await reply.read(LIMIT) == b""


async def test_cookies_are_not_kept(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}", b"set-cookie: a=b; path=/"))) as seen:
        for _ in range(2):
            await (await upstream.send(seen.ask())).read(LIMIT)
    assert b"cookie" not in seen.requests[1].lower()


async def test_nothing_is_taken_from_the_environment(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with serving(replying(ok(b"{}"))) as seen:
        assert await (await upstream.send(seen.ask())).read(LIMIT) == b"{}"


async def test_a_proxy_that_is_set_is_used(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as proxy:
        url = "http://provider.invalid/v1/x"
        reply = await upstream.send(proxy.ask(url=url, proxy=f"http://127.0.0.1:{proxy.port}"))
        assert await reply.read(LIMIT) == b"{}"
    assert proxy.requests[0].startswith(b"POST http://provider.invalid/v1/x HTTP/1.1")


async def test_204_and_no_body(upstream: Upstream) -> None:
    async with serving(replying(b"HTTP/1.1 204 No Content\r\n\r\n")) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, await reply.read(LIMIT)) == (204, b"")


async def test_an_early_hint_is_not_the_reply(upstream: Upstream) -> None:
    async with serving(replying(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok(b"{}"))) as seen:
        reply = await upstream.send(seen.ask())
        assert (reply.status, await reply.read(LIMIT)) == (200, b"{}")


async def test_chunked(upstream: Upstream) -> None:
    async with serving(replying(chunked(b"data: 1\n\n", b"data: 2\n\n"))) as seen:
        assert b"".join(await pieces(upstream, seen)) == b"data: 1\n\ndata: 2\n\n"


async def test_a_body_that_ends_with_the_connection(upstream: Upstream) -> None:
    async with serving(replying(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n", then_close=True)) as seen:
        assert b"".join(await pieces(upstream, seen)) == b"data: 1\n\n"


async def test_pieces_come_as_they_arrive(upstream: Upstream) -> None:
    more = asyncio.Event()

    async def two(wire: Wire) -> None:
        await wire.request()
        await wire.say(chunked(b"data: 1\n\n", end=False))
        await more.wait()
        await wire.say(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async with serving(two) as seen:
        reply = await upstream.send(seen.ask())
        chunks = reply.chunks()
        assert await asyncio.wait_for(anext(chunks), HANG_S) == b"data: 1\n\n"
        more.set()
        assert await anext(chunks) == b"data: 2\n\n"
        pending = asyncio.ensure_future(anext(chunks, None))
        assert await pending is None


async def test_connections_are_used_again_within_a_pool_only(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        for pool in ("a", "a", "b", "a"):
            await (await upstream.send(seen.ask(pool=pool))).read(LIMIT)
        assert seen.connections == 2
        for _ in range(2):
            await (await upstream.send(seen.ask(pool="c", keepalive_s=0.0))).read(LIMIT)
        assert seen.connections == 4


async def test_a_unix_socket(upstream: Upstream, tmp_path: Path) -> None:
    path = str(tmp_path / "desk.sock")
    async with serving(replying(ok(b"{}")), unix_socket=path) as seen:
        reply = await upstream.send(seen.ask(url="http://desk/admin/v1/keys?limit=1", method="GET", unix_socket=path))
        assert await reply.read(LIMIT) == b"{}"
    assert seen.requests[0].startswith(b"GET /admin/v1/keys?limit=1 HTTP/1.1")
