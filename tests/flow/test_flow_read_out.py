"""After the terminal event: the provider's connection is kept if its reply ends soon, and nobody waits for that."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from api.planes import JSON, Served, bearer
from api.servers import HANG_S, request, send_raw, serving

from flow.fakes import Scripted
from flow.laws import lawful
from flow.scripts import GOOD, LOST, stream, whole
from flow.virtual_time import play
from flow.world import World, chat
from gateway.api.exchange import Receive, Scope, Send
from gateway.upstream.aiohttp_client import AiohttpUpstream

ASKED = chat(stream=True)
ENDS = [
    pytest.param(stream(*GOOD), True, 0.0, id="at once"),
    pytest.param(stream(*GOOD, 0.1), True, 0.1, id="in a moment"),
    pytest.param(stream(*GOOD, 100.0), False, 0.25, id="never"),
    pytest.param(stream(*GOOD, LOST), True, 0.0, id="broken"),
    pytest.param(stream(*GOOD, *((b"x" * 1000,) * 100)), False, 0.0, id="with more than anyone asked for"),
]


@pytest.mark.parametrize(("script", "ended", "longer_s"), ENDS)
def test_how_long_the_end_of_a_reply_is_waited_for(script: Scripted, ended: bool, longer_s: float) -> None:
    async def called() -> None:
        loop = asyncio.get_running_loop()
        plain = World([stream(*GOOD)])
        began = loop.time()
        await plain.call(ASKED)
        usual_s = loop.time() - began
        world = World([script])
        began = loop.time()
        call = await world.call(ASKED)
        assert call.exchange.sent.endswith(b"data: [DONE]\n\n")
        assert loop.time() - began - usual_s == pytest.approx(longer_s, abs=0.01)
        assert world.upstream.replies[0].ended is ended
        assert world.settle.outcome == "ok"
        lawful(world)

    play(called())


class Provider:
    """An HTTP server whose last chunk comes in a packet of its own, and that knows how many connections it had."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.connections.add(scope["client"])
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for step in GOOD:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b""})


async def test_one_stream_after_the_other_goes_over_one_connection() -> None:
    provider, upstream = Provider(), AiohttpUpstream()
    async with serving(provider) as provider_port:
        world = World([whole()])
        policy = world.services.configuration.policy
        here = msgspec.structs.replace(
            policy.providers["cancels"], base_url=f"http://127.0.0.1:{provider_port}/v1", networks=("loopback",)
        )
        changed = msgspec.structs.replace(policy, providers={**policy.providers, "cancels": here})
        world.services.configuration.policy = changed  # type: ignore[misc]
        world.services = replace(world.services, upstream=upstream)
        served = Served(world)
        async with serving(served.plane) as port:
            key, kind = (f"{name}: {value}" for name, value in (bearer("app"), JSON))
            for _ in range(5):
                received = await send_raw(port, request("POST", "/v1/chat/completions", key, kind, body=ASKED))
                assert received.body.endswith(b"data: [DONE]\n\n")
                async with asyncio.timeout(HANG_S):
                    while served.plane.running:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
        await upstream.close()
    # One, unless a slow machine lets a reply's end come too late; without reading out it is one for each stream.
    assert len(provider.connections) < 5
