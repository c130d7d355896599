"""The fold, as tables: what each record does to counters, and what contradicts an earlier one."""

from __future__ import annotations

import pytest
from ledger_script import Script, name_id, records

from gateway.core.errors import JournalUnreadable
from gateway.core.records import Handover, Stat
from gateway.ledger.fold import KEPT_ANOMALIES, REMEMBERED_CALLS, REMEMBERED_CORRECTIONS, Books


def run(script: str) -> Books:
    """Applies the lines. `-> usd 3+7` after a line says spent 3, reserved 7; `-> kind` that it is an anomaly,
    `-> frees usd tokens` what `apply` returns. A checkpoint after every line must change nothing."""
    books = Books()
    reader = Script()
    for line in script.strip().splitlines():
        text, _, expected = line.partition("->")
        if not text.strip():
            continue
        call_id, record = reader.read(text)
        freed = books.apply(record, call_id)
        kinds = [anomaly.kind for anomaly in books.drain_anomalies()]
        words = expected.split()
        if words and words[0] == "frees":
            assert list(freed) == words[1:], line
            words = []
        assert kinds == [word for word in words if word.replace("_", "").isalpha() and "_" in word], line
        for counter, standing in zip(words[::2], words[1::2], strict=False):
            if "+" in standing:
                spent, reserved = map(int, standing.split("+"))
                assert books.standing(counter) == (spent, reserved), line
        dumped = books.dump()
        books = Books.load(dumped)
        assert books.dump() == dumped
    return books


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            """
            hold c1 a1 usd=600 tokens=90 count requests=1   -> usd 0+600 tokens 0+90 requests 1+0
            dispatch a1                                     -> usd 0+600
            shrink a1 usd=200 bound 400                     -> usd 0+400 tokens 0+90
            progress a1 10 20                               -> usd 0+400
            end a1 usd=350 tokens=30                        -> usd 350+0 tokens 30+0
            settle c1                                       -> usd 350+0 requests 1+0
            """,
            id="a call from hold to settle",
        ),
        pytest.param(
            """
            hold c1 a1 usd=600 count requests=1   -> usd 0+600 requests 1+0
            void a1                               -> usd 0+0
            hold c1 a2 usd=500                    -> usd 0+500 requests 1+0
            end a2 usd=450                        -> usd 450+0
            settle c1                             -> usd 450+0 requests 1+0
            """,
            id="a second attempt holds again, the request counts once",
        ),
        pytest.param(
            """
            hold c1 a1 usd=600   -> usd 0+600
            hold c2 a2 usd=600   -> usd 0+1200
            end a1               -> usd 0+600
            end a2 usd=700       -> usd 700+0
            """,
            id="a counter not listed spent 0; more than was held is recorded, not clamped",
        ),
        pytest.param("settle c1 count requests=1 -> requests 1+0", id="refused before its first hold"),
        pytest.param(
            """
            hold c1 a1 usd=600                -> usd 0+600
            end a1 usd=500                    -> usd 500+0
            correct a1 r1 usd=-120            -> frees usd
            correct a1 r2 usd=20              -> usd 400+0
            correct a1 r1 usd=-120            -> corrected_twice
            correct a1 r3 usd=0               -> usd 400+0
            """,
            id="a correction is signed and counts once",
        ),
    ],
)
def test_standings(script: str) -> None:
    books = run(script)
    assert not books.holds
    assert books.anomaly_count == script.count("_twice")


@pytest.mark.parametrize(
    "script",
    [
        """
        hold c1 a1 usd=600    -> usd 0+600
        end a1 usd=350        -> usd 350+0
        end a1 usd=350        -> attempt_ended_twice
        void a1               -> attempt_ended_twice
        settle c1             -> usd 350+0
        end a1 usd=350        -> attempt_ended_twice
        settle c1             -> call_settled_twice
        hold c1 a1 usd=600    -> hold_twice
        hold c1 a9 usd=600    -> hold_twice
        """,
        """
        end a7 usd=5          -> attempt_unknown
        void a7               -> attempt_unknown
        dispatch a7           -> attempt_unknown
        progress a7 1 1       -> attempt_unknown
        shrink a7 usd=1       -> attempt_unknown
        """,
        """
        hold c1 a1 usd=600    -> usd 0+600
        hold c1 a1 usd=600    -> hold_twice
        void a1               -> usd 0+0
        hold c1 a1 usd=600    -> hold_twice
        dispatch a1           -> record_after_end
        progress a1 1 1       -> record_after_end
        shrink a1 usd=1       -> record_after_end
        """,
        """
        hold c1 a1 usd=600    -> usd 0+600
        shrink a1 usd=700     -> freed_more_than_held
        shrink a1 tokens=1    -> freed_more_than_held
        end a1                -> usd 0+0
        """,
        """
        hold c1 a1 usd=600    -> usd 0+600
        settle c1             -> settled_with_open_hold
        end a1 usd=10         -> usd 10+0
        settle c1             -> call_settled_twice
        """,
        """
        settle c1 attempt a1  -> call_unknown
        settle c2 count requests=1 -> requests 1+0
        settle c2 count requests=1 -> call_settled_twice
        """,
    ],
)
def test_contradictions_have_no_effect_and_are_alarms(script: str) -> None:
    books = run(script)
    assert not books.holds
    assert books.anomaly_count == sum(
        script.count(kind) for kind in ("_twice", "_unknown", "_end\n", "_held", "_open_")
    )


