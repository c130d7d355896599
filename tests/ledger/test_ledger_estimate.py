"""Estimated ends: priced from the hold's pinned rates, never above its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_script import RATES, hold, name_id

from gateway.core.charge import PinnedRate
from gateway.core.money import line_nusd
from gateway.core.records import AttemptEnd, Hold
from gateway.ledger.estimate import estimated_end, total_nusd
from gateway.ledger.fold import OpenHold


def ended(record: Hold, *, progress: tuple[int, int] = (0, 0), bound_nusd: int | None = None, **known) -> AttemptEnd:
    open_hold = OpenHold(name_id("c1"), record)
    open_hold.input_tokens, open_hold.output_tokens = progress
    if bound_nusd is not None:
        open_hold.bound_nusd = bound_nusd
    return estimated_end(open_hold, ts_ms=9, outcome="crashed", cause="worker_crashed", **known)


def amounts(end: AttemptEnd) -> dict[str, int]:
    return {taken.counter: taken.amount for taken in end.posted}


@pytest.mark.parametrize(
    ("progress", "bound_nusd", "lines", "total"),
    [
        # RATES: 2 nano-USD an input token, 10 an output token; the hold estimates 100 input tokens.
        pytest.param((0, 0), 1000, [("input", 100, 200)], 200, id="nothing seen: the input estimate"),
        pytest.param((0, 30), 1000, [("input", 100, 200), ("output", 30, 300)], 500, id="output so far"),
        pytest.param((90, 30), 1000, [("input", 90, 180), ("output", 30, 300)], 480, id="input was reported"),
        pytest.param((0, 30), 500, [("input", 100, 200), ("output", 30, 300)], 500, id="exactly the bound"),
        pytest.param((0, 30), 499, [("input", 100, 200), ("output", 29, 290)], 490, id="output is cut first"),
        pytest.param((0, 30), 200, [("input", 100, 200)], 200, id="no room for output"),
        pytest.param((0, 30), 99, [("input", 49, 98)], 98, id="then input"),
        pytest.param((0, 30), 0, [], 0, id="a bound of nothing"),
        pytest.param((0, 30), None, [("input", 100, 200), ("output", 30, 300)], 500, id="no bound"),
    ],
)
def test_an_estimate(progress: tuple[int, int], bound_nusd: int | None, lines: list, total: int) -> None:
    end = ended(
        hold("a1", "usd=10000 tokens=1000 requests=1", bound_nusd=bound_nusd, input_estimate=100), progress=progress
    )
    assert [(line.meter, line.quantity, line.effective_nusd) for line in end.lines] == lines
    assert (end.effective_nusd, end.list_nusd, end.state, end.source) == (total, total, "estimated", "estimated")
    tokens = sum(quantity for _, quantity, _ in lines)
    expected = {"usd": total, "tokens": tokens}
    assert amounts(end) == {counter: amount for counter, amount in expected.items() if amount or counter == "usd"}
    assert end.input_tokens + end.output_tokens == tokens
    assert (end.ts_ms, end.outcome, end.cause, end.status, end.ttft_us) == (9, "crashed", "worker_crashed", 0, -1)


def test_money_is_spent_whole_also_under_a_limit_that_holds_less_than_the_bound() -> None:
    """`hold: estimate`: whoever leaves a stream early must not get the rest of it for nothing."""
    end = ended(hold("a1", "usd@team=150 usd@key=10000 tokens=40", input_estimate=100))
    assert end.effective_nusd == 200
    assert amounts(end) == {"usd@team": 200, "usd@key": 200, "tokens": 40}


def test_what_has_no_known_cost_spends_no_more_than_is_still_held() -> None:
    end = ended(hold("a1", "usd@team=150 tokens=40", input_estimate=100, rates=()))
    assert end.effective_nusd is None
    assert amounts(end) == {"usd@team": 150, "tokens": 40}


def test_what_the_caller_of_flow_knows_wins() -> None:
    end = ended(
        hold("a1", "usd=1000", input_estimate=100),
        progress=(5, 5),
        input_tokens=50,
        output_tokens=0,
        status=200,
        model_served="m-2",
        ttft_us=7,
    )
    assert (end.input_tokens, end.output_tokens, end.effective_nusd) == (50, 0, 100)
    assert (end.status, end.model_served, end.ttft_us) == (200, "m-2", 7)


@pytest.mark.parametrize(
    ("rates", "progress"),
    [((), (0, 3)), ((), (0, 0)), ((RATES[0],), (0, 3)), ((RATES[1],), (0, 3))],
)
def test_what_has_no_rate_is_unpriced_and_gives_nothing_back(rates: tuple, progress: tuple[int, int]) -> None:
    end = ended(hold("a1", "usd=700 tokens=500", rates=rates, input_estimate=4), progress=progress)
    assert (end.state, end.list_nusd, end.effective_nusd) == ("unpriced", None, None)
    assert all(line.rate_pico is None and line.effective_nusd is None for line in end.lines)
    assert [line.quantity for line in end.lines] == [4, 3][: 1 + (progress[1] > 0)]
    assert amounts(end) == {"usd": 700, "tokens": 4 + progress[1]}


def test_no_output_rate_is_needed_where_there_is_no_output() -> None:
    end = ended(hold("a1", "usd=700", rates=(RATES[0],), input_estimate=4))
    assert (end.state, end.effective_nusd) == ("estimated", 8)


def test_special_rates_count_only_where_there_is_no_plain_one_and_the_dearest_wins() -> None:
    dear = PinnedRate("row-audio", "output_audio", 40_000_000, 1000)
    rates = (RATES[0], PinnedRate("row-flex", "input", 1_000, 1), RATES[1], dear)
    end = ended(hold("a1", rates=rates, input_estimate=1), progress=(0, 1))
    assert [line.row_id for line in end.lines] == ["row-in", "row-out"]
    end = ended(hold("a1", rates=(RATES[0], PinnedRate("row-x", "output_audio", 1, 1), dear)), progress=(0, 1))
    assert [(line.meter, line.row_id, line.effective_nusd) for line in end.lines] == [("output_audio", "row-audio", 40)]


def test_the_cut_knows_that_a_line_is_rounded_half_even() -> None:
    rates = (PinnedRate("i", "input", 500, 1),)
    # 3 tokens at half a nano-USD are 1.5, which rounds to 2; 2 tokens are 1.
    end = ended(hold("a1", bound_nusd=1, input_estimate=3, rates=rates))
    assert (end.input_tokens, end.effective_nusd) == (2, 1)
    # 5 tokens are 2.5, which rounds to 2.
    end = ended(hold("a1", bound_nusd=2, input_estimate=9, rates=rates))
    assert (end.input_tokens, end.effective_nusd) == (5, 2)


def test_a_total_with_an_unknown_part_is_unknown() -> None:
    assert total_nusd([]) == 0
    assert total_nusd([1, 2]) == 3
    assert total_nusd([1, None, 2]) is None


rate_values = st.tuples(st.integers(0, 10**9), st.sampled_from((1, 1000, 1_000_000)))


@given(
    rate_values,
    rate_values,
    st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_laws_of_an_estimate(
    input_rate: tuple[int, int],
    output_rate: tuple[int, int],
    taken_in: int,
    put_out: int,
    bound_nusd: int,
    held: int,
) -> None:
    rates = (PinnedRate("i", "input", *input_rate), PinnedRate("o", "output", *output_rate))
    end = ended(
        hold("a1", f"usd={held} tokens={held}", bound_nusd=bound_nusd, input_estimate=taken_in, rates=rates),
        progress=(0, put_out),
    )
    assert end.effective_nusd == sum(line.effective_nusd or 0 for line in end.lines) <= bound_nusd
    for line in end.lines:
        assert line.rate_pico is not None
        assert line.effective_nusd == line_nusd(line.rate_pico, line.quantity, line.per)
    posted = amounts(end)
    assert posted.get("usd", 0) == end.effective_nusd
    assert posted.get("tokens", 0) == min(held, end.input_tokens + end.output_tokens)
    assert posted.pop("usd") >= 0, "a counter of money is named even when nothing was spent: a correction may come"
    assert all(posted.values())
    assert end.input_tokens <= taken_in
    assert end.output_tokens <= put_out
    # Cut no more than needed: one more output token would not fit, and input is whole unless output is gone.
    if end.output_tokens < put_out:
        more = line_nusd(output_rate[0], end.output_tokens + 1, output_rate[1])
        assert more + line_nusd(input_rate[0], end.input_tokens, input_rate[1]) > bound_nusd
    if end.input_tokens < taken_in:
        assert line_nusd(input_rate[0], end.input_tokens + 1, input_rate[1]) > bound_nusd
