"""The paths of what is shared with other runs, and the table at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for shared in (ROOT / "tests", ROOT / "peers/providers"):
    sys.path.insert(0, str(shared))

TABLE = pytest.StashKey[list[tuple[str, str, str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--group", default="", help="only clients of this environment")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []
    config.addinivalue_line("markers", "group(name): the environment that a test needs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--group")
    if wanted:
        kept = [item for item in items if group_of(item) == wanted]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def group_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("group")
    if marker:
        return str(marker.args[0])
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["client"].group)


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[tuple[str, str, str, str]]:
    """Rows of the table: client, versions, what it did, how that ended."""
    return request.config.stash[TABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[TABLE]
    if not rows:
        return
    head = ("client", "versions", "did", "result")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(4)]
    terminalreporter.section("clients through Faregate")
    for row in [head, *rows]:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
