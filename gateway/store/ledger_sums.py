"""What rollups are made of. Pure: no SQL, no clock.

Which record contributes what is decided here and nowhere else: SETTLE counts the call (errors, refusals, duration), a
posting counts the attempt, its tokens and its money where it is priced, so a retry's cost is there. Both are keyed by
the hour in which the call began, a posting under the dimensions of its HOLD.

A closed month takes nothing more: what comes for a call of it counts when it was posted, its money as prior period.

The same goes to the sums by the day of the values that callers choose, as the row's `summed_by` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from gateway.core.charge import CostState
from gateway.store.ledger_rows import HOUR_MS, Row
from gateway.store.ledger_tables import ROLLUP_VALUE
from gateway.store.ledger_values import day_of, read_summed_by

Closed = Mapping[str, int]
"""The end of the last month that an org has closed, ms UTC."""
NONE_CLOSED: Closed = {}
ERROR_OUTCOMES = frozenset({"error", "truncated", "crashed"})
REFUSED = "refused"
UNKNOWN_MODEL_CODE = "model_not_found"
"""Such a call's model is whatever the caller wrote: its rollup has no model, or callers would decide its size."""


class Dimensions(NamedTuple):
    """A rollup's key, in the order of its primary key: rows are written sorted, so that writers never deadlock."""

    org: str
    hour_ms: int
    team: str
    key_id: str
    model: str
    provider: str
    deployment: str
    endpoint: str


class Whose(NamedTuple):
    """Where an attempt's postings count."""

    dimensions: Dimensions
    summed_by: str | None = None


class ValueDimensions(NamedTuple):
    """The key of a sum by value, in the order of its primary key."""

    org: str
    dimension: str
    day_ms: int
    team: str
    value: str
    key_id: str
    model: str


class Sums:
    """Rollup amounts to add, by dimensions and by values. `closed` says up to when months are closed."""

    FIELDS = (
        "calls",
        "errors",
        "refused",
        "unpriced_calls",
        "duration_us",
        "attempts",
        "input_tokens",
        "output_tokens",
        "list_nusd",
        "effective_nusd",
        "estimated_nusd",
        "margin_nusd",
        "prior_list_nusd",
        "prior_effective_nusd",
        "prior_margin_nusd",
    )

    def __init__(self, closed: Closed = NONE_CLOSED) -> None:
        self._closed = closed
        self._sums: dict[Dimensions, list[int]] = {}
        self._by_value: dict[ValueDimensions, list[int]] = {}
        self._places: dict[tuple[Dimensions, str | None], list[list[int]]] = {}

    def place_call(self, row: Row) -> None:
        """Decides, before the row is written, when a call counts: its `counted_ms`."""
        closed_ms = self._closed.get(row["org"], 0)
        if row["started_ms"] < closed_ms:
            row["counted_ms"] = max(row["ended_ms"], closed_ms)

    def place_posting(self, row: Row, whose: Whose) -> None:
        """The same of a posting. What gives an old call its price leaves the old month's count as it was."""
        closed_ms = self._closed.get(whose.dimensions.org, 0)
        if whose.dimensions.hour_ms < closed_ms:
            row["counted_ms"] = max(row["posted_ms"], closed_ms)
            row["priced_calls"] = None

    def add_call(self, row: Row) -> None:
        for sums in self._where(_when(call_dimensions(row), row["counted_ms"]), row["summed_by"]):
            outcome = row["outcome"]
            sums[0] += 1
            sums[1] += outcome in ERROR_OUTCOMES
            sums[2] += outcome == REFUSED
            sums[3] += row["cost_state"] == CostState.UNPRICED
            sums[4] += max(row["duration_us"], 0)

    def add_posting(self, row: Row, whose: Whose) -> None:
        counted_ms = row.get("counted_ms")
        listed, effective = row["list_nusd"], row["effective_nusd"]
        billed = row.get("billed_nusd")
        for sums in self._where(_when(whose.dimensions, counted_ms), whose.summed_by):
            sums[3] -= row.get("priced_calls") or 0
            sums[5] += row["kind"] == "attempt"
            sums[6] += row["input_tokens"]
            sums[7] += row["output_tokens"]
            if listed is None or effective is None:
                continue  # unpriced: counted with its call, never added as 0 or in part
            margin = 0 if billed is None else billed - effective
            if counted_ms is not None:
                sums[12] += listed
                sums[13] += effective
                sums[14] += margin
                continue
            sums[8] += listed
            sums[9] += effective
            sums[11] += margin
            if row["state"] == CostState.ESTIMATED:
                sums[10] += effective

    def rows(self) -> list[Row]:
        return [
            {**dimensions._asdict(), **dict(zip(self.FIELDS, sums, strict=True))}
            for dimensions, sums in sorted(self._sums.items())
        ]

    def value_rows(self) -> list[tuple[Any, ...]]:
        """In the order of the table's columns."""
        return [(*dimensions, *_VALUE_FIGURES(sums)) for dimensions, sums in sorted(self._by_value.items())]

    def _where(self, dimensions: Dimensions, summed_by: str | None) -> list[list[int]]:
        """Every sum that something of these dimensions is added to; a call's records mostly ask for the same."""
        found = self._places.get((dimensions, summed_by))
        if found is None:
            nothing = len(self.FIELDS)
            found = [self._sums.setdefault(dimensions, [0] * nothing)]
            if summed_by:
                org, hour_ms, team, key_id, model = dimensions[:5]
                day_ms = day_of(hour_ms)
                for dimension, value in read_summed_by(summed_by).items():
                    key = ValueDimensions(org, dimension, day_ms, team, value, key_id, model)
                    found.append(self._by_value.setdefault(key, [0] * nothing))
            self._places[dimensions, summed_by] = found
        return found


VALUE_FIGURES = tuple(column.name for column in ROLLUP_VALUE.columns if not column.primary_key)
_VALUE_FIGURES = itemgetter(*(Sums.FIELDS.index(word) for word in VALUE_FIGURES))


def hour_of(time_ms: int) -> int:
    return time_ms - time_ms % HOUR_MS


def call_dimensions(row: Row) -> Dimensions:
    """Where a settled call is counted."""
    return Dimensions(
        row["org"],
        hour_of(row["started_ms"]),
        row["team"],
        row["key_id"],
        "" if row["error_code"] == UNKNOWN_MODEL_CODE else row["model_asked"],
        row["provider"],
        row["deployment"],
        row["endpoint"],
    )


def whose(row: Mapping[str, Any]) -> Whose:
    """Where an attempt's postings are counted, from its HOLD."""
    dimensions = Dimensions(
        row["org"],
        hour_of(row["started_ms"]),
        row["team"],
        row["key_id"],
        row["model_asked"],
        row["provider"],
        row["deployment"],
        row["endpoint"],
    )
    return Whose(dimensions, row["summed_by"])


def _when(dimensions: Dimensions, counted_ms: int | None) -> Dimensions:
    return dimensions if counted_ms is None else dimensions._replace(hour_ms=hour_of(counted_ms))
