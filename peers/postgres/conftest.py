"""One PostgreSQL with one PgBouncer in front of it, and one of the distribution's, for the whole run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from live.database import Database, postgres
from servers import Bouncer, Distribution, bouncer, distribution_server


@pytest.fixture(scope="session")
def server() -> Iterator[Database]:
    with postgres() as database:
        yield database


@pytest.fixture(scope="session")
def pooled(server: Database) -> Iterator[Bouncer]:
    with bouncer(server) as running:
        yield running


@pytest.fixture(scope="session")
def debian() -> Iterator[Distribution]:
    with distribution_server() as made:
        yield made
