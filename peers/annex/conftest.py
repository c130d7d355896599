"""One annex with the real litellm SDK, and the vendors it believes to talk to, for the whole run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from vendors import Vendors, annex, vendors


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    with vendors(tmp_path_factory.mktemp("vendors")) as running:
        yield running


@pytest.fixture(scope="session")
def served(world: Vendors) -> Iterator[Path]:
    """The annex's socket."""
    with annex(world) as path:
        yield path
