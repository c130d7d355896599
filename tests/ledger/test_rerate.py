"""Corrections as a bookkeeper reads them: what each posting says, what all of them come to, and laws for any prices."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_script import name_id

from gateway.core.charge import Charge, CostState, Line, PriceRow, PriceSheet
from gateway.core.corrections import PostedAttempt
from gateway.core.limits import Take, Unit
from gateway.core.money import line_nusd
from gateway.core.records import Correct, RecordType, decode_record
from gateway.core.usage import Meter, Usage
from gateway.ledger.fold import Books
from gateway.ledger.posted import differences, posting_of
from gateway.ledger.rerate import Left, Run, correction, gives_price, net_takes, usage_of
from gateway.pricing.arithmetic import charge as priced_again
from gateway.store.ledger_rows import total_fault

RUN = Run(name_id("run"), "finance", "wrong by 1 000")
COUNTERS = ("limit_a|key|2026-10", "limit_b|team|total")


def priced(quantities: dict[str, int], rates: dict[str, int], *, margin: int = 0) -> Charge:
    """Lines of quantity × rate; billed `margin` per cent more."""
    lines = tuple(
        Line(
            meter,
            quantity,
            rates[meter],
            1,
            nusd := line_nusd(rates[meter], quantity, 1),
            nusd,
            f"{meter}@{rates[meter]}",
            own_billed_nusd=nusd + nusd * margin // 100 if margin else None,
        )
        for meter, quantity in quantities.items()
    )
    total = sum(line.effective_nusd or 0 for line in lines)
    billed = sum(line.billed_nusd or 0 for line in lines)
    return Charge(CostState.PRICED, lines, total, total, None if billed == total else billed)


def takes(amount: int) -> tuple[Take, ...]:
    return tuple(Take(name, name.partition("|")[0], Unit.USD, amount) for name in COUNTERS)


def attempt(charge: Charge, *, posted: int | None = None, **changes: object) -> PostedAttempt:
    """As it stands after its end; `posted` is what its counters were posted (None: its cost)."""
    values: dict[str, object] = {
        "attempt_id": name_id("a1"),
        "call_id": name_id("c1"),
        "held_ms": 5,
        "started_ms": 1,
        "org": "acme",
        "team": "search",
        "key_id": "key_1",
        "provider": "openai",
        "deployment": "openai/m",
        "config_revision": 1,
        "model": "m",
        "model_asked": "m",
        "revision": 0,
        "state": charge.state.value,
        "source": "provider",
        "list_nusd": charge.list_nusd,
        "effective_nusd": charge.effective_nusd,
        "billed_nusd": charge.billed_nusd,
        "lines": charge.lines,
        "takes": takes((charge.effective_nusd or 0) if posted is None else posted),
    }
    return PostedAttempt(**{**values, **changes})  # type: ignore[arg-type]


def after(before: PostedAttempt, record: Correct) -> PostedAttempt:
    """What SQL says once it has the record: sums of all postings, lines that were not taken back."""
    known = before.effective_nusd is not None
    return attempt(
        Charge(
            CostState(record.state),
            tuple(line for line in record.lines if line.quantity >= 0),
            record.list_nusd + (before.list_nusd or 0),
            record.effective_nusd + (before.effective_nusd or 0) if known else record.effective_nusd,
            record.billed_nusd + (before.billed_nusd or 0),
        ),
        revision=record.revision,
        source=record.source,
        takes=net_takes((*before.takes, *record.takes)),
    )


def test_wrong_by_1000_and_corrected_line_by_line() -> None:
    """What a bookkeeper sees: the wrong lines once, the same lines taken back, the right ones."""
    wrong = priced({"input": 10, "output": 20}, {"input": 150_000_000, "output": 600_000_000})
    right = priced({"input": 10, "output": 20}, {"input": 150_000, "output": 600_000})
    record = correction(attempt(wrong), right, RUN, 99)
    assert isinstance(record, Correct)
    posted = [*wrong.lines, *record.lines]
    assert [(line.meter, line.quantity, line.rate_pico, line.effective_nusd) for line in posted] == [
        ("input", 10, 150_000_000, 1_500_000),
        ("output", 20, 600_000_000, 12_000_000),
        ("input", -10, 150_000_000, -1_500_000),
        ("output", -20, 600_000_000, -12_000_000),
        ("input", 10, 150_000, 1_500),
        ("output", 20, 600_000, 12_000),
    ]
    assert (record.kind, record.revision, record.state, record.actor) == ("rerate", 1, "priced", "finance")
    assert record.effective_nusd == 13_500 - 13_500_000
    assert [(take.counter, take.amount) for take in record.takes] == [(name, 13_500 - 13_500_000) for name in COUNTERS]


def test_what_was_unpriced_gets_its_price_and_gives_the_rest_of_its_hold_back() -> None:
    """Its counters were posted the whole bound: money that cannot be seen is not given back, until it can."""
    unknown = Charge(CostState.UNPRICED, (Line("input", 10, None, 1, None, None, ""),), None, None)
    before = attempt(unknown, posted=5_000)
    right = priced({"input": 10}, {"input": 20_000})
    record = correction(before, right, RUN, 99, priced_calls=1)
    assert isinstance(record, Correct)
    assert gives_price(before, right)
    assert [(line.quantity, line.rate_pico, line.effective_nusd) for line in record.lines] == [
        (-10, None, 0),
        (10, 20_000, 200),
    ]
    assert (record.effective_nusd, record.list_nusd, record.billed_nusd, record.priced_calls) == (200, 200, 200, 1)
    assert {take.amount for take in record.takes} == {200 - 5_000}


def test_what_was_unpriced_in_part_has_no_money_to_undo() -> None:
    """Input had a price, audio had none: the attempt was counted with no cost at all, and gets all of it now."""
    lines = (Line("input", 10, 1_000, 1, 10, 10, "r", 12), Line("input_audio", 5, None, 1, None, None, ""))
    before = attempt(Charge(CostState.UNPRICED, lines, None, None), posted=5_000)
    right = priced({"input": 10, "input_audio": 5}, {"input": 1_000, "input_audio": 2_000})
    record = correction(before, right, RUN, 99)
    assert isinstance(record, Correct)
    assert (record.list_nusd, record.effective_nusd, record.billed_nusd) == (20, 20, 20)
    assert total_fault(record) == ""
    assert [(line.quantity, line.effective_nusd, line.billed_nusd) for line in record.lines[:2]] == [
        (-10, 0, 0),
        (-5, 0, 0),
    ]
    again = correction(
        after(before, record),
        priced({"input": 10, "input_audio": 5}, dict.fromkeys(("input", "input_audio"), 3_000)),
        RUN,
        99,
    )
    assert isinstance(again, Correct)
    assert (again.effective_nusd, total_fault(again)) == (45 - 20, "")


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (priced({"input": 10}, {"input": 20_000}), None),
        (Charge(CostState.UNPRICED, (), None, None), Left.NO_PRICE),
    ],
    ids=["costs that already", "no price any more"],
)
def test_what_is_left_alone(now: Charge, why: Left | None) -> None:
    assert correction(attempt(priced({"input": 10}, {"input": 20_000})), now, RUN, 99) is why


def test_the_same_sum_of_other_lines_is_corrected() -> None:
    """A price moved from output to input: the total is the same, and a report by meter is not."""
    before = attempt(priced({"input": 10, "output": 10}, {"input": 1_000, "output": 3_000}))
    record = correction(before, priced({"input": 10, "output": 10}, {"input": 3_000, "output": 1_000}), RUN, 99)
    assert isinstance(record, Correct)
    assert (record.effective_nusd, record.takes) == (0, ())


def test_a_margin_alone_changes_what_is_billed_and_no_counter() -> None:
    before = attempt(priced({"input": 10}, {"input": 20_000}))
    record = correction(before, priced({"input": 10}, {"input": 20_000}, margin=10), RUN, 99)
    assert isinstance(record, Correct)
    assert (record.effective_nusd, record.list_nusd, record.billed_nusd, record.takes) == (0, 0, 20, ())


LINES = (
    ("plain", [("input", 3, ""), ("output", 4, "")], "", {"input": 3, "output": 4}, 0),
    ("reasoning apart", [("output", 4, ""), ("reasoning", 6, "")], "", {"output": 10}, 0),
    ("a fee by the request", [("input", 3, ""), ("request_high", 1, "")], "high", {"input": 3}, 0),
    ("two runs of one model", [("input", 3, "message"), ("input", 5, "message")], "", {"input": 8}, 2),
    ("runs of two models", [("input", 3, "big"), ("input", 5, "small")], "", {"input": 8}, 2),
)


@pytest.mark.parametrize(("name", "lines", "size", "meters", "parts"), LINES, ids=[one[0] for one in LINES])
def test_usage_is_read_back_from_lines(
    name: str, lines: list[tuple[str, int, str]], size: str, meters: dict[str, int], parts: int
) -> None:
    charge = Charge(CostState.PRICED, tuple(Line(m, q, 1_000, 1, q, q, "r", part=p) for m, q, p in lines), 0, 0)
    usage = usage_of(attempt(charge, served_tier="flex", region="us"), {"big", "small"}.__contains__)
    assert isinstance(usage, Usage)
    assert ({meter.value: n for meter, n in usage.meters.items()}, usage.search_size) == (meters, size)
    assert (usage.served_tier, usage.region, len(usage.parts)) == ("flex", "us", parts)


def test_how_much_was_searched_is_told_where_no_fee_line_says_it() -> None:
    """The attempt had no price, or one without fees: the right fee comes with the prices that have one."""
    charge = Charge(CostState.PRICED, (Line("input", 3, 1_000, 1, 3, 3, "r"),), 3, 3)
    usage = usage_of(attempt(charge, search_size="low"), lambda _: True)
    assert isinstance(usage, Usage)
    rows = [PriceRow("i", "input", 1_000_000), PriceRow("d", "request", 9_000_000), PriceRow("l", "request_low", 5_000)]
    again = priced_again(usage, PriceSheet("m", tuple(rows)), 5)
    assert [(line.meter, line.quantity) for line in again.lines] == [("input", 3), ("request_low", 1)]
    dearest = Charge(CostState.PRICED, (*charge.lines, Line("request", 1, 9_000_000, 1, 9_000, 9_000, "d")), 3, 3)
    usage = usage_of(attempt(dearest, search_size="low"), lambda _: True)
    assert isinstance(usage, Usage)
    assert usage.search_size == "low", "what an earlier correction took for the plain fee"


def test_what_a_provider_billed_to_the_caller_is_left() -> None:
    """Its effective cost is 0 at any price; list prices of other days are no reason to charge anybody."""
    for part in ("caller", "caller:compaction"):
        charge = Charge(CostState.PRICED, (Line("input", 3, 0, 1, 3, 0, "r", part=part),), 3, 0)
        assert usage_of(attempt(charge), lambda _: True) is Left.CALLERS_OWN


def test_runs_of_nobody_knows_which_model_are_left() -> None:
    charge = Charge(CostState.PRICED, (Line("input", 3, 1_000, 1, 3, 3, "r", part="compaction"),), 3, 3)
    assert usage_of(attempt(charge), lambda _: False) is Left.SEVERAL_RUNS
    assert usage_of(attempt(charge, source="cache"), lambda _: True) is Left.NOTHING_USED
    assert usage_of(attempt(Charge(CostState.PRICED, (), 0, 0)), lambda _: True) is Left.NOTHING_USED


# ---------------------------------------------------------------- laws

quantities = st.dictionaries(st.sampled_from([m.value for m in Meter][:6]), st.integers(1, 10**9), min_size=1)
rate = st.integers(0, 10**9)


@given(quantities, st.data())
def test_any_number_of_corrections_adds_up_to_the_last_price(counted: dict[str, int], data: st.DataObject) -> None:
    """Sums over all postings and over all lines, per meter too; the counters; in any order."""
    first = priced(counted, {meter: data.draw(rate) for meter in counted}, margin=data.draw(st.integers(0, 20)))
    standing = attempt(first)
    records: list[Correct] = []
    for _ in range(data.draw(st.integers(1, 5))):
        now = priced(counted, {meter: data.draw(rate) for meter in counted}, margin=data.draw(st.integers(0, 20)))
        record = correction(standing, now, RUN, 99)
        if isinstance(record, Correct):
            records.append(record)
            standing = after(standing, record)
        assert (standing.effective_nusd, standing.billed_nusd) == (now.effective_nusd, now.billed_nusd)
        assert standing.list_nusd == now.list_nusd
        assert correction(standing, now, RUN, 99) is None, "done again, nothing is to be done"
    assert [record.revision for record in records] == list(range(1, len(records) + 1))
    lines = data.draw(st.permutations([*first.lines, *itertools.chain.from_iterable(r.lines for r in records)]))
    assert sum(line.effective_nusd or 0 for line in lines) == standing.effective_nusd
    assert sum(line.billed_nusd or 0 for line in lines) == standing.billed_nusd
    assert sum(line.list_nusd or 0 for line in lines) == standing.list_nusd
    for meter, quantity in counted.items():
        assert sum(line.quantity for line in lines if line.meter == meter) == quantity, "used once"
    for line in lines:
        assert line.rate_pico is not None
        assert line.effective_nusd == line_nusd(line.rate_pico, line.quantity, line.per), "quantity × rate, always"
    for record in records:
        assert record.effective_nusd == sum(line.effective_nusd or 0 for line in record.lines)
    for counter in COUNTERS:
        moved = sum(take.amount for record in records for take in record.takes if take.counter == counter)
        assert (first.effective_nusd or 0) + moved == standing.effective_nusd


def corrected(attempt_id: str, revision: int, counter: str, amount: int) -> tuple[bytes, Correct]:
    take = Take(counter, "limit", Unit.USD, amount)
    return name_id("c"), Correct(9, name_id(attempt_id), revision, (take,), "test", state="priced")


corrections = st.lists(
    st.builds(
        corrected,
        st.sampled_from(("a1", "a2", "a3")),
        st.integers(1, 3),
        st.sampled_from(("usd@a", "usd@b")),
        st.integers(-1_000, 1_000),
    ),
    max_size=12,
    unique_by=lambda one: (one[1].attempt_id, one[1].revision),
)


@given(corrections, st.data())
def test_a_fold_of_corrections_in_any_order_and_any_number_of_times_is_one_fold(
    records: list[tuple[bytes, Correct]], data: st.DataObject
) -> None:
    """Delivered in another order, delivered again, and with a checkpoint anywhere in between."""
    expected: dict[str, int] = {}
    for _, record in records:
        for take in record.takes:
            expected[take.counter] = expected.get(take.counter, 0) + take.amount
    again = data.draw(st.lists(st.sampled_from(records))) if records else []
    delivered = data.draw(st.permutations(records)) + again
    cut = data.draw(st.integers(0, len(delivered)))
    books = Books()
    for number, (call_id, record) in enumerate(delivered):
        if number == cut:
            books = Books.load(books.dump())
        books.apply(record, call_id)
    assert {name: books.standing(name)[0] for name in expected} == expected
    assert [anomaly.kind for anomaly in books.drain_anomalies()] == ["corrected_twice"] * len(again)


def test_a_posting_differs_where_anything_of_it_does() -> None:
    charge = priced({"input": 10}, {"input": 20_000}, margin=5)
    record = correction(attempt(priced({"input": 10}, {"input": 10_000})), charge, RUN, 99)
    assert isinstance(record, Correct)
    one = posting_of(record)
    assert differences(one, one) == {}
    for word, value in (("billed_nusd", 1), ("takes", ()), ("state", "estimated"), ("lines", one.lines[:1])):
        other = type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, word: value})
        assert list(differences(one, other)) == [word]
    older = type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "billed_nusd": 1, "detailed": False})
    assert differences(one, older) == {}, "what an older version had no place for is not compared"


def test_old_corrections_only_move_counters() -> None:
    """As records were before they posted anything: readable, and without an effect on the ledger."""
    old = Correct(1, name_id("a1"), 1, (Take("usd", "limit", Unit.USD, -5),), "by hand")
    assert (old.state, old.lines, old.kind) == ("", (), "rerate")
    books = Books()
    assert books.apply(old, b"") == ("usd",)
    assert books.standing("usd") == (-5, 0)


GOLDEN = (
    "9fcf000001a0c4506c00c41061616161616161616161616161616161029195ab6c7c6b7c323032362d3131a16ca3757364fb09a377687"
    "9a6726572617465919ca5696e707574fd0701fefea3726f77ffce0010c8e0a470617274a3455552fca6707269636564a870726f766964"
    "6572fefeff01c41072727272727272727272727272727272a766696e616e6365"
)


def test_a_correction_as_it_stands_in_journals() -> None:
    """These bytes are on disks: whatever is appended to the record, they are read as this."""
    line = Line("input", -3, 7, 1, -2, -2, "row", -1, 1_100_000, "part", "EUR", -4)
    taken = (Take("l|k|2026-11", "l", Unit.USD, -5, 9),)
    assert decode_record(RecordType.CORRECT, bytes.fromhex(GOLDEN)) == Correct(
        1_790_000_000_000, b"a" * 16, 2, taken, "why", "rerate", (line,), "priced", "provider", -2, -2, -1, 1,
        b"r" * 16, "finance",
    )  # fmt: skip
