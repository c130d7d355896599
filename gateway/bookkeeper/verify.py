"""`faregate ledger verify`: the journals folded again, compared with SQL, the checkpoint and an outside witness.

It proves what can be proved while everything runs: what a living process has begun and not ended is a figure; the
same in the journal of a dead one is a problem. Records that SQL has not taken yet are a figure and are not compared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.bookkeeper.checkpoint import current_books
from gateway.core.errors import JournalUnreadable
from gateway.core.ids import ATTEMPT, CALL, JOURNAL, print_id
from gateway.core.records import AttemptEnd, Correct, Dispatch, Entry, Hold, Progress, Settle, Shrink, Void
from gateway.journal.folder import JournalFolder, list_journals
from gateway.journal.reader import Damage, read_journal
from gateway.journal.writer import lock_directory
from gateway.ledger.audit import Audit, WitnessRow, audit, compare_witness, unseen_by_witness
from gateway.ledger.posted import Posting, differences, posting_of

SHOWN = 20
"""Problems of one kind that are named; the rest is counted."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: what kind, and where to look."""

    kind: str
    detail: str


@dataclass(slots=True)
class VerifyReport:
    """`figures` in the order to print them. `problems` names at most SHOWN of a kind, `counts` has all."""

    figures: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.counts

    def add(self, kind: str, detail: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= SHOWN:
            self.problems.append(Problem(kind, detail))


class StoredAttempt(Protocol):
    """An attempt as SQL has it: `store.queries_verify.StoredAttempt`."""

    @property
    def attempt_id(self) -> bytes: ...

    @property
    def seq(self) -> int: ...

    @property
    def end(self) -> Posting | None: ...


class StoredCounts(Protocol):
    """Counts over the whole ledger: `store.queries_verify.StoredCounts`."""

    @property
    def calls(self) -> int: ...

    @property
    def postings(self) -> int: ...

    @property
    def open_attempts(self) -> int: ...

    @property
    def orphan_lines(self) -> int: ...

    @property
    def wrong_totals(self) -> int: ...


class SumMismatch(Protocol):
    """A group whose rollups are not its rows' sums: `store.queries_verify.SumMismatch`."""

    @property
    def org(self) -> str: ...

    @property
    def team(self) -> str: ...

    @property
    def key_id(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def day_ms(self) -> int: ...

    @property
    def figures(self) -> Mapping[str, tuple[int, int]]: ...


class ValueMismatch(Protocol):
    """A sum by user, session or tag that is not its rows': `store.verify_values.ValueMismatch`."""

    @property
    def org(self) -> str: ...

    @property
    def dimension(self) -> str: ...

    @property
    def value(self) -> str: ...

    @property
    def team(self) -> str: ...

    @property
    def key_id(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def day_ms(self) -> int: ...

    @property
    def figures(self) -> Mapping[str, tuple[int, int]]: ...


class LedgerProof(Protocol):
    """What verification asks of SQL: `store.queries_verify.SqlLedgerProof`. Every method raises StoreUnavailable."""

    async def verify_sums(self) -> Sequence[SumMismatch]: ...

    async def verify_values(self) -> Sequence[ValueMismatch]: ...

    async def counts(self) -> StoredCounts: ...

    async def cursors(self) -> Mapping[bytes, int]: ...

    async def calls_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> int: ...

    async def dead_letters(self) -> Sequence[tuple[bytes, int, str, str]]: ...

    def attempts_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> AsyncIterator[StoredAttempt]: ...

    def corrections_of(self, journal_id: bytes, from_seq: int, through_seq: int) -> AsyncIterator[Posting]: ...

    async def changed_months(self) -> Sequence[str]: ...


@dataclass(slots=True)
class _Read:
    """What was seen of one journal on the way to the audit. Seqs are of the record that says so."""

    folder: JournalFolder
    running: bool
    first_seq: int = 0
    last_seq: int = 0
    held: dict[bytes, int] = field(default_factory=dict)
    ended: dict[bytes, int] = field(default_factory=dict)
    settled: dict[bytes, int] = field(default_factory=dict)
    corrected: dict[tuple[bytes, str, int], tuple[int, Correct]] = field(default_factory=dict)
    voids: dict[bytes, Void] = field(default_factory=dict)
    calls: set[bytes] = field(default_factory=set)
    damage: list[Damage] = field(default_factory=list)
    fault: str = ""


async def verify(
    journal_root: Path,
    checkpoint_file: Path,
    proof: LedgerProof | None,
    witness: Iterable[WitnessRow] | None = None,
) -> VerifyReport:
    """Everything that can be compared, compared. `proof` None: without SQL. Raises StoreUnavailable.

    Where retention has deleted the beginning of a journal, what began before its first record is left out.
    """
    report = VerifyReport()
    # SQL is asked how far it is before the journals are read: it must not seem ahead of them.
    cursors = await proof.cursors() if proof is not None else {}
    reads = [_Read(folder, _is_running(folder.path)) for folder in list_journals(journal_root)]
    found = audit(_entries(reads))
    _report_journals(report, reads, found)
    _report_checkpoint(report, reads, found, journal_root, checkpoint_file)
    if proof is not None:
        await _report_sql(report, reads, found, proof, cursors)
    if witness is not None:
        rows = list(witness)
        report.figures["witness_rows"] = len(rows)
        report.figures["witness_unseen"] = unseen_by_witness(found.facts, rows)
        for flag in compare_witness(found.facts, rows):
            report.add(f"witness_{flag.kind}", f"{flag.attempt_id} {flag.detail}".rstrip())
    return report


# ------------------------------------------------------------ journals


def _entries(reads: list[_Read]) -> Iterator[Entry]:
    for read in reads:
        try:
            for entry in read_journal(read.folder.path, on_damage=read.damage.append):
                if not read.first_seq:
                    read.first_seq = entry.seq
                read.last_seq = entry.seq
                if _note(read, entry):
                    yield entry
        except JournalUnreadable as error:
            read.fault = error.message


def _note(read: _Read, entry: Entry) -> bool:
    """Remembers which record says what; False for the end of something whose beginning has been deleted."""
    whole = read.first_seq <= 1
    match entry.record:
        case Hold(attempt_id=attempt_id):
            read.held.setdefault(attempt_id, entry.seq)
            read.calls.add(entry.call_id)
        case (AttemptEnd(attempt_id=attempt_id) | Void(attempt_id=attempt_id)) as end:
            read.ended.setdefault(attempt_id, entry.seq)
            if isinstance(end, Void):
                read.voids.setdefault(attempt_id, end)
            return whole or end.attempt_id in read.held
        case Shrink(attempt_id=attempt_id) | Dispatch(attempt_id=attempt_id) | Progress(attempt_id=attempt_id):
            return whole or attempt_id in read.held
        case Correct() as correct if correct.state:
            read.corrected.setdefault((correct.attempt_id, correct.kind, correct.revision), (entry.seq, correct))
        case Settle(attempt_id=attempt_id):
            read.settled.setdefault(entry.call_id, entry.seq)
            return whole or entry.call_id in read.calls or attempt_id == entry.call_id
        case _:
            pass
    return True


def _report_journals(report: VerifyReport, reads: list[_Read], found: Audit) -> None:
    running = {read.folder.journal_id for read in reads if read.running}
    owner = {attempt_id: read.folder.journal_id for read in reads for attempt_id in read.held}
    unended = [attempt_id for attempt_id, facts in found.facts.items() if not facts.ends]
    dead = [attempt_id for attempt_id in unended if owner[attempt_id] not in running]
    unsettled = [
        (read, call_id) for read in reads for call_id in read.calls if call_id not in read.settled and not read.running
    ]
    report.figures |= {
        "journals": len(reads),
        "records": found.records,
        "calls": found.calls,
        "attempts": found.attempts,
        "attempts_ended_once": found.ended_once,
        "attempts_running": len(unended) - len(dead),
        "effective_nusd": sum(spend.effective_nusd for spend in found.spend.values()),
    }
    if found.corrections:
        report.figures["corrections"] = found.corrections
    for read in reads:
        if read.fault:
            report.add("journal_unreadable", read.fault)
        for damage in read.damage:
            report.add("records_lost", f"{read.folder.path.name} {damage.first_seq} to {damage.last_seq}")
    for gap in found.gaps:
        report.add("records_lost", f"{print_id(JOURNAL, gap.journal_id)} {gap.first} to {gap.last}")
    for attempt_id in dead:
        report.add("attempt_never_ended", print_id(ATTEMPT, attempt_id))
    for read, call_id in unsettled:
        report.add("call_never_settled", f"{print_id(CALL, call_id)} in {read.folder.path.name}")
    for anomaly in found.anomalies:
        report.add(anomaly.kind, f"{print_id(CALL, anomaly.call_id)} {anomaly.detail}")
    for attempt_id in found.wrong_sums:
        report.add("total_is_not_sum_of_lines", print_id(ATTEMPT, attempt_id))
    for attempt_id in found.over_bound:
        report.add("cost_over_bound", print_id(ATTEMPT, attempt_id))


def _report_checkpoint(
    report: VerifyReport, reads: list[_Read], found: Audit, journal_root: Path, checkpoint_file: Path
) -> None:
    """Counters from checkpoint and tail against counters from the beginning, where nothing moves and nothing lacks."""
    if any(read.running or read.first_seq > 1 or read.fault for read in reads):
        return
    books = current_books(journal_root, checkpoint_file)
    report.figures["counters"] = len(books.counters)
    for name, counter in books.counters.items():
        ours = (counter.spent, counter.reserved)
        again = (found.spent.get(name, 0), found.reserved.get(name, 0))
        if ours != again:
            report.add("counter_differs", f"{name}: checkpoint {ours}, journals {again}")


def _is_running(directory: Path) -> bool:
    """Whether a living process holds the journal."""
    try:
        os.close(lock_directory(directory, wait=False))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


# ------------------------------------------------------------ SQL


async def _report_sql(
    report: VerifyReport, reads: list[_Read], found: Audit, proof: LedgerProof, cursors: Mapping[bytes, int]
) -> None:
    for one in await proof.verify_sums():
        who = f"{one.org}/{one.team}/{one.key_id} {one.model!r} day {one.day_ms}"
        report.add("rollup_is_not_sum_of_rows", f"{who}: (rollup, rows) {dict(one.figures)}")
    for value in await proof.verify_values():
        who = f"{value.org}/{value.team}/{value.key_id} {value.model!r} {value.dimension} {value.value!r}"
        report.add("rollup_is_not_sum_of_rows", f"{who} day {value.day_ms}: (rollup, rows) {dict(value.figures)}")
    counts = await proof.counts()
    report.figures |= {
        "sql_calls": counts.calls,
        "sql_postings": counts.postings,
        "sql_open_attempts": counts.open_attempts,
        "records_not_in_sql": sum(read.last_seq - _reach(read, cursors) for read in reads),
    }
    if counts.orphan_lines:
        report.add("lines_without_posting", str(counts.orphan_lines))
    if counts.wrong_totals:
        report.add("posting_is_not_sum_of_lines", str(counts.wrong_totals))
    for journal_id, seq, reason, detail in await proof.dead_letters():
        report.add("dead_letter", f"{print_id(JOURNAL, journal_id)} {seq}: {reason}: {detail}")
    for changed in await proof.changed_months():
        report.add("closed_month_changed", changed)
    for read in reads:
        await _compare_journal(report, read, found, proof, _reach(read, cursors))
        if read.corrected:
            await _compare_corrections(report, read, proof, _reach(read, cursors))


async def _compare_journal(report: VerifyReport, read: _Read, found: Audit, proof: LedgerProof, reach: int) -> None:
    """Attempt by attempt, up to the record SQL has taken."""
    name = read.folder.path.name
    expected = {attempt_id for attempt_id, seq in read.held.items() if seq <= reach}
    # Not beyond what was read of the journal: SQL may have taken more since.
    async for stored in proof.attempts_of(read.folder.journal_id, read.first_seq, read.last_seq):
        printed = print_id(ATTEMPT, stored.attempt_id)
        if stored.attempt_id not in read.held:
            report.add("attempt_not_in_journal", f"{printed} of {name}")
            continue
        expected.discard(stored.attempt_id)
        if read.ended.get(stored.attempt_id, reach + 1) > reach:
            continue
        record = found.facts[stored.attempt_id].end or read.voids.get(stored.attempt_id)
        if stored.end is None:
            report.add("end_not_in_sql", printed)
        elif record is not None and (wrong := differences(posting_of(record), stored.end)):
            report.add("posting_differs", f"{printed}: (journal, SQL) {wrong}")
    for attempt_id in sorted(expected):
        report.add("attempt_not_in_sql", print_id(ATTEMPT, attempt_id))
    settled = sum(1 for seq in read.settled.values() if seq <= reach)
    calls = await proof.calls_of(read.folder.journal_id, read.first_seq, reach)
    if settled != calls:
        report.add("calls_differ", f"{name}: {settled} settled in the journal, {calls} in SQL")


async def _compare_corrections(report: VerifyReport, read: _Read, proof: LedgerProof, reach: int) -> None:
    """Correction by correction, up to the record SQL has taken."""
    expected = {identity: record for identity, (seq, record) in read.corrected.items() if seq <= reach}
    async for stored in proof.corrections_of(read.folder.journal_id, read.first_seq, reach):
        name = f"{print_id(ATTEMPT, stored.attempt_id)} {stored.kind} {stored.revision}"
        record = expected.pop((stored.attempt_id, stored.kind, stored.revision), None)
        if record is None:
            report.add("correction_not_in_journal", name)
        elif wrong := differences(posting_of(record), stored):
            report.add("posting_differs", f"{name}: (journal, SQL) {wrong}")
    for attempt_id, kind, revision in sorted(expected):
        report.add("correction_not_in_sql", f"{print_id(ATTEMPT, attempt_id)} {kind} {revision}")


def _reach(read: _Read, cursors: Mapping[bytes, int]) -> int:
    return min(max(cursors.get(read.folder.journal_id, 0), 0), read.last_seq)
