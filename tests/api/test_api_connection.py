"""Connections of our own protocol: half-closed and left ones, pipelined calls, old versions, and slow callers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from flow.scripts import GOOD, chunk, completion, stream, whole
from flow.world import KEY_TEXTS, World, chat

from api.planes import Served
from api.servers import HANG_S, request, serving
from gateway.api.bodies import BodyRoom
from gateway.api.http_exchange import HttpExchange
from gateway.core.call import AnswerHead
from gateway.core.errors import Overloaded

KEY = f"authorization: Bearer {KEY_TEXTS['app']}"
JSON = "content-type: application/json"
CHAT = "/v1/chat/completions"


def call(*headers: str, keep: bool = True, **body: object) -> bytes:
    raw = request("POST", CHAT, KEY, JSON, *headers, body=chat(**body))
    return raw.replace(b"connection: close\r\n", b"") if keep else raw


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(plane: Served, calls: int = 1) -> None:
    async with asyncio.timeout(HANG_S):
        while len(plane.world.metrics.ended) < calls:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_half_closed_caller_gets_its_whole_answer(streamed: bool) -> None:
    script = stream(*GOOD[:2], 0.4, *GOOD[2:]) if streamed else whole(0.4, completion())
    plane = Served(World([script]))
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(call(stream=streamed))
        writer.write_eof()
        raw = await asyncio.wait_for(reader.read(), HANG_S)
    assert raw.count(b"HTTP/1.1 200 OK\r\n") == 1
    head, _, body = raw.rpartition(b"HTTP/1.1 200 OK")[2].partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert body.endswith(b"0\r\n\r\n") if streamed else body == completion()
    assert plane.world.settle.outcome == "ok"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_caller_that_is_gone_is_told_from_one_that_waits(how: str, begun: bool) -> None:
    steps = (chunk("Hel"), 60.0) if begun else (60.0, chunk("Hel"))
    plane = Served(World([stream(*steps)]))
    async with serving(plane.plane) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(call(stream=True))
        if begun:
            await asyncio.wait_for(reader.readuntil(b"Hel"), HANG_S)
        else:
            async with asyncio.timeout(HANG_S):
                while not plane.world.upstream.requests:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        if how == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        await ended(plane)
    assert plane.world.settle.outcome == "client_gone"
    assert all(reply.aborted for reply in plane.world.upstream.replies)
    assert plane.world.engine.open_holds() == 0


async def test_a_probe_inside_a_stream_leaves_its_chunks_whole() -> None:
    plane = Served(World([stream(*GOOD[:2], 1.5, *GOOD[2:])]))
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(call(stream=True))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        writer.write_eof()
        sizes, body = [], b""
        while True:
            size = await asyncio.wait_for(reader.readline(), HANG_S)
            sizes.append(size.strip())
            length = int(size, 16)
            body += (await reader.readexactly(length + 2))[:-2]
            if not length:
                break
    assert any(size.startswith(b"00") for size in sizes), f"probes were sent: {sizes}"
    assert body.endswith(b"data: [DONE]\n\n")


async def test_pipelined_calls_are_answered_in_their_order() -> None:
    plane = Served(World([whole(0.1, completion("first")), whole(completion("second")), whole(completion("third"))]))
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(call() * 3)
        for text in (b"first", b"second", b"third"):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert text in await reader.readexactly(length)
    assert len(plane.world.metrics.ended) == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_old_caller_gets_no_chunks_and_the_end_is_the_end(streamed: bool) -> None:
    plane = Served(World([stream(*GOOD) if streamed else whole()]))
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(call(stream=streamed).replace(b"HTTP/1.1", b"HTTP/1.0"))
        raw = await asyncio.wait_for(reader.read(), HANG_S)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.endswith(b"[DONE]\n\n") if streamed else body == completion()


async def test_a_caller_that_asks_before_it_sends_is_told_to_go_on() -> None:
    plane = Served()
    whole_call = call("expect: 100-continue")
    head, _, body = whole_call.partition(b"\r\n\r\n")
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)).startswith(b"HTTP/1.1 200")


async def test_a_caller_that_asks_first_and_is_refused_is_not_asked_for_its_body() -> None:
    plane = Served()
    head = call("expect: 100-continue").partition(b"\r\n\r\n")[0].replace(KEY.encode() + b"\r\n", b"")
    async with serving(plane.plane) as port, connected(port) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), HANG_S)
    assert raw.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in raw


class Line:
    """A wire that only remembers what was written."""

    write_paused = False

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def writable(self) -> None:
        return

    def close(self) -> None:
        self.written += b"<closed>"

    def abort(self) -> None:
        self.written += b"<aborted>"

    def answered(self) -> None:
        self.written += b"<kept>"

    def date_line(self) -> bytes:
        return b"date: today\r\n"


def exchange(line: Line) -> HttpExchange:
    made = HttpExchange(line, [], 0, BodyRoom(100, 200), keep_alive=True, version_1_1=True, expects_continue=False)
    made.whole()
    return made


async def test_an_answer_is_one_write_with_its_head() -> None:
    line = Line()
    answer = exchange(line)
    await answer.start(AnswerHead(200, ((b"x-a", b"1"), (b"content-length", b"2"))))
    assert line.written == b""
    await answer.finish(b"ok")
    assert line.written == b"HTTP/1.1 200 OK\r\ndate: today\r\nx-a: 1\r\ncontent-length: 2\r\n\r\nok<kept>"


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nx: y", b"a\rb"])
async def test_a_header_cannot_split_an_answer(value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        await exchange(Line()).start(AnswerHead(200, ((b"x-a", value), (b"content-length", b"0"))))


async def test_more_bodies_than_a_worker_may_hold_are_refused_and_the_room_comes_back() -> None:
    room = BodyRoom(100, 150)
    exchanges = [
        HttpExchange(Line(), [], 0, room, keep_alive=True, version_1_1=True, expects_continue=False) for _ in range(3)
    ]
    for one in exchanges:
        one.headers = {"content-type": "application/json"}
        one.feed(b"x" * 60)
        one.whole()
    assert len(await exchanges[0].body()) == len(await exchanges[1].body()) == 60
    with pytest.raises(Overloaded):
        await exchanges[2].body()
    for one in exchanges:
        one.release()
    assert room.held_bytes == 0


async def test_a_call_gives_its_bodys_room_back_however_it_ends() -> None:
    plane = Served(World([whole(), stream(chunk("Hel"), 60.0)]))
    async with serving(plane.plane) as port:
        async with connected(port) as (reader, writer):
            writer.write(call())
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        async with connected(port) as (reader, writer):
            writer.write(call(stream=True))
            await asyncio.wait_for(reader.readuntil(b"Hel"), HANG_S)
            assert plane.plane.bodies.held_bytes > 0
        await ended(plane, 2)
        async with asyncio.timeout(HANG_S):
            while plane.plane.bodies.held_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
