"""What every upstream client promises when things go wrong: refused, cut, silent, lying, given up."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from gateway.core.errors import (
    AttemptFailed,
    UpstreamInvalidReply,
    UpstreamLost,
    UpstreamNotStarted,
    UpstreamTimeout,
)
from gateway.core.upstream import Upstream
from upstream.servers import HANG_S, Seen, Wire, chunked, free_port, ok, replying, serving

LIMIT = 1024 * 1024
CLOSED_WITHIN_S = 0.25


async def drain(client: Upstream, seen: Seen, **more: object) -> None:
    reply = await client.send(seen.ask(**more))
    async for _ in reply.chunks():
        pass


# ---------------------------------------------------------------- nothing was sent


async def not_started(client: Upstream, seen: Seen, **more: object) -> str:
    with pytest.raises(UpstreamNotStarted) as caught:
        await client.send(seen.ask(**more))
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


async def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fillers: list[socket.socket] = []
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
            await drain(upstream, seen, idle_timeout_s=0.1)
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
    async with serving(dripping) as seen:
        with pytest.raises(UpstreamTimeout, match="total deadline"):
            await drain(upstream, seen, timeout_s=0.2, idle_timeout_s=0.1)


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


async def test_a_server_that_speaks_first_is_no_http(upstream: Upstream) -> None:
    async def speaking(wire: Wire) -> None:
        await wire.say(b"SSH-2.0-OpenSSH_9.6\r\n")
        await wire.until_closed()

    async with serving(speaking) as seen:
        with pytest.raises(AttemptFailed):
            await upstream.send(seen.ask())
        await asyncio.wait_for(seen.closed.wait(), HANG_S)


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
