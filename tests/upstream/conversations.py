"""What is asked of a real server, whoever wrote it. It has to serve these paths:

`/echo` answers with the body it got · `/stream?n=N` answers in N chunks, each `data: I` and an empty line, one by one ·
`/big?size=N` N times `x` · `/status?code=N` with that status and `refused` · `/none` answers 204.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.errors import AttemptFailed
from gateway.core.upstream import Endpoint, Upstream, UpstreamReply, UpstreamRequest

LIMIT = 64 * 1024 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Peer:
    """A server at `base_url`, asked by `client`."""

    client: Upstream
    base_url: str
    proxied: bool = False
    """Somebody between may answer on its own behalf."""

    async def ask(self, path: str, body: bytes = b"{}", method: str = "POST", **more: object) -> UpstreamReply:
        fields: dict[str, object] = {
            "pool": "peer",
            "url": self.base_url + path,
            "method": method,
            "networks": ("loopback",),
            "timeout_s": 30.0,
            "idle_timeout_s": 10.0,
        }
        endpoint = Endpoint(**(fields | more))  # type: ignore[arg-type]
        return await self.client.send(UpstreamRequest(endpoint, (("content-type", "application/json"),), body))

    async def whole(self, path: str, body: bytes = b"{}", method: str = "POST", **more: object) -> tuple[int, bytes]:
        reply = await self.ask(path, body, method, **more)
        return reply.status, await reply.read(LIMIT)


async def small_bodies(peer: Peer) -> None:
    for number in range(50):
        assert await peer.whole("/echo", b"%d" % number) == (200, b"%d" % number)


async def large_bodies(peer: Peer) -> None:
    for size in (0, 1, 65_535, 65_536, 65_537, 5 * MIB):
        body = (b"%07d," % size) * (size // 8)
        assert await peer.whole("/echo", body) == (200, body)


async def large_replies(peer: Peer) -> None:
    assert await peer.whole(f"/big?size={8 * MIB}", b"", "GET") == (200, b"x" * 8 * MIB)


async def a_reply_read_slowly(peer: Peer) -> None:
    reply = await peer.ask(f"/big?size={8 * MIB}", b"", "GET")
    size = 0
    async for piece in reply.chunks():
        size += len(piece)
        await asyncio.sleep(0.001)
    assert size == 8 * MIB


async def streams(peer: Peer) -> None:
    expected = b"".join(b"data: %d\n\n" % number for number in range(50))
    for _ in range(5):
        reply = await peer.ask("/stream?n=50")
        assert b"".join([piece async for piece in reply.chunks()]) == expected


async def pieces_before_the_end(peer: Peer) -> None:
    reply = await peer.ask("/stream?n=50")
    chunks = reply.chunks()
    assert (await anext(chunks)).startswith(b"data: 0\n\n")
    reply.abort()


async def statuses(peer: Peer) -> None:
    for status in (400, 401, 404, 429, 500, 503):
        assert await peer.whole(f"/status?code={status}") == (status, b"refused")


async def no_content(peer: Peer) -> None:
    for _ in range(3):
        assert await peer.whole("/none") == (204, b"")


async def heads(peer: Peer) -> None:
    for _ in range(3):
        reply = await peer.ask("/big?size=1000", b"", "HEAD")
        assert (reply.status, await reply.read(LIMIT)) == (200, b"")
        assert await peer.whole("/echo", b"after") == (200, b"after")


async def many_at_once(peer: Peer) -> None:
    bodies = [b"%d" % number * 100 for number in range(300)]
    told = await asyncio.gather(*[peer.whole("/echo", body, connections_max=20) for body in bodies])
    assert told == [(200, body) for body in bodies]


async def given_up_and_asked_again(peer: Peer) -> None:
    for turn in range(20):
        call = asyncio.ensure_future(peer.whole("/stream?n=50", connections_max=2))
        await asyncio.sleep(turn * 0.0014)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await peer.whole("/echo", b"%d" % turn, connections_max=2) == (200, b"%d" % turn)


async def a_stale_connection(peer: Peer) -> None:
    """Calls that come when the server may just be closing the idle connection: answered, or honestly unknown; never
    another's answer, never twice."""
    unknown = 0
    for turn in range(12):
        await asyncio.sleep(0.98 + turn * 0.004)
        try:
            assert await peer.whole("/echo", b"%d" % turn, pool="stale") == (200, b"%d" % turn)
        except AttemptFailed:
            unknown += 1
    assert unknown <= 2


Conversation = Callable[[Peer], Awaitable[None]]
CONVERSATIONS: tuple[Conversation, ...] = (
    small_bodies,
    large_bodies,
    large_replies,
    a_reply_read_slowly,
    streams,
    pieces_before_the_end,
    statuses,
    no_content,
    heads,
    many_at_once,
    given_up_and_asked_again,
)
