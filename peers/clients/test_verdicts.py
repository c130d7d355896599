"""LLMock grades its client, which is the gateway: on Messages and Responses as peers/providers has it for chat.

The gateway makes one attempt and adds no tries of its own. It passes on what its caller needs to behave, and never
passes off a cut stream as a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live.running import Reply
from rig import World, gateway
from stand_ins import Peer, llmock
from test_langchain_suites import ROUTES

pytestmark = pytest.mark.group("servers")


@dataclass(frozen=True, slots=True)
class Surface:
    """`last` is the event that ends a whole stream, `error` the one that says it is not whole."""

    name: str
    path: str
    body: dict[str, Any]
    last: str
    error: str


ASKED = [{"role": "user", "content": "Name three rivers."}]
SURFACES = (
    Surface(
        "messages",
        "/v1/messages",
        {"model": "claude-sonnet-5", "max_tokens": 100, "messages": ASKED},
        "message_stop",
        "error",
    ),
    Surface(
        "responses",
        "/v1/responses",
        {"model": "gpt-4o-mini", "input": "Name three rivers."},
        "response.completed",
        "response.failed",
    ),
)
BY_NAME = pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("graded")
    with llmock(folder) as vendor, gateway(folder, ROUTES.replace("{vendor}", vendor.url)) as server:
        yield World(server, vendor)


@pytest.fixture
def stage(graded: World) -> World:
    graded.vendor.post("/_llmock/reset")
    return graded


def script(vendor: Peer, **behaviour: Any) -> None:
    assert vendor.post("/_llmock/scenario", {"behaviors": [behaviour]})["queued"] == 1


def ask(stage: World, surface: Surface, **more: Any) -> Reply:
    return stage.gateway.call("POST", surface.path, surface.body | more, stage.gateway.keys["app"])


def event_types(reply: Reply) -> list[str]:
    data = [line[5:].strip() for line in reply.body.decode().split("\n") if line.startswith("data:")]
    return [json.loads(text)["type"] for text in data if text != "[DONE]"]


def marks(stage: World) -> dict[str, Any]:
    verdict = stage.vendor.get("/_llmock/verdict")
    return {"attempts": verdict["attempts"], "findings": [one["code"] for one in verdict["findings"]]}


@BY_NAME
def test_a_whole_stream_ends_as_it_should(surface: Surface, stage: World) -> None:
    reply = ask(stage, surface, stream=True)
    assert reply.status == 200
    assert event_types(reply)[-1] == surface.last
    assert marks(stage) == {"attempts": 1, "findings": []}


@BY_NAME
@pytest.mark.parametrize("kind", ["truncate", "disconnect"])
def test_a_cut_stream_says_so(kind: str, surface: Surface, stage: World) -> None:
    before = len(stage.booked())
    script(stage.vendor, type="stream_fault", kind=kind, after_chunks=4)
    types = event_types(ask(stage, surface, stream=True))
    assert types[-1] == surface.error
    assert surface.last not in types
    call = stage.booked()[before]
    assert call.outcome == "truncated"
    assert call.cost_state == "estimated"
    assert (call.effective_nusd or 0) > 0


@BY_NAME
@pytest.mark.parametrize("status", [429, 503])
def test_a_waiting_time_is_passed_on_and_no_try_is_added(status: int, surface: Surface, stage: World) -> None:
    script(stage.vendor, type="fail", status=status, retry_after=3, times=1)
    reply = ask(stage, surface)
    assert reply.status == status
    assert reply.headers["retry-after"] == "3"
    assert marks(stage)["attempts"] == 1


@BY_NAME
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_vendors_own_refusal_arrives_as_it_is(status: int, surface: Surface, stage: World) -> None:
    script(stage.vendor, type="fail", status=status, times=1)
    reply = ask(stage, surface)
    assert reply.status == status
    assert "error" in reply.json
    assert marks(stage) == {"attempts": 1, "findings": []}


def test_the_books_after_all_these_faults(graded: World) -> None:
    booked = graded.booked()
    assert {call.outcome for call in booked} >= {"ok", "truncated", "error"}
    assert graded.dispatched() == len(booked)
