"""Our clients against servers that others wrote: nginx in each of its ways to end a reply, Node, Granian."""

from __future__ import annotations

import asyncio

import pytest
from upstream.conversations import CONVERSATIONS, Conversation, Peer, a_stale_connection, streams

from gateway.core.errors import UpstreamLost
from gateway.core.upstream import Upstream

LIMIT = 1024 * 1024


def name_of(conversation: Conversation) -> str:
    return conversation.__name__


@pytest.mark.parametrize("conversation", [*CONVERSATIONS, a_stale_connection], ids=name_of)
async def test_node(upstream: Upstream, node: int, conversation: Conversation) -> None:
    await conversation(Peer(upstream, f"http://127.0.0.1:{node}"))


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=name_of)
async def test_granian(upstream: Upstream, granian: int, conversation: Conversation) -> None:
    await conversation(Peer(upstream, f"http://127.0.0.1:{granian}"))


WAYS = ["chunked", "buffered", "closing", "until_the_end", "old_backend"]


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=name_of)
@pytest.mark.parametrize("way", WAYS)
async def test_nginx(upstream: Upstream, nginx: int, way: str, conversation: Conversation) -> None:
    await conversation(Peer(upstream, f"http://127.0.0.1:{nginx}/{way}"))


async def test_nginx_closes_idle_connections(upstream: Upstream, nginx: int) -> None:
    await a_stale_connection(Peer(upstream, f"http://127.0.0.1:{nginx}/chunked"))


@pytest.mark.parametrize("way", WAYS)
async def test_many_streams_through_nginx_at_once(upstream: Upstream, nginx: int, way: str) -> None:
    peer = Peer(upstream, f"http://127.0.0.1:{nginx}/{way}")
    await asyncio.gather(*[streams(peer) for _ in range(30)])


async def test_nginx_refuses_a_large_body_before_it_was_read(upstream: Upstream, nginx: int) -> None:
    peer = Peer(upstream, f"http://127.0.0.1:{nginx}/small")
    for size in (2000, 20_000_000):
        for _ in range(3):
            status, body = await peer.whole("/echo", b"x" * size)
            assert status == 413
            assert b"413" in body
    assert await peer.whole("/echo", b"little") == (200, b"little")


async def test_nginx_answers_for_itself(upstream: Upstream, nginx: int) -> None:
    base = f"http://127.0.0.1:{nginx}"
    assert (await Peer(upstream, base).whole("/refused/", b"{}")) == (429, b'{"error":"slow down"}')
    reply = await Peer(upstream, base).ask("/away/")
    assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:1/")
    await reply.read(LIMIT)
    assert (await Peer(upstream, base).whole("/nowhere/"))[0] == 502
    assert (await Peer(upstream, base).whole("/none-such"))[0] == 404


@pytest.mark.parametrize("through", ["node", "nginx"])
async def test_a_reply_that_is_cut_is_not_a_short_one(upstream: Upstream, node: int, nginx: int, through: str) -> None:
    base = f"http://127.0.0.1:{node}" if through == "node" else f"http://127.0.0.1:{nginx}/cut"
    for _ in range(3):
        with pytest.raises(UpstreamLost):
            await Peer(upstream, base).whole("/cut")


async def test_node_sends_trailers_and_interim_replies(upstream: Upstream, node: int) -> None:
    peer = Peer(upstream, f"http://127.0.0.1:{node}")
    for _ in range(3):
        assert await peer.whole("/trailers") == (200, b"ok")
        assert await peer.whole("/hints") == (200, b"ok")
