"""Limits as people write them, and that the published schema says the same."""

from __future__ import annotations

import jsonschema
import msgspec
import pytest

from gateway.core.limits import EACH, HoldKind, OnExceed, Unit, WindowKind
from gateway.limits.estimate import EXPECTED_OUTPUT_TOKENS, estimated_hold
from gateway.limits.schema import limits_schema, schema_text
from gateway.limits.written import (
    DEFAULT_MAX_VALUES,
    DEFAULT_MIN_OUTPUT,
    Mistake,
    check_id,
    read_amount,
    read_limit,
    read_until,
    write_scope,
)

WHOLE: dict[str, object] = {
    "limit": "500USD/month@Europe/Vienna",
    "scope": {"team": "growth", "user": "each"},
    "on_exceed": "dry_run",
    "hold": "estimate",
    "alerts": [80, 50, 80],
    "max_values": 7,
    "increase": {"by": "100USD", "until": "2026-12-24"},
}
MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "no limit": ({"limit": None}, "limit"),
    "no window": ({"limit": "5USD"}, "limit"),
    "no zone": ({"limit": "5USD/month@Mars/Base"}, "limit"),
    "no dimension": ({"scope": {"tenant": "x"}}, "scope"),
    "no tag": ({"scope": {"tag:": "x"}}, "scope"),
    "empty value": ({"scope": {"team": ""}}, "scope"),
    "star": ({"scope": {"team": "*"}}, "scope"),
    "control character": ({"scope": {"team": "a\nb"}}, "scope"),
    "scope as text": ({"scope": "team"}, "scope"),
    "no action": ({"on_exceed": "explode"}, "on_exceed"),
    "downgrade to nothing": ({"on_exceed": "downgrade"}, "downgrade_to"),
    "downgrade to a blank": ({"on_exceed": "downgrade", "downgrade_to": " "}, "downgrade_to"),
    "downgrade to a number": ({"on_exceed": "downgrade", "downgrade_to": 4}, "downgrade_to"),
    "a model without a downgrade": ({"downgrade_to": "gpt-4o-mini"}, "downgrade_to"),
    "downgrade of requests": (
        {"limit": "60/min", "on_exceed": "downgrade", "downgrade_to": "m", "increase": None},
        "on_exceed",
    ),
    "a cap of requests": (
        {"limit": "60/min", "on_exceed": "cap_output", "hold": "bound", "increase": None},
        "on_exceed",
    ),
    "a cap of an estimate": ({"on_exceed": "cap_output"}, "hold"),
    "a cap to nothing": ({"on_exceed": "cap_output", "hold": "bound", "min_output": 0}, "min_output"),
    "a cap to a text": ({"on_exceed": "cap_output", "hold": "bound", "min_output": "64"}, "min_output"),
    "fewest tokens without a cap": ({"min_output": 64}, "min_output"),
    "no hold": ({"hold": "guess"}, "hold"),
    "alert over 100": ({"alerts": [120]}, "alerts"),
    "alerts as a number": ({"alerts": 80}, "alerts"),
    "no values": ({"max_values": 0}, "max_values"),
    "values of nobody": ({"scope": {"team": "growth"}}, "max_values"),
    "increase in tokens": ({"increase": {"by": "5tokens", "until": "2026-12-24"}}, "increase"),
    "increase of nothing": ({"increase": {"by": "0USD", "until": "2026-12-24"}}, "increase"),
    "increase without end": ({"increase": {"by": "5USD"}}, "increase"),
    "increase until when": ({"increase": {"by": "5USD", "until": "soon"}}, "until"),
    "requests of a provider": ({"limit": "60/min", "scope": {"provider": "openai"}, "increase": None}, "scope"),
    "unknown member": ({"amount": "5USD"}, "amount"),
}
BEYOND_A_SCHEMA = {
    "no zone", "star", "control character", "values of nobody", "increase in tokens", "increase of nothing",
    "increase until when", "requests of a provider", "downgrade to nothing", "downgrade to a blank",
    "a model without a downgrade", "downgrade of requests", "a cap of requests", "a cap of an estimate",
    "fewest tokens without a cap",
}  # fmt: skip
"""Mistakes that need other members, the calendar or the meaning of a text to be seen."""


