"""The table at the end: every recording, whether it passes, whether it translates, and why not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

Row = tuple[str, int, str, str, str]
TABLE = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = sorted(config.stash[TABLE])
    if not rows:
        return
    terminalreporter.section("recordings of others")
    write = terminalreporter.write_line
    write(f"{'recording':<72} {'events':>6}  passes  translates  request  why not")
    for name, events, passes, translates, why in rows:
        request, _, reason = why.partition("|")
        write(f"{name:<72} {events:>6}  {passes:<6}  {translates:<10}  {request:<7}  {reason}")
    write(f"{len(rows)} recordings, {sum(row[1] for row in rows)} events")
