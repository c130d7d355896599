"""Calls whose provider speaks another dialect than their caller, on the path: what is told, held and booked."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from flow.laws import lawful
from flow.scripts import DONE, chunk, completion, refusal, stream, usage_chunk, whole
from flow.virtual_time import play
from flow.world import INPUT_NUSD, OUTPUT_NUSD, World
from gateway.core.errors import UpstreamLost
from gateway.core.records import AttemptEnd, Dispatch, Hold, Void
from gateway.dialects.discover import discover_translations
from gateway.flow.plan import Plans
from gateway.flow.wires import Wires

COST_NUSD = 10 * INPUT_NUSD + 5 * OUTPUT_NUSD


class TranslatingWorld(World):
    """A world in which `fast` is an OpenAI model that Anthropic's and other callers reach as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plans = Plans(Wires(discover_translations(dict(self.services.surfaces))))
        object.__setattr__(self.services, "plans", plans)


def message(**more: Any) -> bytes:
    asked = {"model": "sim", "max_tokens": 50, "messages": [{"role": "user", "content": "Say something."}], **more}
    return json.dumps(asked).encode()


def only_chat(world: World) -> World:
    """The simulated provider as one that serves nothing but chat completions."""
    row = msgspec.structs.replace(world.services.providers["simulated"], endpoints=("chat.completions",))
    object.__setattr__(world.services, "providers", {**world.services.providers, "simulated": row})
    return world


def test_a_whole_reply_is_booked_by_the_providers_usage_and_told_in_the_callers_words() -> None:
    async def told() -> None:
        world = only_chat(TranslatingWorld([whole()]))
        ended = await world.call(message(), surface="messages")
        assert ended.status == 200
        assert ended.json["type"] == "message"
        assert ended.json["usage"]["output_tokens"] == 5
        (request,) = world.upstream.requests
        assert request.endpoint.url.endswith("/chat/completions")
        assert json.loads(request.body)["max_completion_tokens"] == 50
        assert not any(name.startswith("anthropic-") for name, _ in request.headers)
        assert world.settle.endpoint == "messages"
        assert world.end.effective_nusd == COST_NUSD
        assert ended.exchange.header("request-id") == ended.exchange.header("x-request-id")
        lawful(world)

    play(told())


def test_a_stream_ends_with_the_callers_terminal_event_after_it_is_settled() -> None:
    async def told() -> None:
        world = only_chat(TranslatingWorld([stream(chunk("Hel"), chunk("lo"), chunk("", "stop"), usage_chunk(), DONE)]))
        ended = await world.call(message(stream=True), surface="messages")
        sent = bytes(ended.exchange.sent)
        assert sent.startswith(b"event: message_start")
        assert sent.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        assert world.end.effective_nusd == COST_NUSD
        lawful(world)

    play(told())


def test_a_stream_that_breaks_ends_with_the_callers_error_and_is_booked() -> None:
    async def told() -> None:
        broken = stream(chunk("Hel"), UpstreamLost("simulated ended the connection."))
        world = only_chat(TranslatingWorld([broken]))
        ended = await world.call(message(stream=True), surface="messages")
        sent = bytes(ended.exchange.sent)
        assert b"message_stop" not in sent
        assert sent.rpartition(b"event: error")[2]
        assert world.settle.outcome == "truncated"
        assert world.end.effective_nusd
        lawful(world)

    play(told())


@pytest.mark.parametrize("status", [400, 404, 429])
def test_the_providers_refusal_has_the_callers_shape_and_its_status(status: int) -> None:
    async def told() -> None:
        world = only_chat(TranslatingWorld([refusal(status, message="It will not do.")]))
        ended = await world.call(message(), surface="messages")
        assert ended.status == status
        assert ended.json["type"] == "error"
        assert ended.json["error"]["message"] == "It will not do."
        lawful(world)

    play(told())


def test_what_cannot_be_translated_is_refused_costs_nothing_and_holds_nothing() -> None:
    async def told() -> None:
        world = only_chat(TranslatingWorld([whole()]))
        searching = message(mcp_servers=[{"type": "url", "url": "https://x.test", "name": "x"}])
        ended = await world.call(searching, surface="messages")
        assert ended.status == 400
        assert "mcp_servers" in ended.json["error"]["message"]
        assert not world.upstream.requests
        assert len(world.records(Hold)) == len(world.records(Dispatch)) == len(world.records(Void)) == 1
        assert not world.records(AttemptEnd)
        lawful(world)

    play(told())


def test_a_reply_that_is_none_is_the_providers_fault_in_the_callers_words() -> None:
    async def told() -> None:
        world = only_chat(TranslatingWorld([whole(completion().replace(b'"choices"', b'"chances"'))]))
        ended = await world.call(message(), surface="messages")
        assert ended.status == 502
        assert ended.json["error"]["type"] == "api_error"
        lawful(world)

    play(told())
