"""Verification finds what was planted, names it, and finds nothing where nothing is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from store.ledger_entries import end, line, settle

from bookkeeper.world import CLOCK, ENTROPY, SIZES, Worker, settings_of, worker
from gateway.bookkeeper.checkpoint import read_checkpoint, write_checkpoint
from gateway.bookkeeper.folding import Folder
from gateway.bookkeeper.loading import Loader
from gateway.bookkeeper.verify import VerifyReport, verify
from gateway.core.ids import ATTEMPT, print_id
from gateway.journal.segment import segment_path
from gateway.ledger.audit import WitnessRow
from gateway.ledger.fold import Books
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import open_engine, writing
from gateway.store.ledger_tables import ATTEMPT as ATTEMPT_TABLE
from gateway.store.ledger_tables import CALL, DEAD_LETTER, LEDGER_LINE, POSTING, ROLLUP_HOUR
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries_verify import SqlLedgerProof


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    await migrate.upgrade("", settings.data_dir, "ledger")
    engine = open_engine("", settings.data_dir, "ledger")
    yield engine
    await engine.dispose()


async def settled(settings: Settings, engine: AsyncEngine, *, calls: int = 20) -> Worker:
    """Calls written, their worker dead, its journal adopted, everything in SQL."""
    writer = Worker(settings)
    writer.calls(calls)
    writer.begin()
    writer.die()
    await finish(settings, engine)
    return writer


async def finish(settings: Settings, engine: AsyncEngine) -> None:
    folder = Folder(settings.journal_dir, settings.checkpoint_file, CLOCK, SIZES)
    await folder.adopt_orphans()
    folder.close()
    assert await Loader(settings.journal_dir, LedgerWriter(engine), CLOCK, ENTROPY).drain(10.0)


async def verified(settings: Settings, engine: AsyncEngine, witness: list[WitnessRow] | None = None) -> VerifyReport:
    return await verify(settings.journal_dir, settings.checkpoint_file, SqlLedgerProof(engine), witness)


async def test_where_nothing_is_wrong_nothing_is_found(settings: Settings, engine: AsyncEngine) -> None:
    await settled(settings, engine)
    report = await verified(settings, engine)
    assert report.ok
    assert report.figures == {
        "journals": 1,
        "records": 84,
        "calls": 21,
        "attempts": 21,
        "attempts_ended_once": 21,
        "attempts_running": 0,
        "effective_nusd": 600,
        "counters": 1,
        "sql_calls": 21,
        "sql_postings": 21,
        "sql_open_attempts": 0,
        "records_not_in_sql": 0,
    }


async def test_what_a_living_worker_has_begun_is_a_figure_and_no_problem(
    settings: Settings, engine: AsyncEngine
) -> None:
    with worker(settings) as writer:
        writer.calls(3)
        writer.begin()
        assert await Loader(settings.journal_dir, LedgerWriter(engine), CLOCK, ENTROPY).drain(10.0)
        writer.calls(2)
        report = await verified(settings, engine)
        assert report.problems == []
        assert (report.figures["attempts_running"], report.figures["records_not_in_sql"]) == (1, 8)


async def test_without_sql_the_journals_alone_are_verified(settings: Settings) -> None:
    writer = Worker(settings)
    writer.calls(2)
    writer.begin()
    writer.die()
    report = await verify(settings.journal_dir, settings.checkpoint_file, None)
    assert sorted(report.counts) == ["attempt_never_ended", "call_never_settled"]


Plant = Callable[[AsyncConnection], Any]

PLANTED: dict[str, tuple[Plant, set[str]]] = {
    "a rollup one nano-dollar too high": (
        lambda c: c.execute(update(ROLLUP_HOUR).values(effective_nusd=ROLLUP_HOUR.c.effective_nusd + 1)),
        {"rollup_is_not_sum_of_rows"},
    ),
    "a line changed": (
        lambda c: c.execute(update(LEDGER_LINE).where(LEDGER_LINE.c.meter == "input").values(effective_nusd=9)),
        {"rollup_is_not_sum_of_rows", "posting_is_not_sum_of_lines", "posting_differs"},
    ),
    "what a line was billed": (
        lambda c: c.execute(update(LEDGER_LINE).where(LEDGER_LINE.c.meter == "input").values(billed_nusd=9)),
        {"rollup_is_not_sum_of_rows", "posting_is_not_sum_of_lines", "posting_differs"},
    ),
    "which run a line is of": (
        lambda c: c.execute(update(LEDGER_LINE).where(LEDGER_LINE.c.meter == "input").values(part="other")),
        {"posting_differs"},
    ),
    "the currency of a line": (
        lambda c: c.execute(update(LEDGER_LINE).values(currency="EUR", native_nano=1)),
        {"posting_differs"},
    ),
    "what a posting spent from": (
        lambda c: c.execute(update(POSTING).where(POSTING.c.takes != b"").values(takes=b"\x90")),
        {"posting_differs"},
    ),
    "a posting changed": (
        lambda c: c.execute(update(POSTING).values(output_tokens=POSTING.c.output_tokens + 1)),
        {"rollup_is_not_sum_of_rows", "posting_differs"},
    ),
    "postings lost": (
        lambda c: c.execute(delete(POSTING)),
        {"rollup_is_not_sum_of_rows", "lines_without_posting", "end_not_in_sql"},
    ),
    "attempts lost": (
        lambda c: c.execute(delete(ATTEMPT_TABLE)),
        {"rollup_is_not_sum_of_rows", "attempt_not_in_sql"},
    ),
    "calls lost": (lambda c: c.execute(delete(CALL)), {"rollup_is_not_sum_of_rows", "calls_differ"}),
    "a dead letter": (
        lambda c: c.execute(
            insert(DEAD_LETTER).values(
                journal_id=b"j" * 16,
                seq=1,
                call_id=b"",
                record_type=7,
                reason="unstorable",
                detail="",
                payload=b"",
                recorded_ms=0,
            )
        ),
        {"dead_letter"},
    ),
}


@pytest.mark.parametrize("planted", list(PLANTED))
async def test_planted_in_sql(settings: Settings, engine: AsyncEngine, planted: str) -> None:
    plant, expected = PLANTED[planted]
    await settled(settings, engine)
    async with writing(engine) as connection:
        await plant(connection)
    report = await verified(settings, engine)
    assert not report.ok
    assert set(report.counts) == expected


async def test_an_attempt_nobody_wrote(settings: Settings, engine: AsyncEngine) -> None:
    await settled(settings, engine)
    async with writing(engine) as connection:
        row = dict((await connection.execute(ATTEMPT_TABLE.select().limit(1))).one()._mapping)
        await connection.execute(insert(ATTEMPT_TABLE).values({**row, "attempt_id": b"x" * 16, "seq": 2}))
    report = await verified(settings, engine)
    assert [(one.kind, one.detail.split()[0]) for one in report.problems] == [
        ("attempt_not_in_journal", print_id(ATTEMPT, b"x" * 16))
    ]


async def test_a_worker_that_ends_twice_overspends_or_adds_wrong(settings: Settings, engine: AsyncEngine) -> None:
    writer = Worker(settings)
    call_id, attempt_id = writer.begin(held=5)
    writer.finish(call_id, attempt_id)
    writer.finish(call_id, attempt_id)
    other_call, other = writer.begin()
    writer.journal.append(end(other, (line("input", 5),), effective_nusd=6), other_call)
    writer.journal.append(settle(other), other_call)
    writer.die()
    await finish(settings, engine)
    report = await verified(settings, engine)
    assert set(report.counts) == {
        "attempt_ended_twice",
        "call_settled_twice",
        "cost_over_bound",
        "total_is_not_sum_of_lines",
        "posting_is_not_sum_of_lines",
        "rollup_is_not_sum_of_rows",
        "dead_letter",
    }


async def test_records_that_cannot_be_read(settings: Settings, engine: AsyncEngine) -> None:
    writer = await settled(settings, engine)
    path = segment_path(writer.journal.directory, 1)
    data = bytearray(path.read_bytes())
    data[3_000] ^= 0xFF
    path.write_bytes(data)
    report = await verified(settings, engine)
    assert "records_lost" in report.counts


async def test_a_checkpoint_that_counts_differently(settings: Settings, engine: AsyncEngine) -> None:
    await settled(settings, engine)
    checkpoint = read_checkpoint(settings.checkpoint_file)
    assert checkpoint is not None
    books = Books.load(checkpoint.books)
    next(iter(books.counters.values())).spent += 1
    wrong = type(checkpoint)(checkpoint.written_ms, books.dump(), checkpoint.journals)
    write_checkpoint(settings.checkpoint_file, wrong)
    report = await verified(settings, engine)
    assert set(report.counts) == {"counter_differs"}
    os.unlink(settings.checkpoint_file)


async def test_a_witness(settings: Settings, engine: AsyncEngine) -> None:
    writer = Worker(settings)
    attempts = []
    for _ in range(3):
        call_id, attempt_id = writer.begin()
        writer.finish(call_id, attempt_id)
        attempts.append(print_id(ATTEMPT, attempt_id))
    writer.die()
    await finish(settings, engine)
    rows = [WitnessRow(attempt_id, 10, 20, None, True, True) for attempt_id in attempts]
    assert (await verified(settings, engine, rows)).problems == []
    wrong = [rows[0], WitnessRow(attempts[1], 10, 21, None, True, True), rows[0]]
    report = await verified(settings, engine, wrong)
    assert report.counts == {"witness_usage_differs": 1, "witness_sent_twice": 1, "witness_not_at_witness": 1}


async def test_many_problems_of_a_kind_are_counted_and_a_few_named(settings: Settings) -> None:
    writer = Worker(settings)
    for _ in range(30):
        writer.begin()
    writer.die()
    report = await verify(settings.journal_dir, settings.checkpoint_file, None)
    assert report.counts["attempt_never_ended"] == 30
    assert sum(1 for one in report.problems if one.kind == "attempt_never_ended") == 20
