"""Who waits for a connection of our own client gets one in the order of coming, also when one dies on its way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.upstream.connection import Connection
from gateway.upstream.httptools_client import HttptoolsUpstream
from gateway.upstream.pool import Pool
from upstream.servers import Seen, Wire, ok, replying, serving

LIMIT = 1024


@pytest.fixture
async def client() -> AsyncIterator[HttptoolsUpstream]:
    made = HttptoolsUpstream()
    yield made
    await made.close()


def inside(client: HttptoolsUpstream) -> tuple[Pool, Connection]:
    """The one pool and its one connection."""
    (pool,) = client._pools.values()
    (connection,) = pool._connections
    return pool, connection


async def numbered(client: HttptoolsUpstream, seen: Seen, number: int) -> bytes:
    return await (await client.send(seen.ask(connections_max=1, body=b"%d" % number))).read(LIMIT)


async def in_line(client: HttptoolsUpstream, seen: Seen, count: int) -> list[asyncio.Future[bytes]]:
    """Calls that have come one after the other; the first has the connection."""
    calls = []
    for number in range(count):
        calls.append(asyncio.ensure_future(numbered(client, seen, number)))
        await asyncio.sleep(0.02 if number == 0 else 0)
    return calls


def bodies(seen: Seen) -> list[bytes]:
    return [request.partition(b"\r\n\r\n")[2] for request in seen.requests]


async def test_those_who_wait_are_served_in_their_order(client: HttptoolsUpstream) -> None:
    async def slowly(wire: Wire) -> None:
        while await wire.request():
            await asyncio.sleep(0.002)
            await wire.say(ok(b"{}"))

    async with serving(slowly) as seen:
        assert await asyncio.gather(*await in_line(client, seen, 20)) == [b"{}"] * 20
        assert bodies(seen) == [b"%d" % number for number in range(20)]
        assert seen.connections == 1


async def only_the_first_is_silent(wire: Wire) -> None:
    if wire.seen.connections == 1:
        await wire.request()
        await wire.until_closed()
    while await wire.request():
        await wire.say(ok(b"{}"))


async def test_a_connection_that_dies_on_the_way_is_no_failed_call(client: HttptoolsUpstream) -> None:
    """The first call's reply comes, its connection is given to the second, and the provider closes it at once."""
    async with serving(only_the_first_is_silent) as seen:
        first, second = await in_line(client, seen, 2)
        _, connection = inside(client)
        connection.data_received(ok(b"first"))
        connection.eof_received()
        assert (await first, await second) == (b"first", b"{}")
        assert (seen.connections, client.counts()[0].open) == (2, 1)


async def test_who_lost_his_turn_that_way_is_the_next(client: HttptoolsUpstream) -> None:
    async with serving(only_the_first_is_silent) as seen:
        calls = await in_line(client, seen, 4)
        _, connection = inside(client)
        connection.data_received(ok(b"first"))  # to the second call
        connection.eof_received()  # its slot to the third
        assert await asyncio.gather(*calls) == [b"first", b"{}", b"{}", b"{}"]
        assert bodies(seen) == [b"0", b"2", b"1", b"3"]


async def test_what_was_given_to_a_cancelled_call_goes_to_the_next(client: HttptoolsUpstream) -> None:
    async with serving(only_the_first_is_silent) as seen:
        first, second, third = await in_line(client, seen, 3)
        _, connection = inside(client)
        connection.data_received(ok(b"first"))
        second.cancel()
        assert await first == b"first"
        with pytest.raises(asyncio.CancelledError):
            await second
        assert client.counts()[0].waiting == 0
        await asyncio.sleep(0.01)
        connection.data_received(ok(b"third"))
        assert await third == b"third"
        assert seen.connections == 1


async def test_a_connection_past_its_time_is_not_taken(client: HttptoolsUpstream) -> None:
    """Not even when the sweep is late."""
    async with serving(replying(ok(b"{}"))) as seen:
        await (await client.send(seen.ask(keepalive_s=5.0))).read(LIMIT)
        pool, connection = inside(client)
        assert pool.take(connection.touched + 5.0) is None
        assert client.counts()[0].open == 0


async def test_small_requests_do_not_wait_for_each_other(client: HttptoolsUpstream) -> None:
    async with serving(replying(ok(b"{}"))) as seen:
        await (await client.send(seen.ask())).read(LIMIT)
        _, connection = inside(client)
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
