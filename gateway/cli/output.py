"""What commands print: aligned tables for people, JSON and CSV for machines. Nothing printed can steer a terminal."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_SPREADSHEET_STARTS = ("=", "+", "-", "@", "\t", "\r")
_STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
DASH = "–"


def plain(value: object) -> str:
    """Text without control and direction characters: names come from others, and a terminal obeys escape codes."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in _STEERING else char for char in text)


def print_json(document: object) -> None:
    """In ASCII: a terminal obeys some characters beyond it, too."""
    print(json.dumps(document, indent=2))


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """RFC 4180 with `\\n`. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    print(buffer.getvalue(), end="")


def _cell(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = plain("" if value is None else value)
    return f"'{text}" if text.startswith(_SPREADSHEET_STARTS) else text


def print_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """`columns` maps a title to how it stands: `l`, `r`, or `.` (numbers aligned at their decimal point)."""
    if not rows:
        print(empty)
        return
    titles = list(columns)
    cells = [[plain(row[title]) for title in titles] for row in rows]
    for at, title in enumerate(titles):
        if columns[title] == ".":
            _align_points(cells, at)
    widths = [max(_width(title), *(_width(row[at]) for row in cells)) for at, title in enumerate(titles)]
    for row in [titles, *cells]:
        fields = [_padded(text, widths[at], columns[titles[at]]) for at, text in enumerate(row)]
        print("  ".join(fields).rstrip())


def _align_points(cells: list[list[str]], at: int) -> None:
    decimals = max((len(row[at].partition(".")[2]) for row in cells), default=0)
    for row in cells:
        whole, point, rest = row[at].partition(".")
        tail = f".{rest.ljust(decimals)}" if point else " " * (decimals + 1 if decimals else 0)
        row[at] = whole + tail


def _padded(text: str, width: int, how: str) -> str:
    gap = " " * (width - _width(text))
    return text + gap if how == "l" else gap + text


def _width(text: str) -> int:
    """Columns in a terminal: wide East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def print_facts(facts: Mapping[str, object]) -> None:
    """`name  value` lines; an empty value is a dash."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {plain(value) if value not in ('', None) else DASH}")


def complain(message: str) -> None:
    """An error, to stderr, line by line."""
    lines = message.split("\n")
    print(f"faregate: {plain(lines[0])}", file=sys.stderr)
    for line in lines[1:]:
        print(f"  {plain(line)}", file=sys.stderr)


def note(message: str) -> None:
    """Something beside the result, to stderr, so that a pipe gets the result only."""
    print(plain(message), file=sys.stderr)
