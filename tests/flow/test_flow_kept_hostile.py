"""What is asked of kept responses by those who ask oddly, and what is booked of replies that nobody read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from dialects.examples_responses import created, delta, ended, event, numbered, response

from flow.fakes import CallersExchange, Scripted
from flow.scripts import LOST, SSE, refusal, whole
from flow.test_flow_issued import IDS, StatefulWorld, asked, reply
from flow.world import INPUT_NUSD, KEY_TEXTS, OUTPUT_NUSD, POLICY, World
from gateway.core.caller import Permission
from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.records import Hold, Progress
from gateway.flow.kept import Asked
from gateway.flow.run import run
from gateway.ledger.estimate import estimated_end
from gateway.ledger.fold import OpenHold

NAME = IDS.name("resp_0", "acme", "cancels")
SEARCH_NUSD = 10_000_000


async def kept(world: World, query: str, name: str = NAME) -> CallersExchange:
    exchange = CallersExchange(world.events, {"authorization": f"Bearer {KEY_TEXTS['app']}"}, [b""], 0.0)
    surface = world.services.issued.asked
    assert surface is not None
    walk = Asked("GET", name, "", query).walk
    await asyncio.wait_for(run(exchange, surface, Permission.CALL_MODELS, world.services, walk), 60)
    return exchange


def stream(*events: dict[str, Any]) -> Scripted:
    return Scripted((0.01, b"".join(event(one) for one in numbered(list(events)))), headers=SSE)


@pytest.mark.parametrize("kind", ["failed", "cancelled", "completed"])
async def test_how_a_kept_response_ended_is_no_failure_to_read_it(kind: str) -> None:
    failure = {"code": "server_error", "message": "It broke."} if kind == "failed" else None
    world = StatefulWorld([stream(created(), ended(kind, usage=None, error=failure))])
    exchange = await kept(world, "stream=true")
    assert exchange.head is not None
    assert exchange.head.status == 200
    assert exchange.sent.count(b"event: ") == 2
    assert f'"type":"response.{kind}"'.encode() in exchange.sent
    assert (world.settle.outcome, world.end.effective_nusd, world.end.outcome) == ("ok", 0, "ok")


async def test_an_error_event_of_a_kept_response_is_relayed_with_what_follows() -> None:
    error = {"type": "error", "code": "server_error", "message": "It broke.", "param": None}
    world = StatefulWorld([stream(error, ended("failed", usage=None))])
    exchange = await kept(world, "stream=true&starting_after=1")
    assert exchange.sent.count(b"event: ") == 2
    assert world.settle.outcome == "ok"


@pytest.mark.parametrize("said", [b"", b"data: [DONE]\n\n"])
async def test_no_events_after_the_last_are_an_answer(said: bytes) -> None:
    steps = (0.01, said) if said else ()
    world = StatefulWorld([Scripted(steps, headers=SSE)])
    exchange = await kept(world, "stream=true&starting_after=9")
    assert exchange.head is not None
    assert (exchange.head.status, exchange.sent, world.settle.outcome) == (200, b"", "ok")


async def test_a_whole_stream_without_events_is_none() -> None:
    world = StatefulWorld([Scripted((), headers=SSE)])
    exchange = await kept(world, "stream=true")
    assert exchange.head is not None
    assert exchange.head.status == 502


async def test_a_kept_stream_that_breaks_is_told() -> None:
    world = StatefulWorld([Scripted((0.01, event(numbered([created()])[0]), LOST), headers=SSE)])
    exchange = await kept(world, "stream=true&starting_after=0")
    assert b"event: error" in exchange.sent
    assert world.settle.outcome == "truncated"


@pytest.mark.parametrize("query", ["stream=%74rue", "str%65am=true", "stream=True", "stream=1", "a=1&stream=true"])
async def test_a_stream_is_one_however_it_is_asked_for(query: str) -> None:
    world = StatefulWorld([stream(created(), ended())])
    exchange = await kept(world, query)
    assert exchange.head is not None
    assert (exchange.head.status, world.settle.stream) == (200, True)
    assert exchange.sent.endswith(b"\n\n")
    assert world.upstream.requests[0].endpoint.url.endswith(f"/responses/resp_0?{query}")


@pytest.mark.parametrize("query", ["a#b", "x=\u00e9", "x=\x7f", "x" * 2049])
async def test_a_query_that_no_client_sends_goes_nowhere(query: str) -> None:
    world = StatefulWorld()
    exchange = await kept(world, query)
    assert exchange.head is not None
    assert (exchange.head.status, world.upstream.requests) == (400, [])


async def test_a_refusal_names_the_previous_response_as_its_caller_does() -> None:
    world = StatefulWorld([refusal(400, message="Previous response with id 'resp_0' not found; nor resp_victim.")])
    told = await world.call(asked(previous_response_id=NAME), surface="responses")
    assert told.json["error"]["message"] == f"Previous response with id '{NAME}' not found; nor resp_victim."


async def test_an_id_of_a_provider_without_its_credential_is_told() -> None:
    world = StatefulWorld([whole(b"{}")])
    exchange = await kept(world, "", IDS.name("resp_0", "acme", "keyless"))
    assert exchange.head is not None
    assert (exchange.head.status, world.upstream.requests) == (502, [])


# ------------------------------------------------------------ money of what nobody reads


async def test_a_crash_in_the_middle_of_a_free_call_costs_nothing() -> None:
    counting = StatefulWorld([whole(b'{"object":"response.input_tokens","input_tokens":12}')])
    await counting.call(asked("fast"), surface="responses.input_tokens")
    replaying = StatefulWorld(
        [stream(created(), delta("x" * 5000), ended())], settings={"progress_tokens": 1, "progress_s": 0.001}
    )
    await kept(replaying, "stream=true")
    for world in (counting, replaying):
        (hold,) = world.records(Hold)
        assert not world.records(Progress)
        end = estimated_end(OpenHold(b"c" * 16, hold), ts_ms=hold.ts_ms, outcome="lost", cause="crash")
        assert (end.state, end.effective_nusd, end.lines, end.posted) == ("estimated", 0, (), ())


def priced(world: World, *meters: tuple[str, int], tier: str = "") -> None:
    """The world's model with further rates, nano-USD each."""
    sheet = POLICY.sheets["openai/gpt-test"]
    rows = [
        PriceRow(id=f"more-{meter}{tier}", meter=meter, rate_pico=nusd * 1000, source="demo", tier=tier or "standard")
        for meter, nusd in meters
    ]
    sheets = {**POLICY.sheets, "openai/gpt-test": msgspec.structs.replace(sheet, rows=(*sheet.rows, *rows))}
    vars(world.services.configuration)["policy"] = msgspec.structs.replace(POLICY, sheets=sheets)