def test_all_members() -> None:
    found = read_limit("growth", WHOLE, origin="limits.yaml:3")
    assert (found.id, found.unit, found.amount, found.origin) == ("growth", Unit.USD, 500 * 10**9, "limits.yaml:3")
    assert (found.window.kind, found.window.zone) == (WindowKind.MONTH, "Europe/Vienna")
    assert found.scope == (("org", EACH), ("team", "growth"), ("user", EACH))
    assert (found.on_exceed, found.hold) == (OnExceed.DRY_RUN, HoldKind.ESTIMATE)
    assert (found.alerts, found.max_values, found.increase) == ((50, 80), 7, 100 * 10**9)
    assert found.amount_at(found.increase_until_ms - 1) == 600 * 10**9
    assert found.amount_at(found.increase_until_ms) == 500 * 10**9
    assert write_scope(found.scope) == {"org": "each", "team": "growth", "user": "each"}


def test_what_is_left_out() -> None:
    found = read_limit("x", {"limit": "60/min"}, origin="sql")
    assert (found.scope, found.max_values, found.alerts) == ((), 0, ())
    assert (found.on_exceed, found.hold, found.increase_until_ms) == (OnExceed.BLOCK, HoldKind.BOUND, 0)
    assert (
        read_limit("x", {"limit": "5USD/day", "scope": {"user": "each"}}, origin="sql").max_values == DEFAULT_MAX_VALUES
    )


def test_actions_that_change_a_call() -> None:
    found = read_limit(
        "x", {"limit": "5USD/day", "on_exceed": "downgrade", "downgrade_to": "gpt-4o-mini"}, origin="sql"
    )
    assert (found.on_exceed, found.downgrade_to, found.min_output) == (OnExceed.DOWNGRADE, "gpt-4o-mini", 0)
    found = read_limit("x", {"limit": "900tokens/day", "on_exceed": "cap_output"}, origin="sql")
    assert (found.on_exceed, found.downgrade_to, found.min_output) == (OnExceed.CAP_OUTPUT, "", DEFAULT_MIN_OUTPUT)
    assert (
        read_limit("x", {"limit": "5USD/day", "on_exceed": "cap_output", "min_output": 9}, origin="x").min_output == 9
    )


@pytest.mark.parametrize(("change", "member"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_member_and_says_what_would_be_right(change: dict[str, object], member: str) -> None:
    with pytest.raises(Mistake) as found:
        read_limit("x", {name: value for name, value in (WHOLE | change).items() if value is not None}, origin="sql")
    assert found.value.member == member
    assert str(found.value).startswith(f"{member}: ")


def test_the_schema_takes_what_is_right_and_refuses_what_it_can_see_is_not() -> None:
    schema = limits_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"limits": {"growth": WHOLE, "all": {"limit": "$5/24h"}, "r": {"limit": "60/min"}}})
    validator.validate({"limits": None})
    for name, (change, _) in MISTAKES.items():
        entry = {member: value for member, value in (WHOLE | change).items() if value is not None}
        assert validator.is_valid({"limits": {"x": entry}}) == (name in BEYOND_A_SCHEMA), name
    for id in ("lim_1", "Growth", "a b", "", "x" * 65):
        assert not validator.is_valid({"limits": {id: WHOLE}}), id
        with pytest.raises(Mistake):
            check_id(id)
    assert msgspec.json.decode(schema_text()) == schema


def test_times_and_amounts_of_increases() -> None:
    assert read_until("2026-12-24") == 1_798_070_400_000
    assert read_until("2026-12-24T01:00:00+01:00") == 1_798_070_400_000
    assert read_amount("100USD", Unit.USD) == 100 * 10**9
    assert read_amount("5tokens", Unit.TOKENS) == 5
    for text in ("5", "-5USD", "much"):
        with pytest.raises(Mistake):
            read_amount(text, Unit.USD)


def test_an_estimate_covers_what_it_expects_and_stays_below_the_bound() -> None:
    assert estimated_hold(900, 300, 600, 100, 1) == (900, 100 + 600), "short answers: nothing is known to be less"
    nusd, tokens = estimated_hold(1_000_000, 30_000, 100_000, 10_000, 1)
    assert tokens == 10_000 + EXPECTED_OUTPUT_TOKENS
    assert nusd == 333_334, "the larger share of the two, rounded up"
    for input_rate, output_rate in ((1, 50), (50, 1), (7, 7)):
        bound = 30_000 * input_rate + 100_000 * output_rate
        expected = 10_000 * input_rate + EXPECTED_OUTPUT_TOKENS * output_rate
        assert expected <= estimated_hold(bound, 30_000, 100_000, 10_000, 1)[0] <= bound
    assert estimated_hold(0, 0, 0, 0, 1) == (0, 0)
