"""What an attempt costs after all of its postings: sums over them, and the lines that were not taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, literal_column, select

from gateway.core.charge import CostState, Line
from gateway.core.limits import Take
from gateway.ledger.rerate import net_takes
from gateway.store.ledger_rows import unpacked_takes

Stored = Mapping[str, Any]
"""A row of SQL. Of a schema one revision back it lacks what that has no column for."""


def all_of(table: Table, *conditions: ColumnElement[bool]) -> Select[Any]:
    """All columns there are: the schema may be one revision behind."""
    return select(literal_column("*")).select_from(table).where(*conditions)


class InForce(msgspec.Struct, frozen=True):
    """`state` and `source` are the latest posting's, amounts the sums of all (None: unpriced). `revision` 0: never
    corrected."""

    revision: int
    state: str
    source: str
    list_nusd: int | None
    effective_nusd: int | None
    billed_nusd: int | None
    takes: tuple[Take, ...]


def in_force(postings: Sequence[Stored]) -> InForce:
    """Of one attempt's postings, at least one."""
    ordered = sorted(postings, key=lambda row: int(row["revision"]))
    last = ordered[-1]
    listed = effective = billed = None
    if last["state"] != CostState.UNPRICED:
        priced = [row for row in ordered if row["effective_nusd"] is not None and row["list_nusd"] is not None]
        listed = sum(row["list_nusd"] for row in priced)
        effective = sum(row["effective_nusd"] for row in priced)
        billed = sum(billed_of(row) for row in priced)
    takes = net_takes(take for row in ordered for take in unpacked_takes(row.get("takes")))
    return InForce(int(last["revision"]), last["state"], last["source"], listed, effective, billed, takes)


def billed_of(row: Stored) -> int:
    """The billed amount of a posting with a price."""
    own = row.get("billed_nusd")
    return int(row["effective_nusd"] if own is None else own)


def line_of(row: Stored) -> Line:
    """A line as its record had it."""
    return Line(
        row["meter"],
        row["quantity"],
        row["rate_pico"],
        row["per"],
        row["list_nusd"],
        row["effective_nusd"],
        row["row_id"],
        row.get("billed_nusd"),
        row.get("uplift_ppm") or 0,
        row.get("part") or "",
        row.get("currency") or "",
        row.get("native_nano"),
    )


def lines_by_revision(rows: Iterable[Stored]) -> dict[int, tuple[Line, ...]]:
    """One attempt's lines by the revision of their posting, each posting's in its order."""
    found: dict[int, list[Line]] = {}
    for row in sorted(rows, key=lambda one: (int(one["revision"]), int(one["line_no"]))):
        found.setdefault(int(row["revision"]), []).append(line_of(row))
    return {revision: tuple(lines) for revision, lines in found.items()}


def standing_lines(lines: Mapping[int, tuple[Line, ...]], revision: int) -> tuple[Line, ...]:
    """Those in force. Each posting begins by taking back what was in force before it, line by line: a quantity of 0
    looks the same when it is taken back."""
    standing: tuple[Line, ...] = ()
    for number in range(revision + 1):
        standing = lines.get(number, ())[len(standing) :]
    return standing
