"""The audit finds every planted mistake, and the comparison with a witness every attempt that does not agree."""

from __future__ import annotations

import pytest
from ledger_script import end, entries, hold, name_id, records, settle

from gateway.core.charge import Line
from gateway.core.ids import print_id
from gateway.core.records import AnyRecord, Dispatch, Entry, Void
from gateway.ledger.audit import Flag, Gap, Spend, SpendKey, WitnessRow, audit, compare_witness, spend_day

GOOD = """
    hold c1 a1 usd=600 count requests=1 bound 600
    dispatch a1
    shrink a1 usd=100 bound 500
    progress a1 1 1
    end a1 usd=350
    settle c1
    correct a1 r1 usd=0
    hold c2 a2 usd=50
    void a2
    hold c2 a3 usd=50
    dispatch a3
    end a3 usd=20
    settle c2
    settle c3
"""


def figures(script: str):
    return audit(entries(records(script)))


def test_a_good_journal_is_clean() -> None:
    found = figures(GOOD)
    assert found.clean
    assert (found.records, found.calls, found.attempts) == (14, 3, 3)
    assert (found.ended_once, found.settled_once, found.open_holds) == (3, 3, 0)
    assert found.spent == {"usd": 370, "requests": 1}
    assert found.reserved == {}


@pytest.mark.parametrize(
    ("drop", "add", "expected"),
    [
        ("settle c1", "", {"settled_never": 1}),
        ("", "settle c1", {"settled_twice": 1, "anomaly_count": 1}),
        ("end a1 usd=350", "", {"ended_never": 1, "open_holds": 1, "anomaly_count": 1}),
        ("", "end a1 usd=350", {"ended_twice": 1, "anomaly_count": 1}),
        ("hold c2 a3 usd=50", "", {"anomaly_count": 2, "attempts": 2}),
    ],
)
def test_planted_mistakes(drop: str, add: str, expected: dict[str, int]) -> None:
    every = records(GOOD + add)
    lines = [line.strip() for line in (GOOD + add).strip().splitlines() if line.strip()]
    kept = [record for line, record in zip(lines, every, strict=True) if line != drop]
    found = audit(entries(kept))
    assert not found.clean
    assert {name: getattr(found, name) for name in expected} == expected
    if add.startswith("end"):
        assert found.spent["usd"] == 370


def test_a_missing_record_is_a_gap_and_journals_are_told_apart() -> None:
    one, two = entries(records(GOOD)), entries(records("settle c7\nsettle c8"), b"k" * 16)
    assert audit([*two[:1], *one, *two[1:]]).clean
    found = audit([*one[:-1], *two, Entry(b"j" * 16, 17, one[-1].call_id, one[-1].record, 1, 0)])
    assert found.gaps == [Gap(b"j" * 16, 14, 16)]
    assert not found.clean


def journal(*attempts: tuple[str, AnyRecord | None, bool]) -> list[Entry]:
    """Each (name, end, dispatched) as a call of its own."""
    history: list[tuple[bytes, AnyRecord]] = []
    for name, ended, dispatched in attempts:
        call_id = name_id(f"call {name}")
        history.append((call_id, hold(name, "usd=100", bound_nusd=100)))
        if dispatched:
            history.append((call_id, Dispatch(1, name_id(name))))
        if ended is not None:
            history.append((call_id, ended))
        history.append((call_id, settle(name)))
    return entries(history)


def test_totals_that_are_not_the_sum_of_their_lines() -> None:
    line = Line("input", 3, 2_000, 1, 6, 6, "row")
    unpriced = Line("input", 3, None, 1, None, None, "")
    found = audit(
        journal(
            ("right", end("right", nusd=6, lines=(line,)), True),
            ("wrong", end("wrong", nusd=7, lines=(line,)), True),
            ("hidden", end("hidden", nusd=6, lines=(line, unpriced)), True),
            ("unknown", end("unknown", nusd=None, lines=(unpriced,), state="unpriced"), True),
            ("nothing", end("nothing", nusd=None, state="unpriced"), True),
        )
    )
    assert found.wrong_sums == [name_id("wrong"), name_id("hidden")]
    assert not found.clean


def test_an_attempt_over_its_bound() -> None:
    line = Line("input", 1, 101_000, 1, 101, 101, "row")
    found = audit(journal(("dear", end("dear", nusd=101, lines=(line,)), True)))
    assert found.over_bound == [name_id("dear")]
    shrunk = records("hold c1 a1 usd=600 bound 600\nshrink a1 usd=1 bound 100")
    shrunk.append((name_id("c1"), end("a1", nusd=101, lines=(line,))))
    assert audit(entries(shrunk)).over_bound == [name_id("a1")]


