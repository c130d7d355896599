"""Every client of the room, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.core.upstream import Upstream
from gateway.upstream.discover import discover

MEMBERS = discover()


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    client: Upstream = request.param.create()
    yield client
    await client.close()
