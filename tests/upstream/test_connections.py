"""What every client does with its connections: how many, used again by whom, and given back whatever happens."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core.errors import AttemptFailed, UpstreamLost, UpstreamNotStarted
from gateway.core.upstream import Upstream, UpstreamRequest
from upstream.servers import HANG_S, Wire, chunked, ok, replying, serving

LIMIT = 1024 * 1024


async def held(wire: Wire) -> None:
    await wire.request()
    await wire.until_closed()


async def test_a_pool_has_a_limit_and_waiting_for_it_ends(upstream: Upstream) -> None:
    async with serving(held) as seen:
        running = [asyncio.ensure_future(upstream.send(seen.ask(connections_max=2))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamNotStarted, match="connect time-out") as caught:
            await upstream.send(seen.ask(connect_timeout_s=0.1, connections_max=2))
        assert caught.value.extra["timeout"] in ("connect", "pool")
        assert seen.connections == 2
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_all_calls_get_through_a_small_pool(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:

        async def call() -> bytes:
            return await (await upstream.send(seen.ask(connections_max=3))).read(LIMIT)

        assert await asyncio.gather(*[call() for _ in range(200)]) == [b"{}"] * 200
        assert seen.connections <= 3


async def test_a_connection_that_was_closed_while_idle_is_not_used(upstream: Upstream) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))

    async with serving(once) as seen:
        for _ in range(5):
            assert await (await upstream.send(seen.ask())).read(LIMIT) == b"{}"
            await asyncio.sleep(0.02)
        assert seen.connections == 5


async def test_an_idle_connection_is_closed_after_its_time(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        await (await upstream.send(seen.ask(keepalive_s=0.05))).read(LIMIT)
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
        await (await upstream.send(seen.ask(keepalive_s=0.05))).read(LIMIT)
        assert seen.connections == 2


@pytest.mark.parametrize("line", [b"connection: close", b"Connection: Keep-Alive, Close"])
async def test_a_server_that_wants_to_close_is_believed(upstream: Upstream, line: bytes) -> None:
    async with serving(replying(ok(b"{}", line))) as seen:
        for _ in range(3):
            await (await upstream.send(seen.ask())).read(LIMIT)
        assert seen.connections == 3


async def test_a_connection_is_free_when_the_body_has_come(upstream: Upstream) -> None:
    async with serving(replying(chunked(b"data: 1\n\n", b"data: 2\n\n"))) as seen:
        for _ in range(3):
            reply = await upstream.send(seen.ask())
            assert b"".join([piece async for piece in reply.chunks()]) == b"data: 1\n\ndata: 2\n\n"
            reply.abort()
        assert seen.connections == 1


async def test_sent_is_told_when_a_connection_is_had(upstream: Upstream) -> None:
    told: list[int] = []

    async with serving(held) as seen:
        asked = [seen.ask(connections_max=1, pool="sent") for _ in range(2)]
        first = asyncio.ensure_future(upstream.send(asked[0], lambda: told.append(1)))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(upstream.send(asked[1], lambda: told.append(2)))
        await asyncio.sleep(0.05)
        assert told == [1], "who waits for a connection has sent nothing"
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert told == [1]
        with pytest.raises(UpstreamNotStarted):
            await upstream.send(seen.ask(url="http://nowhere.invalid/"), lambda: told.append(3))
    assert told == [1]


async def test_an_endpoint_serves_many_requests(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        first = seen.ask(headers=(("x-own", "1"),))
        second = UpstreamRequest(first.endpoint, (("x-own", "2"), ("x-other", "\u00e9")), b"two")
        third = UpstreamRequest(first.endpoint, (("host", "elsewhere"), ("accept-encoding", "gzip")), b"three")
        bare = UpstreamRequest(first.endpoint)
        for request in (first, second, third, bare, first):
            assert await (await upstream.send(request)).read(LIMIT) == b"{}"
        with pytest.raises(UpstreamNotStarted):
            await upstream.send(UpstreamRequest(first.endpoint, (("x-own", "3\r\nx-evil: 1"),), b""))
        for name in ("content-length", "Transfer-Encoding", "x evil", "x:evil", ""):
            with pytest.raises(UpstreamNotStarted):
                await upstream.send(UpstreamRequest(first.endpoint, ((name, "1"),), b""))
    heads = [request.partition(b"\r\n\r\n")[0].lower() for request in seen.requests]
    assert [head.count(b"\r\nx-own: ") for head in heads] == [1, 1, 0, 0, 1]
    assert [head.count(b"\r\nhost: ") for head in heads] == [1] * 5
    assert [head.count(b"\r\naccept-encoding: ") for head in heads] == [1] * 5
    assert b"\r\nhost: elsewhere" in heads[2]
    assert b"\r\naccept-encoding: gzip" in heads[2]
    assert b"\r\ncontent-length: 0" in heads[3]
    assert heads[0] == heads[4]


async def test_head_has_no_body_and_leaves_the_connection(upstream: Upstream) -> None:
    async with serving(replying(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")) as seen:
        for _ in range(2):
            reply = await upstream.send(seen.ask(method="HEAD", body=b""))
            assert (reply.headers["content-length"], await reply.read(LIMIT)) == ("1000", b"")
        assert seen.connections == 1
    assert seen.requests[0].startswith(b"HEAD /v1/chat/completions HTTP/1.1\r\n")
    assert b"content-length" not in seen.requests[0].lower()


async def test_raw_headers_are_all_of_them_in_their_order(upstream: Upstream) -> None:
    async with serving(replying(ok(b"{}", b"Set-Cookie: a", b"X-One:  b ", b"set-cookie: c"))) as seen:
        reply = await upstream.send(seen.ask())
        assert list(reply.raw_headers) == [
            (b"content-length", b"2"),
            (b"content-type", b"application/json"),
            (b"set-cookie", b"a"),
            (b"x-one", b"b"),
            (b"set-cookie", b"c"),
        ]
        await reply.read(LIMIT)


async def test_a_storm_of_cancels_leaves_all_connections_usable(upstream: Upstream) -> None:
    """F38: given up at any moment: waiting, connecting, writing, waiting for the head, reading."""
    chance = random.Random(7)

    async def erratic(wire: Wire) -> None:
        while await wire.request():
            await asyncio.sleep(chance.random() * 0.004)
            kind = chance.randrange(4)
            await wire.say([ok(b"{}"), chunked(b"a" * 70_000, b"b"), ok(b"c" * 300_000), chunked(end=False)][kind])
            if kind == 3:
                await wire.until_closed()

    async with serving(erratic) as seen:

        async def call() -> None:
            reply = await upstream.send(seen.ask(connections_max=4, body=b"x" * chance.choice([2, 200_000])))
            async for _ in reply.chunks():
                await asyncio.sleep(0)

        for _ in range(40):
            calls = [asyncio.ensure_future(call()) for _ in range(25)]
            for given_up in chance.sample(calls, 25):
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.random() * 0.001)
                given_up.cancel()
            told = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), HANG_S)
            assert {type(error) for error in told} <= {asyncio.CancelledError, type(None), UpstreamLost}
    async with serving(replying(ok(b"{}"))) as calm:

        async def last() -> bytes:
            return await (await upstream.send(calm.ask(connections_max=4))).read(LIMIT)

        assert await asyncio.gather(*[last() for _ in range(20)]) == [b"{}"] * 20


WHOLE = [ok(b'{"a":1}', b"x-a: b"), chunked(b"data: 1\n\n", b"data: 2\n\n")]


@pytest.mark.parametrize("reply", WHOLE, ids=["length", "chunked"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_ended_at_every_byte_it_is_never_taken_for_whole(upstream: Upstream, reply: bytes, reset: bool) -> None:
    """F16, on real sockets."""

    async def ending(wire: Wire) -> None:
        request = await wire.request()
        place = int(request.partition(b"\r\n\r\n")[2] or b"0")
        await wire.say(reply[:place])
        await asyncio.sleep(0)
        if reset:
            wire.reset()

    async with serving(ending) as seen:

        async def call(place: int) -> None:
            with pytest.raises(AttemptFailed) as caught:
                await (await upstream.send(seen.ask(body=b"%d" % place, keepalive_s=0.0))).read(LIMIT)
            assert isinstance(caught.value, UpstreamLost), place

        for start in range(0, len(reply), 20):
            await asyncio.gather(*[call(place) for place in range(start, min(start + 20, len(reply)))])


@pytest.mark.parametrize("reply", WHOLE, ids=["length", "chunked"])
async def test_a_reply_that_drips_in_is_read(upstream: Upstream, reply: bytes) -> None:
    async def dripping(wire: Wire) -> None:
        await wire.request()
        for index in range(len(reply)):
            await wire.say(reply[index : index + 1])
            await asyncio.sleep(0.0005)
        await wire.until_closed()

    async with serving(dripping) as seen:
        assert len(await (await upstream.send(seen.ask())).read(LIMIT)) in (7, 18)


async def test_an_early_reply_is_delivered_and_ends_the_connection(upstream: Upstream) -> None:
    """A provider that refuses a body it has not read: what is left of it must not become the next request."""

    async def refusing(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await wire.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        await asyncio.sleep(0.05)
        await wire.until_closed()

    async with serving(refusing) as seen:
        for _ in range(2):
            reply = await upstream.send(seen.ask(body=b"x" * 20_000_000))
            assert (reply.status, await reply.read(LIMIT)) == (413, b"large")
            await asyncio.wait_for(seen.closed.wait(), HANG_S)
            seen.closed.clear()
        assert seen.connections == 2
