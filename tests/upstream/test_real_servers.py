"""Servers that others wrote and this suite always has: uvicorn on both of its parsers, and aiohttp's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from aiohttp import web

from gateway.core.upstream import Upstream
from upstream.conversations import CONVERSATIONS, Peer
from upstream.peer_app import app
from upstream.servers import HANG_S


def listening() -> socket.socket:
    """Said to be TCP, without which asyncio lets small answers wait for each other."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    return listener


@asynccontextmanager
async def on_uvicorn(parser: str) -> AsyncIterator[int]:
    with listening() as listener:
        config = uvicorn.Config(app, http=parser, ws="none", lifespan="off", log_config=None, access_log=False)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, HANG_S)


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(int(request.query["n"])):
        await response.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.0002)
    return response


async def _big(request: web.Request) -> web.Response:
    return web.Response(body=b"x" * int(request.query["size"]))


async def _status(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query["code"]), body=b"refused")


async def _none(_: web.Request) -> web.Response:
    return web.Response(status=204)


@asynccontextmanager
async def on_aiohttp(_: str) -> AsyncIterator[int]:
    application = web.Application(client_max_size=64 * 1024 * 1024)
    for path, handler in (
        ("/echo", _echo),
        ("/stream", _stream),
        ("/big", _big),
        ("/status", _status),
        ("/none", _none),
    ):
        application.router.add_route("*", path, handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    with listening() as listener:
        await web.SockSite(runner, listener).start()
        try:
            yield listener.getsockname()[1]
        finally:
            await runner.cleanup()


SERVERS = {
    "uvicorn-httptools": (on_uvicorn, "httptools"),
    "uvicorn-h11": (on_uvicorn, "h11"),
    "aiohttp": (on_aiohttp, ""),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_a_real_server(upstream: Upstream, name: str) -> None:
    serve, detail = SERVERS[name]
    async with serve(detail) as port:
        for conversation in CONVERSATIONS:
            await conversation(Peer(upstream, f"http://127.0.0.1:{port}"))
        await upstream.close()
