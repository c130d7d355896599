"""Whose call it is: what headers and bodies say becomes user, session and tags, and never overrides the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow.virtual_time import play
from flow.world import World, chat
from gateway.core.records import Hold, Settle
from gateway.dialects.discover import discover
from gateway.flow.attribution import HEADERS, TAGS_MAX

DOCS = Path(__file__).parents[2] / "docs"
CHAT = discover()["chat.completions"]


def booked(headers: dict[str, str], **body: Any) -> tuple[str, str, dict[str, str]]:
    """(user, session, tags) of a call, as both its HOLD and its SETTLE say."""

    async def asked() -> World:
        world = World()
        await world.call(chat(**body), headers=headers)
        return world

    world = play(asked())
    (hold,), (settled,) = world.records(Hold), world.records(Settle)
    assert (hold.user, hold.session, hold.tags) == (settled.user, settled.session, settled.tags)
    return hold.user, hold.session, dict(hold.tags)


CASES: list[tuple[dict[str, str], dict[str, Any], str, str, dict[str, str]]] = [
    ({}, {}, "", "", {}),
    ({}, {"user": "ann"}, "ann", "", {}),
    ({}, {"safety_identifier": "hash"}, "hash", "", {}),
    ({}, {"user": "ann", "safety_identifier": "hash"}, "ann", "", {}),
    ({"x-faregate-user": "bob"}, {"user": "ann"}, "bob", "", {}),
    (
        {
            "x-claude-code-session-id": "s-1",
            "x-claude-code-agent-id": "a-1",
            "x-claude-code-parent-agent-id": "a-0",
        },
        {},
        "",
        "s-1",
        {"agent": "a-1", "parent_agent": "a-0"},
    ),
    (
        {"session_id": "c-1", "originator": "codex_cli_rs", "x-openai-subagent": "review"},
        {},
        "",
        "c-1",
        {"originator": "codex_cli_rs", "agent": "review"},
    ),
    ({"x-openwebui-user-id": "u-1", "x-openwebui-chat-id": "w-1"}, {"user": "ann"}, "u-1", "w-1", {}),
    ({"x-claude-code-session-id": "s-1", "x-faregate-session": "mine"}, {}, "", "mine", {}),
    ({"x-faregate-tags": "agent=mine", "x-claude-code-agent-id": "a-1"}, {}, "", "", {"agent": "mine"}),
    (
        {"x-faregate-tags": "feature=a"},
        {"metadata": {"tags": ["feature:b", "job:7", "beta", "x=y:z"]}},
        "",
        "",
        {"feature": "a", "job": "7", "beta": "true", "x": "y:z"},
    ),
    ({}, {"metadata": {"tags": ["env:test", "team:theirs", "cost-centre:0"]}}, "", "", {}),
    ({"x-faregate-tags": "env=test,org=theirs"}, {}, "", "", {}),
    ({}, {"metadata": {"tags": "a text, as OpenAI has them"}}, "", "", {}),
]


@pytest.mark.parametrize(("headers", "body", "user", "session", "tags"), CASES)
def test_user_session_and_tags(
    headers: dict[str, str], body: dict[str, Any], user: str, session: str, tags: dict[str, str]
) -> None:
    assert booked(headers, **body) == (user, session, {"env": "prod", **tags})


def test_tags_are_bounded() -> None:
    _, _, tags = booked({}, metadata={"tags": [f"t{number}:1" for number in range(3 * TAGS_MAX)]})
    assert len(tags) == TAGS_MAX + 1


def test_tags_for_the_gateway_do_not_go_to_the_provider() -> None:
    for metadata, left in (
        ({"tags": ["a"]}, None),
        ({"tags": ["a"], "k": "v"}, {"k": "v"}),
        ({"tags": "a"}, {"tags": "a"}),
    ):
        body = chat(metadata=metadata)
        sent, dropped = CHAT.outgoing(body, CHAT.read_head(body), "other")
        assert json.loads(sent).get("metadata") == left
        assert dropped == ()


def test_every_header_stands_in_the_documentation() -> None:
    page = (DOCS / "attribution.md").read_text()
    for row in HEADERS:
        became = row.becomes if row.becomes in ("user", "session") else f"tag `{row.becomes}`"
        assert f"| `{row.header}` | {row.sent_by} | {became} |" in page
