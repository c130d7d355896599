"""Proof by repetition: folds journals again from the start and says what they add up to, and what is wrong.

`ledger verify` compares the result with the sums in SQL and, where there is one, with a witness: an independent log
of what a provider really served. Memory grows with the journals; this is for a command, not for a process.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

import msgspec

from gateway.core.charge import CostState
from gateway.core.ids import ATTEMPT, print_id
from gateway.core.records import AttemptEnd, Correct, Dispatch, Entry, Hold, Settle, Shrink, Void
from gateway.core.usage import UsageSource
from gateway.ledger.estimate import total_nusd
from gateway.ledger.fold import Books
from gateway.ledger.standing import Anomaly

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_MAY_BE_UNSEEN = frozenset({"crashed", "error", "lost", "timeout", "client_gone"})
"""Ends that a dispatched attempt may have without its provider ever having seen it, if no byte came back."""


class SpendKey(msgspec.Struct, frozen=True, array_like=True):
    """What a sum is for. `day` is the UTC day (`2026-11-24`) on which the attempt's call started."""

    org: str
    team: str
    key_id: str
    model: str
    day: str


@dataclass(slots=True)
class Spend:
    """Sums over attempts and their corrections. Money sums what is priced or estimated; `unpriced` attempts are
    counted, not added as 0."""

    attempts: int = 0
    list_nusd: int = 0
    effective_nusd: int = 0
    estimated_nusd: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    billed_nusd: int = 0


@dataclass(slots=True)
class AttemptFacts:
    """What the journals say of one attempt. `ends` counts ATTEMPT_END and VOID together."""

    key: SpendKey
    bound_nusd: int | None
    dispatched: bool = False
    ends: int = 0
    voided: bool = False
    end: AttemptEnd | None = None
    corrections: list[Correct] = field(default_factory=list)


class Gap(msgspec.Struct, frozen=True):
    """Records of one journal that are not there: seqs `first` to `last`."""

    journal_id: bytes
    first: int
    last: int


@dataclass(slots=True)
class Audit:
    """The figures. `clean` is the one question: everything ended once, settled once, adds up, nothing is missing."""

    records: int = 0
    calls: int = 0
    attempts: int = 0
    ended_once: int = 0
    ended_twice: int = 0
    ended_never: int = 0
    settled_once: int = 0
    settled_twice: int = 0
    settled_never: int = 0
    open_holds: int = 0
    anomalies: list[Anomaly] = field(default_factory=list)
    anomaly_count: int = 0
    gaps: list[Gap] = field(default_factory=list)
    wrong_sums: list[bytes] = field(default_factory=list)
    """Attempts whose totals are not the sums of their lines."""
    over_bound: list[bytes] = field(default_factory=list)
    """Attempts that cost more than their hold's bound as last shrunk, when they ended."""
    corrections: int = 0
    unknown_corrected: list[bytes] = field(default_factory=list)
    """Attempts that were corrected and whose HOLD is in none of the journals: its segment has been deleted."""
    spend: dict[SpendKey, Spend] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    facts: dict[bytes, AttemptFacts] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not (
            self.ended_twice
            or self.ended_never
            or self.settled_twice
            or self.settled_never
            or self.open_holds
            or self.anomaly_count
            or self.gaps
            or self.wrong_sums
            or self.over_bound
        )


class WitnessRow(msgspec.Struct, frozen=True):
    """One request as its provider saw it. Usage None: none was reported. `attempt_id` is printed, `att_…`."""

    attempt_id: str
    input_tokens: int | None
    output_tokens: int | None
    cancelled_ms: int | None
    completed: bool
    first_byte: bool


class Flag(msgspec.Struct, frozen=True):
    """A difference between journal and witness. `kind` is one of:

    `not_in_journal` served, never recorded · `not_dispatched` served before a DISPATCH was believed · `sent_twice` one
    attempt served twice · `voided_but_served` ended as never started, yet answered · `usage_differs` the journal says
    the provider reported other numbers · `not_at_witness` billed, but the provider never saw it.
    """

    kind: str
    attempt_id: str
    detail: str = ""


