"""One simulator for the tests of this folder; each sets it back to instant answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from simulator.live import Live, running


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("simulator")) as live:
        yield live


@pytest.fixture
async def live(process: Live) -> AsyncIterator[Live]:
    plain = {"latency_ms": 0, "ttft_ms": 0, "tokens": None, "token_interval_ms": 0, "fault": "", "gate": "open"}
    await process.control(**plain)
    yield process
    await process.control(**plain)
