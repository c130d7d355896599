"""The policies' seam: every module of the room with a MEMBER is a pure core.ports.Guard."""

from __future__ import annotations

import pytest

import gateway.policies
from gateway.core.call import Head
from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import Policy
from gateway.core.members import discover_members
from gateway.core.ports import Guard
from gateway.core.verdict import Verdict

MEMBERS: dict[str, Guard] = discover_members("gateway.policies", gateway.policies.__path__, lambda one: one.name)
EMPTY = Policy(revision=0, hash="", providers={}, models={}, wildcards=(), sheets={})


def test_there_are_members() -> None:
    assert "allowed_models" in MEMBERS


@pytest.mark.parametrize("models", [(), ("fast",), ("*",), ("",), ("[", "?", "**")], ids=str)
@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_the_same_call_gets_the_same_verdict_and_a_denial_says_what_to_do(
    member: Guard, models: tuple[str, ...]
) -> None:
    caller = Caller(KeyRecord("k", "n", "acme", "t", "data", (), models=models))
    for model in ("fast", "", "x" * 10_000, "a\nb", "é"):
        verdict = member.check(caller, Head(model=model), b"{}", EMPTY)
        assert verdict == member.check(caller, Head(model=model), b"{}", EMPTY)
        assert isinstance(verdict, Verdict)
        assert verdict.policy == member.name
        assert verdict.recorded() == f"{member.name}:{verdict.action}"
        if verdict.action == "deny":
            assert len(verdict.reason) > 20
        assert (verdict.action == "rewrite") is bool(verdict.body)
