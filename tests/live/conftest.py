"""One running server for all tests that do not hurt it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live.running import Running, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("live")) as live:
        live.new_key("app")
        live.new_key("boss", "--role", "admin")
        live.new_key("money", "--role", "finance")
        live.new_key("scrape", "--role", "metrics")
        yield live


@pytest.fixture(scope="session")
def app_key(server: Running) -> str:
    return server.keys["app"]
