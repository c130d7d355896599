"""How a line and a correction are told over HTTP."""

from __future__ import annotations

import pytest

from gateway.core.charge import Line
from gateway.core.queries import AttemptRow, CorrectionRow, SpendRow
from gateway.desk.spend.shapes import AttemptReply, LineReply, print_factor, sums_members, total_of


def test_a_line_tells_all_that_it_knows() -> None:
    line = Line("input", 10, 165_000, 1, 1_500, 1_650, "row", 1_733, 1_100_000, "message", "EUR", 1_521)
    told = LineReply.of(line).model_dump()
    assert (told["cost"]["nano_usd"], told["list"]["nano_usd"], told["billed"]["nano_usd"]) == (1_650, 1_500, 1_733)
    assert (told["uplift"], told["part"], told["native"]) == ("1.1", "message", "0.000001521 EUR")
    plain = LineReply.of(Line("input", 10, 150_000, 1, 1_500, 1_500, "row")).model_dump()
    assert (plain["uplift"], plain["part"], plain["native"]) == (None, None, None)
    assert plain["billed"] == plain["cost"]


@pytest.mark.parametrize(("ppm", "text"), [(1_100_000, "1.1"), (1_000_000, "1"), (1_210_000, "1.21"), (1, "0.000001")])
def test_a_factor_is_exact(ppm: int, text: str) -> None:
    assert print_factor(ppm) == text


def test_an_attempt_tells_its_corrections() -> None:
    lines = (Line("input", -10, 1_000, 1, -10, -10, "a"), Line("input", 10, 3_000, 1, 30, 30, "b"))
    correction = CorrectionRow(1, 1_790_000_000_000, b"r" * 16, "late", "priced", 20, 20, 20, lines, 1_793_000_000_000)
    row = AttemptRow(
        "att_1", 1, "p/m", "ok", "", 200, "priced", "provider", 30, 30, 90, 10, 0, 0, 1, 2, lines[1:], "",
        own_billed_nusd=33, region="us", unknown_usage=("new",), corrections=(correction,),
    )  # fmt: skip
    told = AttemptReply.of(row).model_dump()
    assert (told["cost"]["nano_usd"], told["cost"]["billed"]["nano_usd"], told["region"]) == (30, 33, "us")
    (one,) = told["corrections"]
    assert (one["cost"]["nano_usd"], one["prior_period"], one["reason"]) == (20, True, "late")
    assert [line["quantity"] for line in one["lines"]] == [-10, 10]
    assert told["unknown_usage"] == ["new"]


def test_sums_keep_the_prior_period_apart() -> None:
    rows = [SpendRow(("a",), 1, 0, 2, 3, 100, 110, 0, 0, 5, 7, 6, 1), SpendRow(("b",), 1, 0, 0, 0, 50, 50, 0, 0)]
    cost = sums_members(total_of(rows))["cost"].model_dump()
    amounts = {word: cost[word]["nano_usd"] for word in ("list", "contracted", "billed", "prior_period")}
    assert (cost["nano_usd"], amounts) == (150, {"list": 160, "contracted": 150, "billed": 155, "prior_period": 6})
