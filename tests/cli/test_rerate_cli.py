"""What `faregate prices rerate` and `faregate period` print of the API's answers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli import period, rerate
from gateway.cli.client import Failed
from gateway.core.money import print_usd


def money(nusd: int) -> dict[str, object]:
    return {"usd": print_usd(nusd), "nano_usd": nusd}


def differences(postings: int, nusd: int, prior: int = 0) -> dict[str, object]:
    amounts = {"list": nusd, "effective": nusd, "billed": nusd, "prior_period": prior}
    return {"postings": postings, **{word: money(amount) for word, amount in amounts.items()}}


def part(postings: int, nusd: int, **more: object) -> dict[str, Any]:
    left = dict.fromkeys(rerate._LEFT, 0)
    return {
        "object": "rerate",
        "dry_run": False,
        "correction": "cor_1",
        "version": 4,
        "from_at": "2026-11-01T00:00:00Z",
        "to_at": "2026-11-29T00:00:00Z",
        "looked_at": postings + 1,
        "priced_first": 1,
        "counters_unknown": 0,
        "left": {**left, "the_same": 1},
        "total": differences(postings, nusd),
        "groups": [{"model": "gpt", "team": "", "day": "2026-11-03", **differences(postings, nusd)}],
        "counters": [{"limit": "l1", "counter": "l1|key|2026-11", "amount": money(nusd)}],
        "next": None,
        **more,
    }


def test_the_parts_of_a_run_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    whole: dict[str, Any] = {}
    rerate._add(whole, part(1_000, -999_000_000_000))
    rerate._add(whole, part(500, -499_500_000_000, total=differences(500, -499_500_000_000, -7)))
    rerate._print_people(whole)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split() == [
        "MODEL", "TEAM", "DAY", "POSTINGS", "LIST", "EFFECTIVE", "BILLED", "OF", "CLOSED", "MONTHS",
    ]  # fmt: skip
    assert lines[1].split()[2:5] == ["2026-11-03", "1,500", "-1498.5"]
    assert "1,502 postings looked at, by version 4 of the prices." in printed
    assert "2 cost what they should." in printed
    assert "2 had no price and have one now." in printed
    assert "1 counter of a limit moves:" in printed
    assert "Correction cor_1." in printed
    whole["dry_run"], whole["counters_unknown"] = True, 3
    rerate._print_people(whole)
    told = capsys.readouterr()
    assert "Nothing was corrected: this was a dry run." in told.err
    assert "3 postings are older than the record of their counters" in told.err
    rerate._print_people({**whole, "counters": {}})
    assert "3 postings are older than the record of their counters" in capsys.readouterr().err, (
        "above all when none moves"
    )
    shown = rerate._printable(whole)
    assert (shown["total"]["effective"]["usd"], shown["groups"][0]["postings"]) == ("-1498.5", 1_500)


def test_a_run_wants_a_reason_before_anything_is_asked() -> None:
    with pytest.raises(Failed, match="Say why"):
        rerate.rerate("7d", "now", None, None, None, " ", False)


def test_a_month_is_a_row() -> None:
    month = {
        **dict.fromkeys(("list", "effective", "billed"), money(2_500_000_000)),
        "month": "2026-10",
        "calls": 1_234,
        "prior_period": money(-1),
        "closed_at": None,
        "closed_by": "",
        "reason": "",
    }
    row = period._row(month)
    assert (row["CALLS"], row["EFFECTIVE"], row["PRIOR PERIOD"], row["CLOSED"]) == ("1,234", "2.5", "-0.000000001", "–")
