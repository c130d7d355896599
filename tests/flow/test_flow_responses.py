"""Streams of the Responses API on the path: failover, both kinds of failures, and what is booked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dialects.examples_responses import USAGE, created, delta, ended, event, numbered, text_events

from flow.fakes import Scripted
from flow.laws import lawful
from flow.scripts import LOST, budget, stream
from flow.virtual_time import play
from flow.world import INPUT_NUSD, OUTPUT_NUSD, World
from gateway.core.records import AttemptEnd

EVENTS = [event(one) for one in numbered([*text_events("hello"), ended()])]
COST_NUSD = USAGE["input_tokens"] * INPUT_NUSD + USAGE["output_tokens"] * OUTPUT_NUSD  # type: ignore[operator]
ERROR = {"type": "error", "error": {"message": "no luck", "type": "server_error"}}
SAID = event(ERROR | {"sequence_number": 0})


def asked(model: str = "fast", **more: Any) -> bytes:
    return json.dumps({"model": model, "input": "Say something.", "stream": True, **more}).encode()


def played(scripts: list[Scripted], check: Callable[[World, Any], None], model: str = "fast") -> None:
    async def run() -> None:
        world = World(scripts, limits=(budget(10_000_000),))
        check(world, await world.call(asked(model), surface="responses"))
        lawful(world)

    play(run())


def told(sent: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in sent.decode().splitlines() if line.startswith("data: ")]


def test_a_stream_of_a_response_passes_byte_for_byte_and_is_booked() -> None:
    def check(world: World, answered: Any) -> None:
        assert answered.exchange.sent == b"".join(EVENTS)
        assert (world.settle.effective_nusd, world.settle.finish_reason) == (COST_NUSD, "completed")
        assert "stream_options" not in json.loads(world.upstream.requests[0].body)

    played([stream(*EVENTS)], check)


def test_an_error_as_first_event_is_another_deployments_chance() -> None:
    def check(world: World, answered: Any) -> None:
        assert answered.exchange.sent == b"".join(EVENTS)
        first, second = world.records(AttemptEnd)
        assert (first.outcome, first.cause, first.effective_nusd) == ("error", "stream_error", 0)
        assert (second.outcome, second.effective_nusd) == ("ok", COST_NUSD)

    played([stream(SAID), stream(*EVENTS)], check, "both")


def test_a_stream_that_is_lost_says_so_and_is_estimated() -> None:
    def check(world: World, answered: Any) -> None:
        events = told(answered.exchange.sent)
        assert [one["type"] for one in events[-2:]] == ["error", "response.failed"]
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        assert events[-1]["response"] | {"status": 0, "error": 0} == events[0]["response"] | {"status": 0, "error": 0}
        assert (world.end.outcome, world.end.state, world.end.cause) == ("truncated", "estimated", "disconnected")
        assert world.end.output_tokens == 2, "a third of the bytes of `hello`"

    played([stream(*EVENTS[:6], LOST)], check)


def test_what_the_provider_says_failed_is_said_as_it_did_and_what_it_used_is_exact() -> None:
    failed = ended("failed", error={"code": "server_error", "message": "no luck"})
    script = [event(one) for one in numbered([created(), delta("hel"), ERROR, failed])]

    def check(world: World, answered: Any) -> None:
        assert answered.exchange.sent == b"".join(script)
        assert (world.end.outcome, world.end.state, world.end.source) == ("truncated", "priced", "provider")
        assert (world.end.effective_nusd, world.settle.error_code) == (COST_NUSD, "upstream_stream_error")

    played([stream(*script)], check)


def test_an_error_without_what_failed_gets_it_from_us() -> None:
    script = [event(one) for one in numbered([created(), delta("hel"), ERROR])]

    def check(world: World, answered: Any) -> None:
        events = told(answered.exchange.sent)
        assert [one["type"] for one in events] == [
            "response.created",
            "response.output_text.delta",
            "error",
            "response.failed",
        ]
        assert [one["sequence_number"] for one in events] == [0, 1, 2, 3]
        assert "no luck" in events[-1]["response"]["error"]["message"]
        assert world.end.state == "estimated"

    played([stream(*script)], check)
