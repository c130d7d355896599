"""Corrections and closed months in SQL, as a bookkeeper would check them, on both databases."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import update

from gateway.core.charge import Charge, CostState, Line
from gateway.core.corrections import PostedAttempt, Span
from gateway.core.errors import Conflict
from gateway.core.limits import Take, Unit
from gateway.core.money import line_nusd
from gateway.core.queries import QueryScope
from gateway.core.records import Correct, Dispatch, Entry
from gateway.ledger.rerate import Run, correction
from gateway.store import migrate
from gateway.store.closed_months import closed_until
from gateway.store.engine import writing
from gateway.store.ledger_statements import Statements
from gateway.store.ledger_straight import store_straight
from gateway.store.ledger_tables import CORRECTION, JOURNAL_CURSOR, LEDGER_LINE, POSTING, ROLLUP_HOUR
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.period_store import SqlPeriods
from gateway.store.queries import SqlLedgerQueries
from gateway.store.queries_rerate import SqlRerateQueries
from gateway.store.queries_verify import SqlLedgerProof
from store.ledger_entries import Book, end, hold, ident, settle
from store.ledgers import Ledger, ledger
from store.stores import postgres_database, postgres_server, store

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]

SCOPE = QueryScope("acme")
RUN = Run(ident(77), "finance", "wrong by 1 000")
WRONG, RIGHT = 1_000_000, 1_000
"""Pico-USD a token: 1 000 and 1 nano-USD."""


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


SEPTEMBER, OCTOBER, NOVEMBER = at("2026-09-01"), at("2026-10-01"), at("2026-11-01")
ALL = Span(SEPTEMBER, at("2027-01-01"))


def priced(tokens: int, rate_pico: int, margin: int = 0) -> Charge:
    nusd = line_nusd(rate_pico, tokens, 1)
    billed = nusd + nusd * margin // 100 if margin else None
    line = Line("input", tokens, rate_pico, 1, nusd, nusd, f"row {rate_pico}", own_billed_nusd=billed)
    return Charge(CostState.PRICED, (line,), nusd, nusd, billed)


def spent(nusd: int, counter: str = "limit|key_1|2026-10") -> tuple[Take, ...]:
    return (Take(counter, "limit", Unit.USD, nusd),)


def call(book: Book, number: int, started_ms: int, charge: Charge, **who: object) -> list[Entry]:
    """One call of one attempt with such a charge. Unpriced, its counters were posted 9 000, what it held."""
    attempt_id = ident(number * 2 + 1, started_ms)
    amounts = {"list_nusd": charge.list_nusd, "effective_nusd": charge.effective_nusd}
    whose = {"started_ms": started_ms, **who}
    taken = spent(9_000 if charge.effective_nusd is None else charge.effective_nusd)
    billed = {"billed_nusd": charge.own_billed_nusd}
    ended = end(attempt_id, charge.lines, ts_ms=started_ms + 900, posted=taken, **billed, **amounts)
    settled = settle(attempt_id, ts_ms=started_ms + 1_000, cost_state=charge.state.value, **whose, **amounts)
    held = hold(attempt_id, ts_ms=started_ms, **whose)
    return book.entries(ident(number * 2, started_ms), (held, Dispatch(started_ms, attempt_id), ended, settled))


async def posted(ledger: Ledger, span: Span = ALL, scope: QueryScope = SCOPE, at_once: int = 3) -> list[PostedAttempt]:
    """Every attempt of a span, by as many pages as it takes."""
    queries, found, after = SqlRerateQueries(ledger.engine), [], b""
    while True:
        page = await queries.page(scope, span, after, at_once)
        found += page.attempts
        if page.next_id is None:
            return found
        after = page.next_id


def corrections(
    attempts: list[PostedAttempt], rate_pico: int, now_ms: int, run: Run = RUN
) -> list[tuple[bytes, Correct]]:
    """The records that make each attempt cost `rate_pico` a token."""
    made = []
    for attempt in attempts:
        tokens = sum(line.quantity for line in attempt.lines)
        record = correction(
            attempt, priced(tokens, rate_pico), run, now_ms, priced_calls=int(attempt.state == CostState.UNPRICED)
        )
        if isinstance(record, Correct):
            made.append((attempt.call_id, record))
    return made


async def load(ledger: Ledger, book: Book, records: list[tuple[bytes, Correct]]) -> list[Entry]:
    batch = [book.entry(call_id, record) for call_id, record in records]
    loaded = await ledger.writer.load(batch)
    assert (loaded.stored, loaded.dead_letters) == (len(batch), 0)
    assert await SqlLedgerProof(ledger.engine).verify_sums() == []
    counts = await SqlLedgerProof(ledger.engine).counts()
    assert (counts.wrong_totals, counts.orphan_lines) == (0, 0)
    return batch


async def month(ledger: Ledger, start_ms: int, end_ms: int) -> tuple[int, int, int, int]:
    """(calls, effective, billed, prior period) as `faregate spend` says."""
    rows = await SqlLedgerQueries(ledger.engine).spend(SCOPE, ("org",), start_ms, end_ms)
    row = rows[0] if rows else None
    return (row.calls, row.effective_nusd, row.billed_nusd, row.prior_effective_nusd) if row else (0, 0, 0, 0)


async def test_a_price_wrong_by_1000_is_corrected_with_a_month_closed_between(ledger: Ledger) -> None:
    """
    | | October | November |
    |---|---|---|
    | 10 calls of 100 tokens each month, 1 000 nano-USD a token | 1 000 000 | 1 000 000 |
    | October is closed | 1 000 000 | |
    | all are corrected to 1 nano-USD a token | 1 000 000 | 1 000, and −999 000 of a prior period |
    """
    worker, keeper = Book(), Book(ident(2))
    for number in range(20):
        start_ms = (OCTOBER if number < 10 else NOVEMBER) + number * 3_600_000
        await ledger.writer.load(call(worker, number, start_ms, priced(100, WRONG)))
    assert await month(ledger, OCTOBER, NOVEMBER) == (10, 1_000_000, 1_000_000, 0)
    periods = SqlPeriods(ledger.engine)
    closed = await periods.close("acme", OCTOBER, at("2026-11-02"), "finance", "sent to all teams")
    assert (closed.name, closed.sums.calls, closed.sums.effective_nusd) == ("2026-10", 10, 1_000_000)
    batch = await load(ledger, keeper, corrections(await posted(ledger), RIGHT, at("2026-11-20")))
    assert len(batch) == 20
    assert await month(ledger, OCTOBER, NOVEMBER) == (10, 1_000_000, 1_000_000, 0)
    assert await month(ledger, NOVEMBER, at("2026-12-01")) == (10, 1_000, 1_000, -999_000)
    assert await SqlLedgerProof(ledger.engine).changed_months() == []
    (run,) = await SqlRerateQueries(ledger.engine).runs(SCOPE)
    assert (run.postings, run.effective_nusd, run.prior_effective_nusd, run.reason) == (
        20, 20 * (100 - 100_000), 10 * (100 - 100_000), "wrong by 1 000",
    )  # fmt: skip
    assert corrections(await posted(ledger), RIGHT, at("2026-11-21")) == [], "done again, nothing is to be done"
    for attempt in await posted(ledger):
        assert (attempt.effective_nusd, attempt.revision) == (100, 1)
        assert attempt.takes == spent(100), "the counter has what the corrected lines say"


async def test_the_same_records_in_any_batches_and_again(ledger: Ledger) -> None:
    """A loader that is killed loads a batch again; whatever the batches, each correction counts once."""
    worker, keeper, dice = Book(), Book(ident(2)), random.Random(5)
    for number in range(12):
        await ledger.writer.load(call(worker, number, OCTOBER + number * 60_000, priced(100, WRONG, margin=10)))
    records = corrections(await posted(ledger), RIGHT, at("2026-10-20"))
    batch = [keeper.entry(call_id, record) for call_id, record in records]
    position = 0
    while position < len(batch):
        size = dice.randrange(1, 5)
        part = batch[position : position + size]
        await ledger.writer.load(part)
        if dice.random() < 0.5:
            ledger.writer = LedgerWriter(ledger.engine)
            assert (await ledger.writer.load(batch[: position + size])).stored == 0
        position += size
    assert await month(ledger, OCTOBER, NOVEMBER) == (12, 1_200, 1_200, 0)
    await ledger.forget_cursors()
    again = await ledger.writer.load(batch)
    assert (again.stored, again.dead_letters) == (0, 0)
    assert await month(ledger, OCTOBER, NOVEMBER) == (12, 1_200, 1_200, 0)
    assert await SqlLedgerProof(ledger.engine).verify_sums() == []


async def test_another_record_of_the_same_identity_is_an_alarm_and_counts_nothing(ledger: Ledger) -> None:
    worker, keeper, other = Book(), Book(ident(2)), Book(ident(3))
    await ledger.writer.load(call(worker, 1, OCTOBER, priced(100, WRONG)))
    await ledger.writer.load(call(worker, 2, OCTOBER, priced(100, WRONG)))
    attempts = await posted(ledger)
    await load(ledger, keeper, corrections(attempts, RIGHT, OCTOBER))
    before = await ledger.everything()
    clash = [other.entry(call_id, record) for call_id, record in corrections(attempts, RIGHT * 2, OCTOBER)]
    loaded = await ledger.writer.load(clash)
    assert (loaded.stored, loaded.dead_letters) == (0, 2)
    assert await ledger.dead() == [(1, "corrected_twice"), (2, "corrected_twice")]
    assert (await ledger.everything())[2:5] == before[2:5], "postings, lines and rollups are as they were"
    unknown = Correct(OCTOBER, ident(999), 1, (), "lost", state="priced")
    assert (await ledger.writer.load([other.entry(ident(1_000), unknown)])).dead_letters == 1


async def test_unpriced_calls_become_priced_once_all_of_them_is(ledger: Ledger) -> None:
    """Two attempts of one call without a price: the call has one when both have."""
    worker, keeper = Book(), Book(ident(2))
    unknown = Charge(CostState.UNPRICED, (Line("input", 100, None, 1, None, None, ""),), None, None)
    await ledger.writer.load(call(worker, 1, OCTOBER, unknown))
    call_id = ident(50, OCTOBER)
    first, second = ident(51, OCTOBER), ident(52, OCTOBER)
    records = [hold(first, ts_ms=OCTOBER, started_ms=OCTOBER), end(first, unknown.lines, posted=spent(9_000))]
    records += [hold(second, ts_ms=OCTOBER, started_ms=OCTOBER, attempt_no=2)]
    records += [end(second, unknown.lines, posted=spent(9_000))]
    records += [
        settle(second, started_ms=OCTOBER, attempts=2, cost_state="unpriced", list_nusd=None, effective_nusd=None)
    ]
    await ledger.writer.load(worker.entries(call_id, records))
    queries = SqlLedgerQueries(ledger.engine)
    (row,) = await queries.spend(SCOPE, ("org",), OCTOBER, NOVEMBER)
    assert (row.unpriced_calls, row.effective_nusd) == (2, 0)
    attempts = {attempt.attempt_id: attempt for attempt in await posted(ledger)}
    assert attempts[first].unpriced_others == (second,)
    assert attempts[first].call_unpriced
    (one,) = corrections([attempts[first]], RIGHT, OCTOBER)
    await load(ledger, keeper, [(one[0], msgspec.structs.replace(one[1], priced_calls=0))])
    (row,) = await queries.spend(SCOPE, ("org",), OCTOBER, NOVEMBER)
    assert (row.unpriced_calls, row.effective_nusd) == (2, 100)
    found = await queries.call(SCOPE, call_id)
    assert found is not None
    assert (found[0].cost_state, found[0].effective_nusd) == ("unpriced", None)
    left = [attempt for attempt in await posted(ledger) if attempt.state == "unpriced"]
    assert [attempt.unpriced_others for attempt in left] == [(), ()]
    await load(ledger, keeper, corrections(left, RIGHT, OCTOBER))
    (row,) = await queries.spend(SCOPE, ("org",), OCTOBER, NOVEMBER)
    assert (row.unpriced_calls, row.effective_nusd) == (0, 300)
    found = await queries.call(SCOPE, call_id)
    assert found is not None
    assert (found[0].cost_state, found[0].effective_nusd, found[0].corrected) == ("priced", 200, True)
    assert [attempt.takes for attempt in await posted(ledger)] == [spent(100)] * 3


async def test_a_call_shows_what_it_costs_now_and_how_that_came(ledger: Ledger) -> None:
    worker, keeper = Book(), Book(ident(2))
    entries = call(worker, 1, OCTOBER, priced(100, WRONG, margin=10))
    await ledger.writer.load(entries)
    for rate, day in ((RIGHT * 5, "2026-10-05"), (RIGHT, "2026-10-06")):
        await load(
            ledger, keeper, corrections(await posted(ledger), rate, at(day), Run(ident(int(day[-2:])), "f", day))
        )
    queries = SqlLedgerQueries(ledger.engine)
    found = await queries.call(SCOPE, entries[0].call_id)
    assert found is not None
    row, (attempt,) = found
    assert (row.effective_nusd, row.cost_state, row.corrected) == (100, "priced", True)
    assert (attempt.effective_nusd, attempt.billed_nusd, attempt.list_nusd) == (100, 100, 100)
    assert [(line.quantity, line.rate_pico) for line in attempt.lines] == [(100, RIGHT)]
    assert [(one.revision, one.reason, one.effective_nusd, one.billed_nusd) for one in attempt.corrections] == [
        (1, "2026-10-05", 500 - 100_000, 500 - 110_000),
        (2, "2026-10-06", -400, -400),
    ]
    assert [line.quantity for line in attempt.corrections[1].lines] == [-100, 100]
    (listed,) = await queries.calls(SCOPE)
    assert (listed.effective_nusd, listed.corrected) == (100, True)
    assert sum(row["effective_nusd"] for row in await ledger.rows(LEDGER_LINE)) == 100
    assert sum(row["effective_nusd"] for row in await ledger.rows(POSTING)) == 100


async def test_what_is_asked_for_is_found_and_nothing_else(ledger: Ledger) -> None:
    book = Book()
    for number in range(30):
        who = {"team": f"t{number % 2}", "key_id": f"k{number % 3}", "model_asked": f"m{number % 5}"}
        who["org"] = "other" if number == 29 else "acme"
        await ledger.writer.load(call(book, number, OCTOBER + number * 86_400_000, priced(100, WRONG), **who))
    assert len(await posted(ledger)) == 29
    assert len(await posted(ledger, scope=QueryScope("other"))) == 1
    assert len(await posted(ledger, scope=QueryScope("acme", "t0", "k1"))) == 5
    assert len(await posted(ledger, Span(OCTOBER, NOVEMBER, "m3"))) == 6
    assert len(await posted(ledger, Span(OCTOBER, NOVEMBER, "openai/gpt-x-1"))) == 29
    days = Span(OCTOBER + 3 * 86_400_000, OCTOBER + 7 * 86_400_000)
    for at_once in (1, 2, 100):
        found = await posted(ledger, days, at_once=at_once)
        assert [attempt.started_ms for attempt in found] == [OCTOBER + day * 86_400_000 for day in range(3, 7)]


# ---------------------------------------------------------------- closed months


async def test_months_are_closed_in_their_order_and_once(ledger: Ledger) -> None:
    book, periods = Book(), SqlPeriods(ledger.engine)
    assert await periods.next_ms("acme") == 0
    with pytest.raises(Conflict, match="Nothing is recorded"):
        await periods.close("acme", SEPTEMBER, NOVEMBER, "f", "a slip, and every month since would have to be closed")
    await ledger.writer.load(call(book, 1, SEPTEMBER + 5, priced(1, WRONG)))
    await ledger.writer.load(call(book, 2, NOVEMBER + 5, priced(2, WRONG)))
    assert await periods.next_ms("acme") == SEPTEMBER
    with pytest.raises(Conflict, match="2026-09 is open"):
        await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
    await periods.close("acme", SEPTEMBER, NOVEMBER, "f", "")
    with pytest.raises(Conflict, match="closed already"):
        await periods.close("acme", SEPTEMBER, NOVEMBER, "f", "")
    empty = await periods.close("acme", OCTOBER, NOVEMBER, "f", "nothing happened")
    assert (empty.sums.rollups, empty.sums.calls) == (0, 0)
    assert [one.name for one in await periods.closed("acme")] == ["2026-09", "2026-10"]
    assert await periods.closed("other") == []
    assert await periods.next_ms("acme") == NOVEMBER
    assert await SqlLedgerProof(ledger.engine).changed_months() == []


async def test_a_month_with_calls_that_have_not_ended_is_not_closed(ledger: Ledger) -> None:
    book, periods = Book(), SqlPeriods(ledger.engine)
    running = call(book, 1, OCTOBER + 5, priced(1, WRONG))
    await ledger.writer.load(running[:2])
    assert await periods.unfinished("acme", OCTOBER) == 2
    await ledger.writer.load(call(book, 2, OCTOBER + 6, priced(1, WRONG)))
    with pytest.raises(Conflict, match="2 calls or attempts of 2026-10"):
        await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
    other = Book(book.journal_id, 8)
    await ledger.writer.load(other.entries(running[0].call_id, [running[2].record, running[3].record]))
    assert (await periods.close("acme", OCTOBER, NOVEMBER, "f", "")).sums.calls == 2


async def test_what_comes_late_counts_in_the_open_month(ledger: Ledger) -> None:
    """A journal that was found again, or a clock that was wrong: nothing is lost, and what is closed stays so."""
    book, late, periods = Book(), Book(ident(9)), SqlPeriods(ledger.engine)
    await ledger.writer.load(call(book, 1, OCTOBER + 5, priced(100, WRONG)))
    closed = await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
    await ledger.writer.load(call(late, 2, OCTOBER + 6, priced(100, WRONG)))
    await ledger.writer.load(call(late, 3, OCTOBER + 7, priced(100, WRONG), org="other"))
    assert await periods.sums("acme", OCTOBER) == closed.sums
    assert await month(ledger, NOVEMBER, at("2026-12-01")) == (1, 0, 0, 100_000)
    proof = SqlLedgerProof(ledger.engine)
    assert (await proof.verify_sums(), await proof.changed_months()) == ([], [])
    (row,) = await SqlLedgerQueries(ledger.engine).spend(QueryScope("other"), ("org",), OCTOBER, NOVEMBER)
    assert row.effective_nusd == 100_000, "another org has not closed it"


async def test_a_load_that_has_begun_is_in_the_month_that_is_closed(ledger: Ledger) -> None:
    """Whoever loads has asked which months are closed before it writes: a closing waits for it."""
    book, periods = Book(), SqlPeriods(ledger.engine)
    await ledger.writer.load(call(book, 1, OCTOBER + 5, priced(100, WRONG)))
    statements = Statements(int(migrate.head("ledger")))
    async with writing(ledger.engine) as connection:
        assert await closed_until(connection, statements) == {}
        closing = asyncio.create_task(periods.close("acme", OCTOBER, NOVEMBER, "f", ""))
        await asyncio.sleep(0.1)
        await store_straight(connection, statements, call(book, 2, OCTOBER + 6, priced(100, WRONG)))
        await connection.execute(update(JOURNAL_CURSOR).values(seq=book.seq))  # as a load does: by it, it is noticed
        assert not closing.done()
    closed = await closing
    assert (closed.sums.calls, closed.sums.effective_nusd) == (2, 200_000)
    assert await SqlLedgerProof(ledger.engine).changed_months() == []
    await ledger.writer.load(call(Book(ident(9)), 3, OCTOBER + 7, priced(100, WRONG)))
    assert await month(ledger, OCTOBER, NOVEMBER) == (2, 200_000, 200_000, 0)


async def test_a_closed_month_that_was_changed_is_told(ledger: Ledger) -> None:
    book, periods = Book(), SqlPeriods(ledger.engine)
    for number in range(3):
        await ledger.writer.load(call(book, number, OCTOBER + number * 86_400_000, priced(100, WRONG)))
    await periods.close("acme", OCTOBER, NOVEMBER, "f", "")
    async with writing(ledger.engine) as connection:
        await connection.execute(update(ROLLUP_HOUR).values(effective_nusd=ROLLUP_HOUR.c.effective_nusd + 1))
    assert await SqlLedgerProof(ledger.engine).changed_months() == [
        "2026-10 acme: effective_nusd 300000 then, 300003 now, billed_nusd 300000 then, 300003 now"
    ]
    async with writing(ledger.engine) as connection:
        first = ROLLUP_HOUR.c.hour_ms == OCTOBER
        change = ROLLUP_HOUR.c.effective_nusd - 1
        await connection.execute(update(ROLLUP_HOUR).values(effective_nusd=change))
        await connection.execute(update(ROLLUP_HOUR).where(first).values(duration_us=1))
    assert await SqlLedgerProof(ledger.engine).changed_months() == ["2026-10 acme: the same sums over other rows"]
    assert await ledger.count(CORRECTION) == 0


async def test_a_price_for_the_one_meter_that_had_none_adds_up(ledger: Ledger) -> None:
    """Input was priced and audio was not: nothing was counted, and after the correction all of it is, once."""
    worker, keeper = Book(), Book(ident(2))
    lines = (Line("input", 100, WRONG, 1, 100_000, 100_000, "r"), Line("input_audio", 5, None, 1, None, None, ""))
    await ledger.writer.load(call(worker, 1, OCTOBER, Charge(CostState.UNPRICED, lines, None, None)))
    await load(ledger, keeper, corrections(await posted(ledger), RIGHT, at("2026-10-05")))
    (attempt,) = await posted(ledger)
    assert (attempt.state, attempt.effective_nusd, len(attempt.lines)) == ("priced", 105, 1)
    assert await month(ledger, OCTOBER, NOVEMBER) == (1, 105, 105, 0)


async def test_lines_of_nothing_are_taken_back_like_others(ledger: Ledger) -> None:
    worker, keeper = Book(), Book(ident(2))
    nothing = Line("output", 0, WRONG, 1, 0, 0, "r")
    charge = priced(100, WRONG)
    await ledger.writer.load(call(worker, 1, OCTOBER, msgspec.structs.replace(charge, lines=(*charge.lines, nothing))))
    for rate in (RIGHT * 2, RIGHT):
        await load(ledger, keeper, corrections(await posted(ledger), rate, at("2026-10-05")))
        (attempt,) = await posted(ledger)
        assert [(line.meter, line.quantity, line.rate_pico) for line in attempt.lines] == [("input", 100, rate)]
