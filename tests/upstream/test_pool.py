"""The slots of our own client: counted at every moment, freed whatever becomes of a call."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import UpstreamLost, UpstreamNotStarted
from gateway.upstream.httptools_client import POOLS_MAX, PREPARED_MAX, HttptoolsUpstream
from gateway.upstream.pool import PEEK_AFTER_S
from upstream.certificates import Authority
from upstream.proxies import proxying
from upstream.servers import HANG_S, Seen, Wire, chunked, ok, replying, serving

LIMIT = 10 * 1024 * 1024


@pytest.fixture
async def client() -> AsyncIterator[HttptoolsUpstream]:
    made = HttptoolsUpstream()
    yield made
    await made.close()
    assert made.counts() == ()


def slots(client: HttptoolsUpstream) -> tuple[int, int, int]:
    """Open, idle and waiting, in all pools."""
    counts = client.counts()
    return sum(one.open for one in counts), sum(one.idle for one in counts), sum(one.waiting for one in counts)


async def silent_after_a_piece(wire: Wire) -> None:
    await wire.request()
    await wire.say(chunked(b"data: 1\n\n", end=False))
    await wire.until_closed()


async def held(wire: Wire) -> None:
    await wire.request()
    await wire.until_closed()


async def settled(client: HttptoolsUpstream) -> tuple[int, int, int]:
    """When what was given up has been closed."""
    for _ in range(5):
        await asyncio.sleep(0.001)
    return slots(client)


async def test_counts_say_what_is_open(client: HttptoolsUpstream) -> None:
    assert client.counts() == ()
    async with serving(held) as busy, serving(replying(ok(b"{}"))) as seen:
        calls = [asyncio.ensure_future(client.send(busy.ask(pool="busy", connections_max=2))) for _ in range(5)]
        await (await client.send(seen.ask(pool="calm"))).read(LIMIT)
        await asyncio.sleep(0.02)
        by_pool = {counts.pool: counts for counts in client.counts()}
        assert (by_pool["busy"].open, by_pool["busy"].idle, by_pool["busy"].waiting) == (2, 0, 3)
        assert (by_pool["calm"].open, by_pool["calm"].idle, by_pool["calm"].waiting) == (1, 1, 0)
        assert by_pool["calm"].where == f"calm (127.0.0.1:{seen.port})"
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert slots(client) == (1, 1, 0)


async def steps(client: HttptoolsUpstream, seen: Seen, taken: set[str], **more: object) -> None:
    """One call, cancelled after each possible number of turns of the loop until one gets through."""
    for turns in range(10_000):
        call = asyncio.ensure_future(whole(client, seen, **more))
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.done():
            assert await call == b"{}" * 1000
            break
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        taken.add("cancelled")
        open_now, idle, waiting = slots(client)
        assert waiting == 0
        assert open_now == idle, "a call that is given up holds nothing"
    assert await whole(client, seen, **more) == b"{}" * 1000


async def whole(client: HttptoolsUpstream, seen: Seen, **more: object) -> bytes:
    return await (await client.send(seen.ask(connections_max=1, **more))).read(LIMIT)


async def test_cancelled_at_every_turn_of_the_loop(client: HttptoolsUpstream) -> None:
    taken: set[str] = set()
    async with serving(replying(chunked(b"{}" * 1000))) as seen:
        await steps(client, seen, taken)
        await steps(client, seen, taken, keepalive_s=0.0)
    assert taken == {"cancelled"}
    assert await settled(client) == (1, 1, 0) or await settled(client) == (0, 0, 0)


async def test_cancelled_at_every_turn_of_a_handshake(client: HttptoolsUpstream, tmp_path: Path) -> None:
    taken: set[str] = set()
    authority = Authority(tmp_path)
    tls = authority.server("localhost")
    async with serving(replying(ok(b"{}" * 1000)), tls=tls) as seen, serving(proxying(seen.port)) as proxy:
        url = f"https://localhost:{seen.port}/"
        await steps(client, seen, taken, url=url, ca_bundle=authority.ca_bundle, keepalive_s=0.0)
        through = f"http://127.0.0.1:{proxy.port}"
        await steps(client, seen, taken, url=url, ca_bundle=authority.ca_bundle, keepalive_s=0.0, proxy=through)
    assert taken == {"cancelled"}
    assert (await settled(client))[0] == 0


async def test_thousands_of_random_cancels_leak_no_slot(client: HttptoolsUpstream) -> None:
    """F38. Whatever a call is doing when it is given up: when all is quiet no slot is taken and none is missing."""
    chance = random.Random(11)

    async def erratic(wire: Wire) -> None:
        while await wire.request():
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.002)
            kind = chance.randrange(6)
            replies = [ok(b"{}"), ok(b"{}"), chunked(b"a" * 70_000, b"b"), ok(b"c" * 600_000), chunked(end=False), b""]
            if kind == 5 and chance.random() < 0.5:
                wire.reset()
                return
            await wire.say(replies[kind])
            if kind >= 4:
                await wire.until_closed()

    async with serving(erratic) as seen:

        async def call() -> None:
            reply = await client.send(seen.ask(connections_max=5, body=b"x" * chance.choice([2, 2, 300_000])))
            if chance.random() < 0.3:
                return  # dropped without being read
            async for _ in reply.chunks():
                if chance.random() < 0.1:
                    reply.abort()

        for _ in range(150):
            calls = [asyncio.ensure_future(call()) for _ in range(20)]
            for given_up in chance.sample(calls, 20):
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
                given_up.cancel()
            told = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), HANG_S)
            assert {type(one) for one in told} <= {asyncio.CancelledError, type(None), UpstreamLost}
            open_now, _, waiting = slots(client)
            assert open_now <= 5
            assert waiting == 0
        open_now, idle, waiting = await settled(client)
        assert (open_now - idle, waiting) == (0, 0)


async def test_a_reply_that_is_dropped_closes_its_connection(client: HttptoolsUpstream) -> None:
    async with serving(silent_after_a_piece) as seen:
        reply = await client.send(seen.ask())
        chunks = reply.chunks()
        del reply
        assert await anext(chunks) == b"data: 1\n\n", "who reads its chunks still holds it"
        assert slots(client) == (1, 0, 0)
        del chunks
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
        assert slots(client) == (0, 0, 0)


async def test_a_reply_in_a_circle_is_closed_by_the_collector(client: HttptoolsUpstream) -> None:
    asyncio.get_running_loop().set_debug(True)  # then a call from a wrong thread is an error
    async with serving(silent_after_a_piece) as seen:
        circle: list[object] = [await client.send(seen.ask())]
        circle.append(circle)
        await asyncio.sleep(0)  # the future that brought it is held until then
        gc.disable()
        try:
            del circle
            await asyncio.to_thread(gc.collect)  # it may run in any thread
        finally:
            gc.enable()
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
        assert slots(client) == (0, 0, 0)


async def test_a_coroutine_that_is_thrown_away_holds_nothing(client: HttptoolsUpstream) -> None:
    """Not cancelled but closed, as at the end of an event loop."""

    async def then_held(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))
        await held(wire)

    async with serving(then_held) as seen:
        await (await client.send(seen.ask(connections_max=1))).read(LIMIT)
        running = client.send(seen.ask(connections_max=1))
        running.send(None)
        waiting = client.send(seen.ask(connections_max=1))
        waiting.send(None)
        assert slots(client) == (1, 0, 1)
        waiting.close()
        assert slots(client) == (1, 0, 0)
        running.close()
        assert slots(client) == (0, 0, 0)


async def test_idle_connections_are_swept(client: HttptoolsUpstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        replies = await asyncio.gather(*[client.send(seen.ask(keepalive_s=0.1)) for _ in range(8)])
        assert [await reply.read(LIMIT) for reply in replies] == [b"{}"] * 8
        assert slots(client) == (8, 8, 0)
        await asyncio.sleep(0.07)
        await (await client.send(seen.ask(keepalive_s=0.1))).read(LIMIT)
        await asyncio.sleep(0.07)
        assert slots(client) == (1, 1, 0), "the one that was used again is younger"
        await asyncio.sleep(0.15)
        assert slots(client) == (0, 0, 0)


async def test_the_last_used_connection_is_the_next(client: HttptoolsUpstream) -> None:
    numbers: list[int] = []

    async def numbered(wire: Wire) -> None:
        number = wire.seen.connections
        while await wire.request():
            numbers.append(number)
            await asyncio.sleep(0.01 if len(numbers) <= 3 else 0)
            await wire.say(ok(b"{}"))

    async with serving(numbered) as seen:
        await asyncio.gather(*[whole_of(client, seen) for _ in range(3)])
        for _ in range(5):
            await whole_of(client, seen)
    assert len(set(numbers[3:])) == 1


async def whole_of(client: HttptoolsUpstream, seen: Seen) -> bytes:
    return await (await client.send(seen.ask())).read(LIMIT)


async def test_an_idle_connection_that_speaks_is_closed(client: HttptoolsUpstream) -> None:
    async def speaking(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))
        await asyncio.sleep(0.02)
        await wire.say(ok(b"not yours"))
        await wire.until_closed()

    async with serving(speaking) as seen:
        for _ in range(2):
            assert await whole_of(client, seen) == b"{}"
            await asyncio.wait_for(seen.closed.wait(), HANG_S)
            seen.closed.clear()
            assert slots(client) == (0, 0, 0)


async def test_a_goodbye_that_was_not_read_yet_is_seen(client: HttptoolsUpstream) -> None:
    """The stale keep-alive race: the provider has closed, the event loop was busy, and a call comes first."""
    closing, closed = threading.Event(), threading.Event()

    def once(listening: socket.socket) -> None:
        for again in (False, True):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ok(b"{}"))
                if not again:
                    closing.wait(HANG_S)
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANG_S)
        server = threading.Thread(target=once, args=(listening,))
        server.start()
        seen = Seen(port=listening.getsockname()[1])
        assert await whole_of(client, seen) == b"{}"
        await asyncio.sleep(PEEK_AFTER_S + 0.05)
        closing.set()
        closed.wait(HANG_S)  # the event loop stands still meanwhile
        assert await whole_of(client, seen) == b"{}"
        server.join()


async def test_closing_ends_everything(client: HttptoolsUpstream) -> None:
    async with serving(silent_after_a_piece) as seen, serving(held) as silent:
        reply = await client.send(seen.ask())
        waiting_for_a_head = asyncio.ensure_future(client.send(silent.ask(connections_max=1)))
        await asyncio.sleep(0.02)
        waiting_for_a_slot = asyncio.ensure_future(client.send(silent.ask(connections_max=1)))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(UpstreamLost, match="shutting down"):
            await reply.read(LIMIT)
        with pytest.raises(UpstreamLost, match="shutting down"):
            await waiting_for_a_head
        with pytest.raises(UpstreamNotStarted, match="shutting down"):
            await waiting_for_a_slot
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
        await asyncio.wait_for(silent.closed.wait(), HANG_S)


async def test_closing_while_a_connection_is_made(client: HttptoolsUpstream) -> None:
    resolving = asyncio.Event()

    async def slowly(host: str) -> list[str]:
        await resolving.wait()
        return ["127.0.0.1"]

    slow = HttptoolsUpstream(slowly)
    async with serving(replying(ok(b"{}"))) as seen:
        connecting = asyncio.ensure_future(slow.send(seen.ask(url=f"http://slow.test:{seen.port}/")))
        await asyncio.sleep(0.01)
        await slow.close()
        resolving.set()
        with pytest.raises(UpstreamNotStarted, match="shutting down"):
            await connecting
        assert seen.requests == []


async def test_endpoints_made_for_one_call_do_not_pile_up(client: HttptoolsUpstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        for number in range(PREPARED_MAX + 50):
            await (await client.send(seen.ask(url=f"{seen.url}?n={number}"))).read(LIMIT)
        assert (seen.connections, len(client.counts())) == (1, 1)
    assert len(client._prepared) == PREPARED_MAX


async def test_a_way_to_connect_that_is_used_no_more_is_forgotten(client: HttptoolsUpstream) -> None:
    async with serving(held) as seen:
        running = asyncio.ensure_future(client.send(seen.ask(pool="running")))
        await asyncio.sleep(0.02)
        for number in range(POOLS_MAX + 10):
            with pytest.raises(UpstreamNotStarted):
                await client.send(seen.ask(pool=f"p{number}", networks=()))
        names = {counts.pool for counts in client.counts()}
        assert "running" in names
        assert len(names) < 20
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("told", [ValueError, KeyError])
async def test_who_is_told_may_refuse(client: HttptoolsUpstream, told: type[Exception]) -> None:
    def refusing() -> None:
        raise told

    async with serving(replying(ok(b"{}"))) as seen:
        with pytest.raises(told):
            await client.send(seen.ask(), refusing)
        assert slots(client) == (1, 1, 0)
        assert seen.requests == []
        assert await whole_of(client, seen) == b"{}"