def audit(entries: Iterable[Entry]) -> Audit:
    """Re-folds the entries of any number of journals, each journal's in its order, without duplicates."""
    found = Audit()
    books = Books(forget=False)
    settled: Tally[bytes] = Tally()
    calls: set[bytes] = set()
    last_seq: dict[bytes, int] = {}
    corrected: dict[tuple[bytes, str, int], Correct] = {}
    for entry in entries:
        before = last_seq.get(entry.journal_id)
        if before is not None and entry.seq > before + 1:
            found.gaps.append(Gap(entry.journal_id, before + 1, entry.seq - 1))
        last_seq[entry.journal_id] = entry.seq
        found.records += 1
        books.apply(entry.record, entry.call_id)
        match entry.record:
            case Settle():
                calls.add(entry.call_id)
                settled[entry.call_id] += 1
            case Hold() as hold:
                calls.add(entry.call_id)
                found.facts.setdefault(hold.attempt_id, AttemptFacts(_spend_key(hold), hold.bound_nusd))
            case Shrink() | Dispatch() | AttemptEnd() | Void() as record:
                _note(found, record)
            case Correct() as correct if correct.state:
                corrected.setdefault((correct.attempt_id, correct.kind, correct.revision), correct)
            case _:
                pass
        found.anomalies.extend(books.drain_anomalies())
    for _, correct in sorted(corrected.items()):  # after all ends: journals come in the order of their beginning
        _add_correction(found, correct)
    found.calls = len(calls)
    times = [settled[call_id] for call_id in calls]
    found.settled_once, found.settled_twice, found.settled_never = _times(times)
    found.attempts = len(found.facts)
    found.ended_once, found.ended_twice, found.ended_never = _times([facts.ends for facts in found.facts.values()])
    found.open_holds = len(books.holds)
    found.anomaly_count = books.anomaly_count
    found.spent = {name: counter.spent for name, counter in books.counters.items()}
    found.reserved = {name: counter.reserved for name, counter in books.counters.items() if counter.reserved}
    return found


def compare_witness(attempts: dict[bytes, AttemptFacts], rows: Iterable[WitnessRow]) -> list[Flag]:
    """Every difference that is not explained by a crash or a failure before the first byte; empty is agreement.

    `attempts` is `Audit.facts`. A dispatched attempt that its provider never saw is allowed only if it was voided, or
    ended without a byte received as crashed, error, lost, timeout or client_gone: it may have died on the way.
    """
    printed = {print_id(ATTEMPT, raw): facts for raw, facts in attempts.items()}
    flags: list[Flag] = []
    seen: set[str] = set()
    for row in rows:
        if row.attempt_id in seen:
            flags.append(Flag("sent_twice", row.attempt_id))
            continue
        seen.add(row.attempt_id)
        facts = printed.get(row.attempt_id)
        if facts is None:
            flags.append(Flag("not_in_journal", row.attempt_id))
        else:
            flags.extend(_differences(row, facts))
    for attempt_id, facts in printed.items():
        if attempt_id not in seen and facts.dispatched and not _may_be_unseen(facts):
            outcome = facts.end.outcome if facts.end is not None else "not ended"
            flags.append(Flag("not_at_witness", attempt_id, outcome))
    return flags