def test_apply_names_the_counters_whose_reservation_fell() -> None:
    run(
        """
        hold c1 a1 usd=600 tokens=9 count requests=1   -> frees
        shrink a1 usd=100                              -> frees usd
        dispatch a1                                    -> frees
        end a1 usd=500 tokens=9                        -> frees usd tokens
        hold c1 a2 usd=600                             -> frees
        void a2                                        -> frees usd
        settle c1                                      -> frees
        """
    )


def test_a_shrink_lowers_the_bound_and_never_raises_it() -> None:
    books = run("hold c1 a1 usd=600 bound 600\nshrink a1 usd=1 bound 500\nshrink a1 usd=1 bound 550\nshrink a1 usd=1")
    assert books.holds[name_id("a1")].bound_nusd == 500
    books = run("hold c1 a1\nshrink a1 bound 70")
    assert books.holds[name_id("a1")].bound_nusd == 70


def test_two_takes_of_one_counter_are_one_reservation() -> None:
    books = run("hold c1 a1 usd=600 usd=50 -> usd 0+650\nend a1 usd=10 -> usd 10+0")
    assert books.counters["usd"].reserved == 0


def test_a_counter_lives_as_long_as_its_window_or_its_last_hold() -> None:
    books = run(
        """
        hold c1 a1 usd@day/100=600 count requests@day/100=1 at 5   -> usd@day 0+600 requests@day 1+0
        hold c2 a2 usd@day/100=50 at 100                           -> usd@day 0+650 requests@day 1+0
        hold c3 a3 usd@next/200=7 at 101                           -> requests@day 0+0 usd@day 0+650
        end a1 usd@day/100=500 at 102                              -> usd@day 500+50
        end a2 usd@day/100=40 at 103                               -> usd@day 0+0
        end a3 usd@next/200=7 at 104                               -> usd@next 7+0
        settle c9 count requests@day/100=1 at 105                  -> requests@day 0+0
        """
    )
    assert list(books.counters) == ["usd@next"]


def test_an_audits_books_keep_every_counter() -> None:
    books = Books(forget=False)
    for call_id, record in records(
        """
        hold c1 a1 usd@day/100=600 at 5
        end a1 usd@day/100=500 at 50
        hold c2 a2 usd@next/300=7 at 200
        end a2 usd@day/100=1 at 250
        """
    ):
        books.apply(record, call_id)
    assert books.standing("usd@day") == (501, 0)
    assert Books.load(books.dump()).forget is False


def test_records_that_move_nothing() -> None:
    books = Books()
    assert books.apply(Stat(5, {"unknown_key": 3}), b"") == ()
    assert books.apply(Handover(6, b"j" * 16), b"") == ()
    assert books.newest_ms == 6
    assert books.anomaly_count == 0


def test_memory_of_settled_calls_and_of_anomalies_is_bounded() -> None:
    books = Books()
    script = Script()
    for number in range(2 * REMEMBERED_CALLS + 10):
        call_id, record = script.read(f"settle c{number}")
        books.apply(record, call_id)
    assert len(books._recent) + len(books._older) <= 2 * REMEMBERED_CALLS
    late = f"settle c{2 * REMEMBERED_CALLS}"
    for _ in range(KEPT_ANOMALIES + 5):
        call_id, record = script.read(late)
        books.apply(record, call_id)
    assert books.anomaly_count == KEPT_ANOMALIES + 5
    assert len(books.drain_anomalies()) == KEPT_ANOMALIES
    assert books.anomalies == []
    for revision in range(REMEMBERED_CORRECTIONS + 5):
        books.apply(script.read(f"correct a1 r{revision} usd=1")[1], b"")
    assert len(books._corrected) == REMEMBERED_CORRECTIONS


def test_a_checkpoint_of_another_version_is_refused() -> None:
    dumped = Books().dump()
    assert dumped[1] == 1
    with pytest.raises(JournalUnreadable, match="version 2"):
        Books.load(dumped[:1] + b"\x02" + dumped[2:])
    with pytest.raises(JournalUnreadable, match="not a checkpoint"):
        Books.load(b"nonsense")
    with pytest.raises(JournalUnreadable, match="not a checkpoint"):
        Books.load(dumped[:-1])
