"""Adoption: whatever a crash left open ends once, and a crash of the adopter changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ledger_script import entries, hold, name_id, records
from test_ledger_laws import fold, histories

from gateway.core.records import AnyRecord, AttemptEnd, Dispatch, Settle, Void
from gateway.ledger.adopt import closing_records
from gateway.ledger.audit import audit
from gateway.ledger.fold import Books


def books_of(script: str) -> Books:
    books = Books()
    for call_id, record in records(script):
        books.apply(record, call_id)
    assert books.anomaly_count == 0
    return books


def test_a_dispatched_attempt_ends_estimated_and_its_call_is_settled() -> None:
    books = books_of(
        """
        hold c1 a1 usd=900 count requests=1 bound 900 input 100
        void a1
        hold c1 a2 usd=900 bound 900 input 100
        dispatch a2
        progress a2 0 20
        """
    )
    (call_id, ended), (settled_call, settled) = closing_records(books, 77)
    assert call_id == settled_call == name_id("c1")
    assert isinstance(ended, AttemptEnd)
    assert (ended.outcome, ended.cause, ended.state, ended.effective_nusd) == (
        "crashed",
        "worker_crashed",
        "estimated",
        400,
    )
    assert isinstance(settled, Settle)
    assert (settled.attempt_id, settled.outcome, settled.attempts) == (name_id("a2"), "crashed", 2)
    assert settled.causes == ("connect", "worker_crashed")
    assert (settled.cost_state, settled.effective_nusd, settled.list_nusd) == ("estimated", 400, 400)
    assert (settled.input_tokens, settled.output_tokens, settled.row_ids) == (100, 20, ("row-in", "row-out"))
    assert (settled.org, settled.team, settled.model_asked, settled.deployment) == ("acme", "team-a", "fast", "p/m-1")
    assert (settled.duration_us, settled.counts, settled.ts_ms) == (-1, (), 77)


def test_an_attempt_not_dispatched_is_voided() -> None:
    (_, ended), (_, settled) = closing_records(books_of("hold c1 a1 usd=900"), 77)
    assert ended == Void(77, name_id("a1"), "worker_crashed")
    assert isinstance(settled, Settle)
    assert (settled.cost_state, settled.effective_nusd, settled.model_served) == ("priced", 0, "")


def test_a_call_whose_attempts_had_ended_keeps_what_they_cost() -> None:
    books = books_of("hold c1 a1 usd=900\ndispatch a1\nend a1 usd=5")
    ((_, settled),) = closing_records(books, 77)
    assert isinstance(settled, Settle)
    assert (settled.model_served, settled.finish_reason, settled.raw_usage) == ("m-1-2026", "stop", b"{}")
    assert (settled.cost_state, settled.causes, settled.ttft_us) == ("priced", (), 5)


def test_an_unpriced_attempt_makes_the_calls_cost_unknown() -> None:
    books = Books()
    books.apply(hold("a1", "usd=900", input_estimate=9, rates=()), name_id("c1"))
    books.apply(Dispatch(1, name_id("a1")), name_id("c1"))
    _, (_, settled) = closing_records(books, 77)
    assert isinstance(settled, Settle)
    assert (settled.cost_state, settled.effective_nusd) == ("unpriced", None)


def test_only_the_named_calls_are_ended() -> None:
    books = books_of("hold c1 a1 usd=900\nhold c2 a2 usd=900\nhold c3 a3 usd=1\nsettle c4")
    closing = closing_records(books, 77, calls={name_id("c1"), name_id("c3")})
    assert {call_id for call_id, _ in closing} == {name_id("c1"), name_id("c3")}
    assert len(closing) == 4


def test_a_hold_left_behind_by_its_settled_call_is_ended_too() -> None:
    books = Books()
    for call_id, record in records("hold c1 a1 usd=900\ndispatch a1\nsettle c1"):
        books.apply(record, call_id)
    ((_, ended),) = closing_records(books, 77)
    assert isinstance(ended, AttemptEnd)


@given(histories(), st.data())
def test_everything_ends_once_however_often_the_adopter_dies(
    history: list[tuple[bytes, AnyRecord]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    journal = history[:cut]
    for _ in range(3):
        closing = closing_records(fold(journal), 1000)
        journal = journal + closing[: data.draw(st.integers(0, len(closing)))]
    journal = journal + closing_records(fold(journal), 2000)
    books = fold(journal)
    assert not books.holds
    assert not books.calls
    assert books.anomaly_count == 0
    assert all(counter.reserved == 0 for counter in books.counters.values())
    assert closing_records(books, 3000) == []
    assert audit(entries(journal)).clean
