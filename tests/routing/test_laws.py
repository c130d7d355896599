"""Laws of routing: pure, stable, total."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.config import Policy
from gateway.routing.policy_bytes import decode_policy, encode_policy, policy_hash
from gateway.routing.resolve import close_matches, find_route, matches
from routing.rows import PRICED, ROWS, compiled, key, sheets
from routing.test_routes import GOOD, MISTAKES

TESTS = str(Path(__file__).resolve().parents[1])
_NAMES = st.text(st.sampled_from("abo-/*"), max_size=8)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from([*GOOD.split("\n"), *(text for text, _, _ in MISTAKES.values())]), max_size=12).map(
        "\n".join
    ),
)


def _check(text: str) -> tuple[Policy | None, int]:
    from gateway.routing.compile import check_policy

    policy, problems = check_policy(text, "f", ROWS, sheets)
    return policy, len(problems)


@given(_TEXTS)
@settings(deadline=None, max_examples=300)
def test_any_text_gives_a_policy_or_problems_never_both_or_an_exception(text: str) -> None:
    policy, problems = _check(text)
    assert (policy is None) == (problems > 0)


def test_the_hash_survives_a_round_trip_and_does_not_depend_on_the_process() -> None:
    policy = compiled(GOOD)
    stored = encode_policy(policy)
    assert policy.hash == policy_hash(stored)
    again = decode_policy(stored, 7)
    assert again.revision == 7
    assert again == msgspec.structs.replace(policy, revision=7)
    assert encode_policy(again) == stored
    program = "from routing import rows, test_routes; print(rows.compiled(test_routes.GOOD).hash)"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": TESTS}
        found = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == policy.hash


def test_the_order_of_providers_does_not_change_the_hash() -> None:
    one = compiled("providers: {openai: , simulated: }\nmodels: {a: openai/x, b: simulated/y}\n")
    two = compiled("providers: {simulated: , openai: }\nmodels: {b: simulated/y, a: openai/x}\n")
    assert one.hash == two.hash


@given(st.lists(st.sampled_from(sorted(PRICED)), min_size=1), _NAMES)
@settings(deadline=None)
def test_every_name_resolves_to_at_most_one_route_and_the_exact_one_wins(kinds: list[str], asked: str) -> None:
    policy = compiled("providers: {openai: }\nmodels:\n  a*: openai/a*\n  ab*: openai/b*\n  'ab': openai/exact\n")
    route = find_route(policy, asked)
    if asked == "ab":
        assert route is not None
        assert route.deployments[0].model == "exact"
    elif asked.startswith("ab"):
        assert route is not None
        assert route.deployments[0].model == "b" + asked[2:]
    elif asked.startswith("a") and len(asked) > 1:
        assert route is not None
        assert route.deployments[0].model == "a" + asked[1:]
    else:
        assert route is None


@given(_NAMES, _NAMES)
def test_patterns_match_as_a_plain_reading_says(pattern: str, name: str) -> None:
    def plain(rest: str, text: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(plain(rest[1:], text[cut:]) for cut in range(len(text) + 1))
        return bool(text) and rest[0] == text[0] and plain(rest[1:], text[1:])

    assert matches(pattern, name) == plain(pattern, name)


@given(st.text(max_size=40))
@settings(deadline=None)
def test_suggestions_are_names_the_key_may_use(asked: str) -> None:
    policy = compiled(GOOD)
    for name in close_matches(policy, asked, ("gpt-*", "fast")):
        assert matches("gpt-*", name) or name in {"fast", "faster"}
    assert key().models == ()
