"""Every client of the room, one after the other, on the event loop of production and on the library's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from gateway.core.upstream import Upstream
from gateway.upstream.discover import discover

MEMBERS = discover()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Transports of the two differ where it matters here: when a socket is closed, when writing pauses, in TLS."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    client: Upstream = request.param.create()
    yield client
    await client.close()
