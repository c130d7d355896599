"""What every upstream client promises, against servers that refuse, stall, cut, reset and lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import (
    AttemptFailed,
    UpstreamInvalidReply,
    UpstreamLost,
    UpstreamNotStarted,
    UpstreamTimeout,
)
from gateway.core.ports import Upstream
from gateway.upstream.discover import discover
from upstream.servers import HANG_S, Wire, chunked, free_port, ok, replying, serving

MEMBERS = discover()
LIMIT = 1024 * 1024
CLOSED_WITHIN_S = 0.25


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    client: Upstream = request.param.create()
    yield client
    await client.close()


def test_aiohttp_is_found() -> None:
    assert "aiohttp" in MEMBERS


async def pieces(client: Upstream, seen: object, **more: object) -> list[bytes]:
    reply = await client.send(seen.ask(**more))  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "PUT"])
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


# ---------------------------------------------------------------- nothing was sent


async def not_started(client: Upstream, seen: object, **more: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(seen.ask(**more))  # type: ignore[attr-defined]
    assert "sk-secret" not in caught.value.message
    return caught.value.message


async def test_refused(upstream: Upstream) -> None:
    async with serving(replying(b"")) as seen:
        message = await not_started(upstream, seen, url=f"http://127.0.0.1:{free_port()}/?key=sk-secret")
    assert "cannot be connected to" in message
    assert "127.0.0.1" in message


async def test_a_name_that_does_not_resolve(upstream: Upstream) -> None:
    async with serving(replying(b"")) as seen:
        assert "cannot be resolved" in await not_started(upstream, seen, url="http://nowhere.invalid/v1")


async def test_no_tls_where_tls_is_asked(upstream: Upstream) -> None:
    async def plain(wire: Wire) -> None:
        await wire.reader.read(1)
        await wire.say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with serving(plain) as seen:
        assert "TLS" in await not_started(upstream, seen, url=f"https://127.0.0.1:{seen.port}/")


async def test_a_unix_socket_that_is_not_there(upstream: Upstream, tmp_path: Path) -> None:
    async with serving(replying(b"")) as seen:
        path = str(tmp_path / "none.sock")
        assert "none.sock" in await not_started(upstream, seen, url="http://desk/", unix_socket=path)


async def test_a_ca_bundle_that_is_not_there(upstream: Upstream) -> None:
    async with serving(replying(b"")) as seen:
        assert "ca_bundle /none.pem" in await not_started(upstream, seen, ca_bundle="/none.pem")


@pytest.mark.parametrize("url", ["", "ftp://x/y", "http://", "not a url", "http://[::1"])
async def test_a_base_url_that_is_none(upstream: Upstream, url: str) -> None:
    async with serving(replying(b"")) as seen:
        await not_started(upstream, seen, url=url)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\x00b"])
async def test_a_header_cannot_be_split(upstream: Upstream, value: str) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        await not_started(upstream, seen, headers=(("x-one", value),))
        assert seen.requests == []


async def test_a_connection_that_never_comes_about(upstream: Upstream) -> None:
    """A full backlog: the kernel answers no SYN. Nothing can have been sent, so it costs nothing."""
    began = time.monotonic()
    async with serving(replying(b"")) as seen:
        server, fillers = await full_backlog()
        try:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            message = await not_started(upstream, seen, url=url, connect_timeout_s=0.2)
        finally:
            for filler in [*fillers, server]:
                filler.close()
    assert "connect time-out" in message
    assert time.monotonic() - began < HANG_S


async def full_backlog() -> tuple[object, list[object]]:
    import socket

    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fillers: list[object] = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
        fillers.append(filler)
    await asyncio.sleep(0.05)
    return server, fillers


async def test_after_close_nothing_is_opened(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        await upstream.close()
        assert "shutting down" in await not_started(upstream, seen)


# ---------------------------------------------------------------- it may have been read


async def test_closed_without_a_reply(upstream: Upstream) -> None:
    async with serving(replying(b"", then_close=True)) as seen:
        with pytest.raises(UpstreamLost):
            await upstream.send(seen.ask())
        assert seen.connections == 1, "a POST is never sent twice"


async def test_a_stale_connection_loses_a_post_and_does_not_repeat_it(upstream: Upstream) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))
        await wire.request()

    async with serving(once) as seen:
        await (await upstream.send(seen.ask())).read(LIMIT)
        with pytest.raises(UpstreamLost):
            await upstream.send(seen.ask())
        assert (seen.connections, len(seen.requests)) == (1, 2)


async def test_reset_before_the_reply(upstream: Upstream) -> None:
    async def reset(wire: Wire) -> None:
        await wire.request()
        wire.reset()

    async with serving(reset) as seen:
        with pytest.raises(UpstreamLost):
            await upstream.send(seen.ask())


HALF = {
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "half a body": ok(b"{}" * 100)[:-50],
    "half a chunk": chunked(b"data: 1\n\n", end=False) + b"20\r\ndata",
    "no last chunk": chunked(b"data: 1\n\n", end=False),
}


@pytest.mark.parametrize("data", HALF.values(), ids=HALF.keys())
@pytest.mark.parametrize("reset", [False, True])
async def test_cut_in_the_middle(upstream: Upstream, data: bytes, reset: bool) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.say(data)
        await asyncio.sleep(0.05)
        if reset:
            wire.reset()

    async with serving(half) as seen:
        with pytest.raises(UpstreamLost):
            await (await upstream.send(seen.ask())).read(LIMIT)


# ---------------------------------------------------------------- time-outs


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.until_closed()


async def silent_after_the_head(wire: Wire) -> None:
    await wire.request()
    await wire.say(chunked(b"data: 1\n\n", end=False))
    await wire.until_closed()


async def dripping(wire: Wire) -> None:
    await wire.request()
    await wire.say(chunked(end=False))
    while not wire.writer.is_closing():
        await wire.say(b"1\r\nx\r\n")
        await asyncio.sleep(0.02)


async def test_idle_and_deadline_are_told_apart(upstream: Upstream) -> None:
    async with serving(silent) as seen:
        with pytest.raises(UpstreamTimeout, match="idle") as idle:
            await upstream.send(seen.ask(idle_timeout_s=0.1))
        assert idle.value.extra == {"timeout": "idle"}
        with pytest.raises(UpstreamTimeout, match="total deadline"):
            await upstream.send(seen.ask(timeout_s=0.1))
    async with serving(silent_after_the_head) as seen:
        with pytest.raises(UpstreamTimeout, match="idle"):
            await pieces(upstream, seen, idle_timeout_s=0.1)
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
    async with serving(dripping) as seen:
        with pytest.raises(UpstreamTimeout, match="total deadline"):
            await pieces(upstream, seen, timeout_s=0.2, idle_timeout_s=0.1)


# ---------------------------------------------------------------- replies that are none, or too much


NO_HTTP = {
    "garbage": b"garbage\r\n\r\n",
    "another version": b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    "a bad length": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}",
    "a split header": b"HTTP/1.1 200 OK\r\nx-a: b\rset-cookie: c=d\r\ncontent-length: 0\r\n\r\n",
    "a long header": b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 1_000_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 100_000 + b"content-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http(upstream: Upstream, data: bytes) -> None:
    async with serving(replying(data, then_close=True)) as seen:
        with pytest.raises((UpstreamInvalidReply, UpstreamLost)):
            await (await upstream.send(seen.ask())).read(LIMIT)


async def test_a_body_over_the_limit(upstream: Upstream) -> None:
    async with serving(replying(ok(b"a" * 1001))) as seen:
        with pytest.raises(UpstreamInvalidReply, match="larger than 1000"):
            await (await upstream.send(seen.ask())).read(1000)
        assert len(await (await upstream.send(seen.ask())).read(1001)) == 1001


async def test_a_declared_10_gigabytes_is_not_waited_for(upstream: Upstream) -> None:
    async def huge(wire: Wire) -> None:
        await wire.request()
        await wire.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        await wire.until_closed()

    async with serving(huge) as seen:
        with pytest.raises(UpstreamInvalidReply):
            await (await upstream.send(seen.ask())).read(LIMIT)
        await asyncio.wait_for(seen.closed.wait(), CLOSED_WITHIN_S)


async def test_an_endless_body(upstream: Upstream) -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.say(chunked(end=False))
        while not wire.writer.is_closing():
            await wire.say(b"10000\r\n" + b"a" * 65536 + b"\r\n")

    async with serving(endless) as seen:
        with pytest.raises(UpstreamInvalidReply):
            await (await upstream.send(seen.ask())).read(LIMIT)


# ---------------------------------------------------------------- giving up


async def test_abort_closes_the_connection(upstream: Upstream) -> None:
    async with serving(silent_after_the_head) as seen:
        reply = await upstream.send(seen.ask())
        assert await anext(reply.chunks()) == b"data: 1\n\n"
        reply.abort()
        await asyncio.wait_for(seen.closed.wait(), CLOSED_WITHIN_S)
        reply.abort()


async def test_abort_wakes_a_reader(upstream: Upstream) -> None:
    async with serving(silent_after_the_head) as seen:
        reply = await upstream.send(seen.ask())
        chunks = reply.chunks()
        await anext(chunks)
        asyncio.get_running_loop().call_later(0.02, reply.abort)
        with pytest.raises(AttemptFailed):
            await asyncio.wait_for(anext(chunks), HANG_S)


async def test_abort_after_the_end_keeps_the_connection(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        for _ in range(2):
            reply = await upstream.send(seen.ask())
            await reply.read(LIMIT)
            reply.abort()
        assert seen.connections == 1


@pytest.mark.parametrize("body", [b"{}", b"a" * 20_000_000], ids=["small", "unsent"])
async def test_a_cancelled_send_closes_its_connection(upstream: Upstream, body: bytes) -> None:
    reached = asyncio.Event()

    async def never(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        reached.set()
        await wire.until_closed()

    async with serving(never) as seen:
        sending = asyncio.ensure_future(upstream.send(seen.ask(body=body)))
        await asyncio.wait_for(reached.wait(), HANG_S)
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(seen.closed.wait(), CLOSED_WITHIN_S)


async def test_a_cancelled_read_closes_its_connection(upstream: Upstream) -> None:
    async with serving(silent_after_the_head) as seen:
        reply = await upstream.send(seen.ask())
        reading = asyncio.ensure_future(reply.read(LIMIT))
        await asyncio.sleep(0.02)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(seen.closed.wait(), CLOSED_WITHIN_S)


async def test_no_connection_is_lost_to_cancelled_calls(upstream: Upstream) -> None:
    """F38: slots of calls that were given up while connecting, waiting or reading are free again."""
    async with serving(silent_after_the_head) as seen:
        for _ in range(30):
            replies = [asyncio.ensure_future(upstream.send(seen.ask())) for _ in range(10)]
            await asyncio.sleep(0)
            for reply in replies:
                reply.cancel()
            await asyncio.gather(*replies, return_exceptions=True)
    async with serving(replying(ok(b"{}"))) as seen:
        replies = await asyncio.gather(*[upstream.send(seen.ask()) for _ in range(50)])
        assert [await reply.read(LIMIT) for reply in replies] == [b"{}"] * 50
