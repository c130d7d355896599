"""A posting as a value, made from its record or from its rows, so that the two can be compared member by member."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.charge import CostState, Line
from gateway.core.limits import Take, Unit
from gateway.core.records import AttemptEnd, Correct, Void

_DETAILS = frozenset({"billed_nusd", "region", "unknown_usage", "takes"})
_LINE_DETAILS = 7
"""How many members of a line every version has kept."""


class Posting(msgspec.Struct, frozen=True):
    """What one record posted. Amounts None: unpriced. `takes` are those of money. `detailed` False: an older version
    wrote the rows, which had no place for billed amounts, region, takes, and what a line says beside its amounts."""

    attempt_id: bytes
    kind: str
    revision: int
    outcome: str
    state: str
    source: str
    list_nusd: int | None
    effective_nusd: int | None
    billed_nusd: int | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    served_tier: str
    region: str
    unknown_usage: tuple[str, ...]
    takes: tuple[Take, ...]
    lines: tuple[Line, ...]
    detailed: bool = True


def posting_of(record: AttemptEnd | Void | Correct) -> Posting:
    match record:
        case AttemptEnd():
            billed = record.effective_nusd if record.billed_nusd is None else record.billed_nusd
            return Posting(
                record.attempt_id,
                record.kind,
                record.revision,
                record.outcome,
                record.state,
                record.source,
                record.list_nusd,
                record.effective_nusd,
                billed,
                record.input_tokens,
                record.output_tokens,
                record.reasoning_tokens,
                record.served_tier,
                record.region,
                record.unknown_usage,
                money_of(record.posted),
                record.lines,
            )
        case Correct():
            amounts = (record.list_nusd, record.effective_nusd, record.billed_nusd)
            return Posting(
                record.attempt_id,
                record.kind,
                record.revision,
                "corrected",
                record.state,
                record.source,
                *amounts,
                0,
                0,
                0,
                served_tier="",
                region="",
                unknown_usage=(),
                takes=money_of(record.takes),
                lines=record.lines,
            )
        case Void():
            state, nothing = CostState.PRICED.value, (0, 0, 0)
            return Posting(
                record.attempt_id,
                "attempt",
                0,
                "void",
                state,
                "none",
                *nothing,
                *nothing,
                "",
                "",
                (),
                takes=(),
                lines=(),
            )


def money_of(takes: tuple[Take, ...]) -> tuple[Take, ...]:
    """The takes of counters of money."""
    return tuple(take for take in takes if take.unit is Unit.USD)


def differences(ours: Posting, theirs: Posting) -> dict[str, tuple[Any, Any]]:
    """The members in which two differ: (ours, theirs) of each. Of rows without details only what they have."""
    found: dict[str, tuple[Any, Any]] = {}
    for word in Posting.__struct_fields__:
        if word in ("lines", "detailed") or (word in _DETAILS and not theirs.detailed):
            continue
        pair = (_plain(getattr(ours, word)), _plain(getattr(theirs, word)))
        if pair[0] != pair[1]:
            found[word] = pair
    if len(ours.lines) != len(theirs.lines):
        found["lines"] = (len(ours.lines), len(theirs.lines))
    for number, (mine, other) in enumerate(zip(ours.lines, theirs.lines, strict=False)):
        pair = (_members(mine, theirs.detailed), _members(other, theirs.detailed))
        if pair[0] != pair[1]:
            found[f"line {number}"] = pair
    return found


def _members(line: Line, detailed: bool) -> tuple[Any, ...]:
    values = msgspec.structs.astuple(line)[:_LINE_DETAILS]
    if detailed:
        values = (*values, line.billed_nusd, line.uplift_ppm, line.part, line.currency, line.native_nano)
    return tuple(map(_plain, values))


def _plain(value: Any) -> Any:
    """As SQL keeps it: a text without NUL, which a provider may have sent."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
