"""The cache's seam: every module of the room with a MEMBER is a core.ports.Recall, and knows nothing of strangers."""

from __future__ import annotations

import pytest

import gateway.cache
from gateway.core.call import Head
from gateway.core.caller import Caller, KeyRecord
from gateway.core.members import discover_members
from gateway.core.ports import Composed, Recall

MEMBERS: dict[str, Recall] = discover_members("gateway.cache", gateway.cache.__path__, lambda one: one.name)


def test_there_are_members() -> None:
    assert "nothing" in MEMBERS


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
async def test_what_was_never_answered_is_not_found(member: Recall) -> None:
    body = b'{"model":"fast","messages":[]}'
    for org in ("acme", "other"):
        caller = Caller(KeyRecord("k", "n", org, "t", "data", ()))
        assert await member.find(caller, Composed(body=body, head=Head(model="fast"))) is None