def test_sums_by_org_team_key_model_and_day() -> None:
    day_ms = 86_400_000
    lines = (Line("input", 1, 5_000, 1, 5, 5, "row"),)
    history: list[tuple[bytes, AnyRecord]] = []
    for name, ts_ms, nusd, state in (
        ("a1", day_ms - 1, 5, "priced"),
        ("a2", day_ms, 5, "estimated"),
        ("a3", day_ms, None, "unpriced"),
    ):
        call_id = name_id("call " + name)
        history.append((call_id, hold(name, ts_ms=ts_ms)))
        # It ends a day later and still belongs to the day on which its call started.
        ended = end(name, ts_ms=ts_ms + day_ms, nusd=nusd, lines=lines if nusd else (), state=state, tokens=(1, 2))
        history += [(call_id, ended), (call_id, settle(name))]
    key = SpendKey("acme", "team-a", "k1", "m-1", "1970-01-01")
    found = audit(entries(history))
    assert found.clean
    assert found.spend == {
        key: Spend(1, 5, 5, 0, 0, 1, 2, 5),
        SpendKey("acme", "team-a", "k1", "m-1", "1970-01-02"): Spend(2, 5, 5, 5, 1, 2, 4, 5),
    }
    assert spend_day(1_763_942_400_000) == "2025-11-24"


def row(name: str, usage: tuple[int, int] | None = (3, 4), *, first_byte: bool = True) -> WitnessRow:
    taken_in, put_out = usage if usage is not None else (None, None)
    return WitnessRow(print_id("att", name_id(name)), taken_in, put_out, None, usage is not None, first_byte)


def compare(rows: list[WitnessRow], *attempts: tuple[str, AnyRecord | None, bool]) -> list[tuple[str, str]]:
    flags = compare_witness(audit(journal(*attempts)).facts, rows)
    names = {print_id("att", name_id(name)): name for name, _, _ in attempts}
    return [(flag.kind, names.get(flag.attempt_id, "?")) for flag in flags]


def test_a_witness_that_agrees() -> None:
    ok = end("a", tokens=(3, 4))
    cut = end("b", outcome="client_gone", source="estimated", tokens=(9, 9))
    assert compare([row("a"), row("b", None)], ("a", ok, True), ("b", cut, True)) == []


@pytest.mark.parametrize(
    ("rows", "attempt", "expected"),
    [
        pytest.param([row("x")], ("a", Void(1, name_id("a"), "connect"), False), [("not_in_journal", "?")], id="lost"),
        pytest.param([row("a"), row("a")], ("a", end("a", tokens=(3, 4)), True), [("sent_twice", "a")], id="twice"),
        pytest.param([row("a")], ("a", end("a", tokens=(3, 4)), False), [("not_dispatched", "a")], id="undispatched"),
        pytest.param([row("a")], ("a", end("a", tokens=(3, 5)), True), [("usage_differs", "a")], id="other usage"),
        pytest.param(
            [row("a")], ("a", end("a", nusd=None, state="unpriced", tokens=(0, 0)), True), [], id="contradictory usage"
        ),
        pytest.param([row("a", None)], ("a", end("a", tokens=(3, 5)), True), [("usage_differs", "a")], id="invented"),
        pytest.param(
            [row("a")], ("a", Void(1, name_id("a"), "connect"), True), [("voided_but_served", "a")], id="given away"
        ),
        pytest.param([row("a", None, first_byte=False)], ("a", Void(1, name_id("a"), "x"), True), [], id="refused"),
        pytest.param([], ("a", end("a", tokens=(3, 4)), True), [("not_at_witness", "a")], id="billed, not served"),
        pytest.param([], ("a", None, True), [("not_at_witness", "a")], id="open, not served"),
        pytest.param([], ("a", end("a"), False), [], id="never sent"),
        pytest.param([], ("a", Void(1, name_id("a"), "connect"), True), [], id="voided"),
        *(
            pytest.param([], ("a", end("a", outcome=outcome, ttft_us=-1, source="estimated"), True), [], id=outcome)
            for outcome in ("crashed", "error", "lost", "timeout", "client_gone")
        ),
        pytest.param(
            [],
            ("a", end("a", outcome="error", ttft_us=12, source="estimated"), True),
            [("not_at_witness", "a")],
            id="an error after the first byte",
        ),
        pytest.param(
            [],
            ("a", end("a", outcome="crashed", ttft_us=-1, source="estimated", tokens=(1, 9)), True),
            [("not_at_witness", "a")],
            id="a crash after the first byte",
        ),
    ],
)
def test_differences(rows: list[WitnessRow], attempt: tuple, expected: list[tuple[str, str]]) -> None:
    assert compare(rows, attempt) == expected


def test_a_flag_says_what_differs() -> None:
    flags = compare_witness(audit(journal(("a", end("a", tokens=(3, 5)), True))).facts, [row("a")])
    assert flags == [Flag("usage_differs", print_id("att", name_id("a")), "journal (3, 5), witness (3, 4)")]
