"""Neither side is written to faster than it reads, and time is measured from the last byte that moved."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import UpstreamTimeout
from gateway.upstream.httptools_client import HttptoolsUpstream
from gateway.upstream.reply import BUFFERED_BYTES_MAX
from upstream.servers import HANG_S, Wire, chunked, ok, replying, serving

LIMIT = 100 * 1024 * 1024
MIB = 1024 * 1024
IN_THE_KERNEL_BYTES = 12 * MIB
"""What two sockets of one machine may hold between them."""


@pytest.fixture
async def client() -> AsyncIterator[HttptoolsUpstream]:
    made = HttptoolsUpstream()
    yield made
    await made.close()


@pytest.mark.parametrize("framed", ["length", "chunked", "to the end"])
async def test_a_reader_that_does_not_read_stops_the_provider(client: HttptoolsUpstream, framed: str) -> None:
    total, sent = 64 * MIB, 0
    heads = {
        "length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total,
        "chunked": chunked(end=False),
        "to the end": b"HTTP/1.1 200 OK\r\n\r\n",
    }

    async def pouring(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.say(heads[framed])
        for _ in range(total // MIB):
            piece = bytes(MIB)
            await wire.say(b"%x\r\n%b\r\n" % (MIB, piece) if framed == "chunked" else piece)
            sent += MIB
        if framed == "chunked":
            await wire.say(b"0\r\n\r\n")
        wire.writer.close()
        await wire.writer.wait_closed()

    async with serving(pouring) as seen:
        reply = await client.send(seen.ask())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent <= IN_THE_KERNEL_BYTES + BUFFERED_BYTES_MAX, "it has to wait for its reader"
        got, largest = 0, 0
        async for piece in reply.chunks():
            got += len(piece)
            largest = max(largest, len(piece))
        assert got == total
        assert largest <= 2 * BUFFERED_BYTES_MAX + MIB


async def test_who_reads_all_of_it_is_not_slowed_down(client: HttptoolsUpstream) -> None:
    async with serving(replying(ok(bytes(20 * MIB)))) as seen:
        for _ in range(2):
            assert await (await client.send(seen.ask())).read(LIMIT) == bytes(20 * MIB)
        assert seen.connections == 1


async def test_a_paused_reply_that_is_read_late_is_whole(client: HttptoolsUpstream) -> None:
    """The idle time-out is about the provider's silence, not about ours."""
    body = bytes(range(256)) * 16 * 1024
    async with serving(replying(ok(body))) as seen:
        reply = await client.send(seen.ask(idle_timeout_s=0.2))
        await asyncio.sleep(0.5)
        assert b"".join([piece async for piece in reply.chunks()]) == body
        assert await (await client.send(seen.ask())).read(LIMIT) == body
        assert seen.connections == 1


async def test_the_deadline_counts_while_nobody_reads(client: HttptoolsUpstream) -> None:
    async def pouring(wire: Wire) -> None:
        await wire.request()
        try:
            await wire.say(ok(bytes(20 * MIB)))
        except ConnectionError:
            wire.seen.closed.set()

    async with serving(pouring) as seen:
        reply = await client.send(seen.ask(timeout_s=0.2))
        await asyncio.wait_for(seen.closed.wait(), HANG_S)
        with pytest.raises(UpstreamTimeout, match="total deadline"):
            await reply.read(LIMIT)


async def test_a_large_body_is_not_held_twice(client: HttptoolsUpstream) -> None:
    body = bytes(20 * MIB)
    reading = asyncio.Event()

    async def late(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await reading.wait()
        left = len(body)
        while left:
            left -= len(await wire.reader.read(65536))
        await wire.say(ok(b"{}"))
        await wire.until_closed()

    async with serving(late) as seen:
        tracemalloc.start()
        sending = asyncio.ensure_future(client.send(seen.ask(body=body)))
        await asyncio.sleep(0.1)
        reading.set()
        assert await (await sending).read(LIMIT) == b"{}"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * MIB


async def test_a_provider_that_stops_reading_is_idle(client: HttptoolsUpstream) -> None:
    async def full(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(HANG_S)

    async with serving(full) as seen:
        with pytest.raises(UpstreamTimeout, match="idle"):
            await client.send(seen.ask(body=bytes(50 * MIB), idle_timeout_s=0.2))


async def test_a_provider_that_reads_slowly_is_not_idle(client: HttptoolsUpstream) -> None:
    size = 30 * MIB

    async def slow(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await wire.reader.read(MIB))
            await asyncio.sleep(0.01)
        await wire.say(ok(b"{}"))

    async with serving(slow) as seen:
        asked = seen.ask(body=bytes(size), idle_timeout_s=0.5, timeout_s=60.0)
        assert await (await client.send(asked)).read(LIMIT) == b"{}"


async def test_a_shorter_time_out_holds_on_a_used_connection(client: HttptoolsUpstream) -> None:
    """One timer serves all calls of a connection; it has to be brought forward for a call with less patience."""

    async def then_silent(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))
        await wire.request()
        await wire.until_closed()

    for more in ({"idle_timeout_s": 0.1}, {"timeout_s": 0.1}):
        async with serving(then_silent) as seen:
            await (await client.send(seen.ask(idle_timeout_s=60.0, timeout_s=600.0))).read(LIMIT)
            began = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await client.send(seen.ask(**more))
            took_s = time.monotonic() - began
            assert 0.09 <= took_s < HANG_S, "not before its time"
            assert seen.connections == 1


async def test_a_longer_time_out_holds_on_a_used_connection(client: HttptoolsUpstream) -> None:
    async def then_slow(wire: Wire) -> None:
        await wire.request()
        await wire.say(ok(b"{}"))
        await wire.request()
        await asyncio.sleep(0.3)
        await wire.say(ok(b"late"))

    async with serving(then_slow) as seen:
        await (await client.send(seen.ask(idle_timeout_s=0.1, timeout_s=0.1))).read(LIMIT)
        assert await (await client.send(seen.ask())).read(LIMIT) == b"late"
        assert seen.connections == 1


async def test_comments_keep_a_stream_alive_and_silence_ends_it(client: HttptoolsUpstream) -> None:
    """F17 on the transport: any byte is a sign of life."""

    async def commenting(wire: Wire) -> None:
        await wire.request()
        await wire.say(chunked(end=False))
        for _ in range(10):
            await wire.say(b"e\r\n: keep-alive\n\n\r\n")
            await asyncio.sleep(0.05)
        await wire.until_closed()

    async with serving(commenting) as seen:
        reply = await client.send(seen.ask(idle_timeout_s=0.25))
        chunks, got = reply.chunks(), b""
        while len(got) < 140:
            got += await anext(chunks)
        assert got == b": keep-alive\n\n" * 10
        with pytest.raises(UpstreamTimeout, match="idle"):
            await anext(chunks)
        await asyncio.wait_for(seen.closed.wait(), 0.25)
