"""Laws of the fold for any history: it agrees with a plain model, survives a checkpoint anywhere, and nothing counts
twice."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from ledger_script import name_id, records

from gateway.core.records import AnyRecord, AttemptEnd, Hold, Settle, Shrink, Void
from gateway.ledger.fold import Books

COUNTERS = ("usd@a", "usd@b", "tokens@c", "usd@day/40")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[bytes, AnyRecord]]:
    """Calls with one to three attempts each, interleaved, some left open; time never goes back."""
    waiting: list[list[str]] = []
    for call in range(draw(st.integers(1, 5))):
        lines: list[str] = []
        for attempt in range(draw(st.integers(1, 3))):
            name = f"a{call}.{attempt}"
            takes = {counter: draw(st.integers(0, 50)) for counter in draw(st.sets(st.sampled_from(COUNTERS)))}
            held = " ".join(f"{counter}={amount}" for counter, amount in takes.items())
            count = f" count requests={draw(st.integers(0, 2))}" if not attempt else ""
            lines.append(f"hold c{call} {name} {held}{count} bound 100")
            if draw(st.booleans()):
                freed = " ".join(f"{counter}={draw(st.integers(0, amount))}" for counter, amount in takes.items())
                lines.append(f"shrink {name} {freed} bound {draw(st.integers(0, 100))}")
            if draw(st.booleans()):
                lines.append(f"dispatch {name}")
            posted = " ".join(f"{counter}={draw(st.integers(0, 60))}" for counter in takes)
            lines.append(draw(st.sampled_from((f"end {name} {posted}", f"void {name}"))))
        lines.append(f"settle c{call}")
        waiting.append(lines[: draw(st.integers(0, len(lines)))] if draw(st.booleans()) else lines)
    mixed: list[str] = []
    ts_ms = 1
    while any(waiting):
        lines = draw(st.sampled_from([lines for lines in waiting if lines]))
        ts_ms += draw(st.integers(0, 4))
        mixed.append(f"{lines.pop(0)} at {ts_ms}")
    return records("\n".join(mixed))


def fold(history: list[tuple[bytes, AnyRecord]], *, forget: bool = False) -> Books:
    books = Books(forget=forget)
    for call_id, record in history:
        books.apply(record, call_id)
    return books


@given(histories())
def test_spent_and_reserved_are_what_a_plain_model_says(history: list[tuple[bytes, AnyRecord]]) -> None:
    spent: dict[str, int] = defaultdict(int)
    held: dict[bytes, dict[str, int]] = {}
    for _, record in history:
        match record:
            case Hold():
                held[record.attempt_id] = {take.counter: take.amount for take in record.takes}
                for take in record.counts:
                    spent[take.counter] += take.amount
            case Shrink():
                for take in record.freed:
                    held[record.attempt_id][take.counter] -= take.amount
            case AttemptEnd():
                del held[record.attempt_id]
                for take in record.posted:
                    spent[take.counter] += take.amount
            case Void():
                del held[record.attempt_id]
            case _:
                pass
    books = fold(history)
    assert books.anomaly_count == 0
    for name in {*spent, *(name for takes in held.values() for name in takes)}:
        assert books.standing(name) == (spent[name], sum(takes.get(name, 0) for takes in held.values()))
    assert set(books.holds) == set(held)


@given(histories(), st.data())
def test_a_checkpoint_anywhere_changes_nothing(history: list[tuple[bytes, AnyRecord]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(history)))
    whole = fold(history, forget=True)
    books = Books.load(fold(history[:cut], forget=True).dump())
    for call_id, record in history[cut:]:
        books.apply(record, call_id)
    assert books.dump() == whole.dump()


@given(histories(), st.data())
def test_replaying_any_part_of_a_settled_history_changes_no_counter(
    history: list[tuple[bytes, AnyRecord]], data: st.DataObject
) -> None:
    settled = {call_id for call_id, record in history if isinstance(record, Settle)}
    replayed = data.draw(st.lists(st.sampled_from(history))) if history else []
    books = fold(history)
    before = {name: books.standing(name) for name in books.counters}
    expected = 0
    for call_id, record in replayed:
        if call_id in settled:
            books.apply(record, call_id)
            expected += 1
    assert {name: books.standing(name) for name in books.counters} == before
    assert books.anomaly_count == expected


@given(histories())
def test_forgetting_drops_only_counters_whose_time_is_over(history: list[tuple[bytes, AnyRecord]]) -> None:
    kept, books = fold(history), fold(history, forget=True)
    for name, counter in kept.counters.items():
        dropped = 0 < counter.expires_ms < kept.newest_ms and counter.reserved == 0
        assert (name in books.counters) != dropped
        if not dropped:
            assert books.counters[name].reserved == counter.reserved
    assert books.holds.keys() == kept.holds.keys()


@given(histories())
def test_when_everything_has_ended_nothing_is_reserved(history: list[tuple[bytes, AnyRecord]]) -> None:
    books = fold(history)
    for attempt_id in list(books.holds):
        books.apply(Void(99, attempt_id, "test"), books.holds[attempt_id].call_id)
    assert all(counter.reserved == 0 for counter in books.counters.values())
    assert name_id("a0.0") not in books.holds
