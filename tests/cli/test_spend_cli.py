"""What `faregate spend` prints where groups are of what callers choose."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli import spend
from gateway.core.money import print_usd


def money(nusd: int) -> dict[str, object]:
    return {"usd": print_usd(nusd), "nano_usd": nusd}


def sums(calls: int, nusd: int) -> dict[str, Any]:
    cost = {word: money(nusd) for word in ("list", "contracted", "billed")}
    return {
        "calls": calls,
        "errors": 0,
        "unpriced_calls": 0,
        "usage": {"input_tokens": calls, "output_tokens": calls},
        "cost": {**money(nusd), **cost, "estimated": money(0), "prior_period": money(0)},
    }


def reply(by: str, *groups: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "by": [by],
        "data": [{**sums(1, nusd), "group": {by: value}, "bucket": bucket} for value, bucket, nusd in groups],
        "total": sums(len(groups), sum(nusd for *_, nusd in groups)),
        "from_at": "2026-11-01T00:00:00Z",
        "to_at": "2026-11-30T00:00:00Z",
        "freshness": {"newest_at": None, "behind_bytes": 0, "dead_letters": 0},
    }


def test_what_has_no_value_and_what_had_no_place_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    spend._print_people(reply("tag:feature", ("search", "value", 7), ("", "other", 5), ("", "none", 3)))
    told = capsys.readouterr()
    firsts = [line.split()[0] for line in told.out.splitlines()[:5]]
    assert firsts == ["TAG:FEATURE", "search", "(others)", "(none)", "total"]
    assert "(others) came when 10,000 of a team had sums that day already." in told.err
    assert "(none) is calls without the tag feature, and those from before it had sums." in told.err
    spend._print_people(reply("user", ("ann", "value", 7), ("", "none", 3)))
    assert "(none) is calls without a user." in capsys.readouterr().err
    spend._print_people(reply("model", ("m", "value", 7)))
    assert capsys.readouterr().err == ""
