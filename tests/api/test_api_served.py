"""The data plane behind the real server, spoken to in raw bytes: what only a socket can do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from flow.scripts import GOOD, chunk, completion, stream, whole
from flow.world import KEY_TEXTS, World, chat

from api.planes import Served
from api.servers import HANG_S, request, send_raw, serving

KEY = f"authorization: Bearer {KEY_TEXTS['app']}"
JSON = "content-type: application/json"
CHAT = "/v1/chat/completions"


@pytest.fixture(params=[True, False], ids=["own protocol", "asgi"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Served, int]]:
    plane = Served(World([whole()]))
    async with serving(plane.plane, own=request.param) as port:
        yield plane, port


async def test_a_call_over_a_socket(served: tuple[Served, int]) -> None:
    plane, port = served
    received = await send_raw(port, request("POST", CHAT, KEY, JSON, body=chat()))
    assert (received.status, received.body) == (200, completion())
    assert len(received.all("x-request-id")) == 1
    assert received.all("server") == []
    assert plane.world.settle.outcome == "ok"


async def test_a_stream_over_a_socket() -> None:
    plane = Served(World([stream(*GOOD)]))
    async with serving(plane.plane) as port:
        received = await send_raw(port, request("POST", CHAT, KEY, JSON, body=chat(stream=True)))
    assert received.body.endswith(b"data: [DONE]\n\n")


TRICKS = [
    "//v1/chat/completions", "/v1/chat/completions/", "/V1/chat/completions", "/v1/chat/completions;x",
    "/v1/%63hat/completions/", "/v1/chat/completions%00", "/v1/chat/completions%0d%0ax:y",
    "/v1/x/../chat/completions", "/v1/chat/completions%2f", "http://evil.test/v1/chat/completions/",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
async def test_a_trick_path_reaches_no_call(served: tuple[Served, int], path: str) -> None:
    plane, port = served
    received = await send_raw(port, request("POST", path, KEY, JSON, body=chat()))
    assert received.status in (200, 404)
    assert received.body == b"desk" or b'"code":"not_found"' in received.body
    assert plane.world.events == []


async def test_an_encoded_spelling_of_a_path_is_that_path_with_its_permission(served: tuple[Served, int]) -> None:
    """ASGI decodes it once before anyone decides, so there is one path, one row and one permission."""
    _, port = served
    assert (await send_raw(port, request("POST", "/v1/%63hat/completions", KEY, JSON, body=chat()))).status == 200
    assert (await send_raw(port, request("GET", "/%6detrics", KEY))).status == 403
    assert (await send_raw(port, request("GET", "/%256detrics", KEY))).body == b"desk"


MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"GET /livez HTTP/9.9\r\nhost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nbad name: x\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
]


@pytest.mark.parametrize("raw", MALFORMED)
async def test_what_is_no_http_is_400_and_the_next_one_is_served(served: tuple[Served, int], raw: bytes) -> None:
    _, port = served
    assert (await send_raw(port, raw)).status == 400
    assert (await send_raw(port, request("GET", "/livez"))).status == 200


async def test_a_header_byte_that_looks_like_a_digit_is_no_fault(served: tuple[Served, int]) -> None:
    plane, port = served
    raw = request("POST", CHAT, KEY, JSON, "x-stainless-retry-count: \xb2", "x-faregate-user: Jos\xe9", body=chat())
    assert (await send_raw(port, raw)).status == 200
    assert plane.world.settle.user == "Jos\xe9"


async def test_two_keys_over_a_socket(served: tuple[Served, int]) -> None:
    _, port = served
    assert (await send_raw(port, request("POST", CHAT, KEY, KEY, JSON, body=chat()))).status == 200
    received = await send_raw(port, request("POST", CHAT, KEY, "authorization: Bearer x", JSON, body=chat()))
    assert received.status == 400


@pytest.mark.parametrize("headers", [(JSON, KEY), (JSON,)], ids=["413", "401"])
async def test_a_refusal_is_read_although_the_body_was_still_being_sent(
    served: tuple[Served, int], headers: tuple[str, ...]
) -> None:
    _, port = served
    received = await send_raw(port, request("POST", CHAT, *headers, body=b"x" * 3_000_000))
    assert received.status == (413 if KEY in headers else 401)
    assert "error" in json.loads(received.body)


async def test_one_connection_serves_call_after_call(served: tuple[Served, int]) -> None:
    plane, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = request("POST", CHAT, KEY, JSON, body=chat()).replace(b"connection: close\r\n", b"")
    for number in range(1, 4):
        writer.write(raw)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(completion())) == completion()
        assert len(plane.world.metrics.ended) == number
    writer.close()
    await writer.wait_closed()


async def test_a_socket_that_closes_ends_its_call_and_the_providers() -> None:
    plane = Served(World([stream(chunk("Hel"), 60.0)]))
    async with serving(plane.plane) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", CHAT, KEY, JSON, body=chat(stream=True)))
        await asyncio.wait_for(reader.readuntil(b"Hel"), HANG_S)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(HANG_S):
            while not plane.world.metrics.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert plane.world.settle.outcome == "client_gone"
    assert plane.world.upstream.replies[0].aborted


async def test_a_server_that_stops_settles_what_it_cuts_off() -> None:
    plane = Served(World([stream(chunk("Hel"), 60.0)]))
    async with serving(plane.plane) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST", CHAT, KEY, JSON, body=chat(stream=True)))
        await asyncio.wait_for(reader.readuntil(b"Hel"), HANG_S)
        for task in asyncio.all_tasks():
            if "serve_call" in repr(task):
                task.cancel()
        with pytest.raises(asyncio.IncompleteReadError):
            await asyncio.wait_for(reader.readuntil(b"never"), HANG_S)
        writer.close()
    assert (plane.world.settle.outcome, plane.world.settle.error_code) == ("error", "cancelled")
    assert plane.world.engine.open_holds() == 0
