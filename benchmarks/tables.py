"""Pieces of the page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Section


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines, a blank one at the end."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def amount(value: float) -> str:
    """Milliseconds with as many digits as are worth reading."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def made(section: Section) -> list[str]:
    """When and how."""
    busy = " (busy)" if section["load"] > 0.7 else ""
    verified = f"; {section['calls']:,} calls, ledger {section['verified']}" if "verified" in section else ""
    return [f"{section['made']}, load average {section['load']}{busy}, {section['seconds']:g} s a load{verified}.", ""]


def note(*sections: Section) -> list[str]:
    """A warning when rows of one table are not of one run."""
    runs = {section["run"] for section in sections if section}
    if len(runs) < 2:
        return []
    return ["Rows of this table are **not of one run**: the ratios between them are rough.", ""]
