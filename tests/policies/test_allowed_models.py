"""Which models a key may ask for: names and patterns with `*`, aliases by their own name or their model's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import Deployment, ModelRoute, Policy
from gateway.core.verdict import Verdict
from gateway.policies.allowed_models import MEMBER
from gateway.routing.resolve import allowed

GPT = (Deployment("openai/gpt-5", "openai", "gpt-5"),)
ROUTES = {
    "gpt-5": ModelRoute("gpt-5", GPT),
    "short": ModelRoute("short", GPT, alias_of="gpt-5"),
    "team/ft:x[1]": ModelRoute("team/ft:x[1]", GPT),
}
POLICY = Policy(revision=1, hash="", providers={}, models=ROUTES, wildcards=(), sheets={})


def verdict(models: tuple[str, ...], asked: str) -> Verdict:
    caller = Caller(KeyRecord("k", "n", "acme", "t", "data", (), models=models))
    return MEMBER.check(caller, Head(model=asked), b"{}", POLICY)


TABLE = [
    ((), "anything", True),
    (("gpt-5",), "gpt-5", True),
    (("gpt-5",), "gpt-5-mini", False),
    (("gpt-5",), "GPT-5", False),
    (("gpt-*",), "gpt-5-mini", True),
    (("gpt-*",), "gpt-", True),
    (("*-mini",), "gpt-5-mini", True),
    (("*",), "a/b/c", True),
    (("openai/*",), "openai/a/b", True),
    (("openai/*",), "openai", False),
    (("gpt-5",), "short", True),
    (("short",), "short", True),
    (("short",), "gpt-5", False),
    (("other", "sh*"), "short", True),
    (("team/ft:x[1]",), "team/ft:x[1]", True),
    (("team/ft:x[1]*",), "team/ft:x[1]-b", True),
    (("team/ft:x[1]*",), "team/ft:x1-b", False),
    (("gpt-?",), "gpt-5", False),
    (("gpt-[5]",), "gpt-5", False),
    (("",), "gpt-5", False),
]


@pytest.mark.parametrize(("models", "asked", "may"), TABLE)
def test_who_may_ask_for_what(models: tuple[str, ...], asked: str, may: bool) -> None:
    assert (verdict(models, asked).action == "allow") is may


def test_a_denial_names_the_model_and_what_is_allowed_instead() -> None:
    reason = verdict(("gpt-5", "gpt-*-mini"), "o9").reason
    for word in ("'o9'", "gpt-5", "gpt-*-mini"):
        assert word in reason
    assert len(verdict(tuple(f"m{n}" for n in range(1000)), "o9").reason) < 300


NAMES = st.text(st.sampled_from("ab*?[]-!/."), max_size=6)


@given(st.lists(NAMES, max_size=3).map(tuple), NAMES.filter(bool) | st.sampled_from(sorted(ROUTES)))
def test_the_policy_and_the_plan_say_the_same(models: tuple[str, ...], asked: str) -> None:
    """Both look: the policy for a clear verdict, the plan so that no route is reached around it."""
    route = ROUTES.get(asked)
    planned = allowed(models, asked, route.alias_of if route is not None else "")
    assert (verdict(models, asked).action == "allow") is planned
