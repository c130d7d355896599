"""A small HTTP proxy: CONNECT tunnels, and requests in absolute form passed on."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from upstream.servers import Behaviour, Wire


def proxying(port: int, *, wants: bytes = b"") -> Behaviour:
    """Whatever a client asks for is on `port` of this machine. `wants` is the line that must be in a request."""

    async def behave(wire: Wire) -> None:
        head = await wire.reader.readuntil(b"\r\n\r\n")
        wire.seen.requests.append(head)
        if wants and wants not in head:
            await wire.say(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if head.startswith(b"CONNECT "):
            await wire.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            method, url, rest = head.split(b" ", 2)
            writer.write(b" ".join([method, urlsplit(url).path, rest]))
        ways = [asyncio.ensure_future(_pump(*way)) for way in ((wire.reader, writer), (reader, wire.writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()

    return behave


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