async def test_tools_of_a_response_in_the_background_are_booked_with_their_limit() -> None:
    world = StatefulWorld([reply(response("queued", background=True))])
    priced(world, ("web_search", SEARCH_NUSD))
    body = asked("fast", background=True, max_output_tokens=50, tools=[{"type": "web_search"}], max_tool_calls=3)
    await world.call(body, surface="responses")
    end, (hold,) = world.end, world.records(Hold)
    assert {line.meter: line.quantity for line in end.lines} == {"input": 4 * 8000, "output": 50, "web_search": 3}
    assert end.effective_nusd == 4 * 8000 * INPUT_NUSD + 50 * OUTPUT_NUSD + 3 * SEARCH_NUSD
    assert hold.bound_nusd - 3 <= end.effective_nusd <= hold.bound_nusd
    assert (end.state, end.source) == ("estimated", "estimated")


async def test_the_background_costs_what_its_tier_does() -> None:
    world = StatefulWorld([reply(response("queued", background=True))])
    priced(world, ("input", 20), ("output", 100), tier="priority")
    body = asked("fast", background=True, max_output_tokens=50, service_tier="priority")
    await world.call(body, surface="responses")
    (hold,) = world.records(Hold)
    assert world.end.effective_nusd == hold.bound_nusd - 2
    assert world.end.effective_nusd > 50 * 100


async def test_output_in_the_background_without_any_limit_has_no_price() -> None:
    world = StatefulWorld([reply(response("queued", background=True))])
    sheet = PriceSheet("gpt-test", POLICY.sheets["openai/gpt-test"].rows)
    policy = msgspec.structs.replace(POLICY, sheets={**POLICY.sheets, "openai/gpt-test": sheet})
    vars(world.services.configuration)["policy"] = policy
    await world.call(asked("fast", background=True), surface="responses")
    assert (world.end.state, world.end.effective_nusd) == ("unpriced", None)


PICTURE = json.dumps({"model": "fast", "prompt": "a river", "n": 10}).encode()


@pytest.mark.parametrize(
    "script", [whole(b'{"data":[{"b64_json":"', LOST), whole(b'{"data":[]}'), whole(b"x" * 200_000)]
)
async def test_pictures_that_were_lost_are_not_free(script: Scripted) -> None:
    world = World([script])
    await world.call(PICTURE, surface="images.generations")
    assert (world.end.state, world.end.effective_nusd) == ("unpriced", None)


async def test_pictures_that_were_refused_cost_nothing() -> None:
    world = World([refusal(400)])
    await world.call(PICTURE, surface="images.generations")
    assert (world.end.state, world.end.effective_nusd) == ("priced", 0)


async def test_speech_that_was_lost_costs_its_characters() -> None:
    world = World([whole(b"ID3", LOST)])
    priced(world, ("characters", 15_000))
    body = json.dumps({"model": "fast", "input": "x" * 1_000_000, "voice": "alloy"}).encode()
    await world.call(body, surface="audio.speech")
    assert (world.end.state, world.end.effective_nusd) == ("estimated", 1_000_000 * 15_000)