def spend_day(ms: int) -> str:
    """The UTC day of a time, `2026-11-24`."""
    return date.fromordinal(_EPOCH + ms // _DAY_MS).isoformat()


def _differences(row: WitnessRow, facts: AttemptFacts) -> list[Flag]:
    flags: list[Flag] = []
    if not facts.dispatched:
        flags.append(Flag("not_dispatched", row.attempt_id))
    if facts.voided and row.first_byte:
        flags.append(Flag("voided_but_served", row.attempt_id))
    end = facts.end
    if end is not None and end.source == UsageSource.PROVIDER.value and not _contradicted(end):
        ours = (end.input_tokens, end.output_tokens)
        theirs = (row.input_tokens, row.output_tokens)
        if ours != theirs:
            flags.append(Flag("usage_differs", row.attempt_id, f"journal {ours}, witness {theirs}"))
    return flags


def unseen_by_witness(attempts: dict[bytes, AttemptFacts], rows: Iterable[WitnessRow]) -> int:
    """How many dispatched attempts their provider never saw: killed or failed between DISPATCH and the first byte."""
    seen = {row.attempt_id for row in rows}
    return sum(facts.dispatched and print_id(ATTEMPT, raw) not in seen for raw, facts in attempts.items())


def _contradicted(end: AttemptEnd) -> bool:
    """The provider's own numbers contradicted each other: unpriced, nothing counted, so there is nothing to compare."""
    return end.state == CostState.UNPRICED.value and not end.lines


def _may_be_unseen(facts: AttemptFacts) -> bool:
    if facts.voided:
        return True
    end = facts.end
    return end is not None and end.outcome in _MAY_BE_UNSEEN and end.ttft_us < 0 and not end.output_tokens


def _spend_key(hold: Hold) -> SpendKey:
    return SpendKey(hold.org, hold.team, hold.key_id, hold.model, spend_day(hold.started_ms))


def _note(found: Audit, record: Shrink | Dispatch | AttemptEnd | Void) -> None:
    facts = found.facts.get(record.attempt_id)
    if facts is None:
        return  # the fold has an anomaly for it
    match record:
        case Dispatch():
            facts.dispatched = True
        case Shrink():
            if record.bound_nusd is not None and (facts.bound_nusd is None or record.bound_nusd < facts.bound_nusd):
                facts.bound_nusd = record.bound_nusd
        case Void():
            facts.ends += 1
            facts.voided = facts.voided or facts.end is None
        case AttemptEnd():
            facts.ends += 1
            if facts.end is None and not facts.voided:
                facts.end = record
                _add(found, facts, record)


def _add(found: Audit, facts: AttemptFacts, end: AttemptEnd) -> None:
    listed = [line.list_nusd for line in end.lines]
    effective = [line.effective_nusd for line in end.lines]
    if total_nusd(listed) != end.list_nusd or total_nusd(effective) != end.effective_nusd:
        unpriced_without_lines = not end.lines and end.state == CostState.UNPRICED.value and end.effective_nusd is None
        if not unpriced_without_lines:
            found.wrong_sums.append(end.attempt_id)
    bound_nusd = facts.bound_nusd
    if bound_nusd is not None and end.effective_nusd is not None and end.effective_nusd > bound_nusd:
        found.over_bound.append(end.attempt_id)
    sums = found.spend.setdefault(facts.key, Spend())
    sums.attempts += 1
    sums.input_tokens += end.input_tokens
    sums.output_tokens += end.output_tokens
    if end.effective_nusd is None or end.list_nusd is None:
        sums.unpriced += 1
        return
    sums.list_nusd += end.list_nusd
    sums.effective_nusd += end.effective_nusd
    sums.billed_nusd += end.effective_nusd if end.billed_nusd is None else end.billed_nusd
    if end.state == CostState.ESTIMATED.value:
        sums.estimated_nusd += end.effective_nusd


def _add_correction(found: Audit, correct: Correct) -> None:
    """In the order of an attempt's revisions."""
    found.corrections += 1
    amounts = (correct.list_nusd, correct.effective_nusd, correct.billed_nusd)
    lines = correct.lines
    sums_of_lines = (
        total_nusd(line.list_nusd for line in lines),
        total_nusd(line.effective_nusd for line in lines),
        total_nusd(line.billed_nusd for line in lines),
    )
    if amounts != sums_of_lines:
        found.wrong_sums.append(correct.attempt_id)
    facts = found.facts.get(correct.attempt_id)
    if facts is None:
        found.unknown_corrected.append(correct.attempt_id)
        return
    before = facts.corrections[-1].state if facts.corrections else facts.end.state if facts.end is not None else ""
    facts.corrections.append(correct)
    sums = found.spend.setdefault(facts.key, Spend())
    sums.list_nusd += correct.list_nusd
    sums.effective_nusd += correct.effective_nusd
    sums.billed_nusd += correct.billed_nusd
    sums.unpriced -= before == CostState.UNPRICED.value
    if correct.state == CostState.ESTIMATED.value:
        sums.estimated_nusd += correct.effective_nusd


def _times(counts: list[int]) -> tuple[int, int, int]:
    """(once, more than once, never)."""
    once = sum(1 for count in counts if count == 1)
    never = sum(1 for count in counts if count == 0)
    return once, len(counts) - once - never, never
