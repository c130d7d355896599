"""Streams: what is relayed, what is kept back, and how one that cannot be completed ends."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.fakes import Event, Scripted
from flow.laws import lawful
from flow.scripts import (
    COST_NUSD,
    DONE,
    GOOD,
    HELLO,
    LOST,
    SSE,
    TIMEOUT,
    budget,
    chunk,
    completion,
    error_event,
    refusal,
    stream,
    usage_chunk,
    whole,
)
from flow.virtual_time import play
from flow.world import World, chat
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.records import AttemptEnd, Progress, Settle

ASKED = chat(stream=True)
WITH_USAGE = chat(stream=True, stream_options={"include_usage": True})
INPUT_NUSD = -(-len(ASKED) // 3) * 2
HEARTBEAT = b": keep-alive\n\n"
TEXT = b"".join([*(step for step in HELLO if isinstance(step, bytes)), chunk("", "stop")])


def sent_by(script: Scripted) -> bytes:
    return b"".join(step for step in script.steps if isinstance(step, bytes))


def test_a_stream_is_relayed_byte_for_byte_without_the_usage_nobody_asked_for() -> None:
    async def streamed() -> None:
        world = World([stream(*GOOD)], limits=(budget(10_000),))
        ended = await world.call(ASKED)
        assert ended.exchange.sent == TEXT + DONE
        assert json.loads(world.upstream.requests[0].body)["stream_options"] == {"include_usage": True}
        assert dict(world.upstream.requests[0].endpoint.headers)["accept"] == "text/event-stream"
        assert ended.exchange.header("content-type") == "text/event-stream; charset=utf-8"
        assert ended.exchange.header("cache-control") == "no-cache"
        assert ended.exchange.header("x-upstream-request-id") == "up-1"
        assert ended.exchange.header("content-length") is None
        settle = world.settle
        assert (settle.effective_nusd, settle.finish_reason, settle.stream) == (COST_NUSD, "stop", True)
        assert settle.raw_usage
        lawful(world)

    play(streamed())


def test_a_caller_that_asked_for_usage_gets_it() -> None:
    async def streamed() -> None:
        script = stream(*GOOD)
        world = World([script])
        ended = await world.call(WITH_USAGE)
        assert ended.exchange.sent == sent_by(script)
        lawful(world)

    play(streamed())


def test_the_terminal_event_is_kept_back_until_everything_is_settled() -> None:
    async def streamed() -> None:
        world = World([stream(*GOOD)])
        await world.call(ASKED)
        names = [
            type(event.what).__name__ if event.name == "append" else event.name
            for event in world.events
            if event.name != "write"
        ]
        assert names == ["Hold", "Dispatch", "sent", "start", "AttemptEnd", "Settle", "finish"]
        assert world.events[-1].what == DONE
        lawful(world)

    play(streamed())


def test_the_cost_comes_as_a_comment_before_the_terminal_event_if_asked_for() -> None:
    async def streamed() -> None:
        world = World([stream(*GOOD)])
        ended = await world.call(ASKED, headers={"x-faregate-usage-comment": "1"})
        call_id = ended.exchange.header("x-request-id")
        comment = f': faregate {{"cost_usd":"0.00000007","cost_state":"priced","request_id":"{call_id}"}}\n\n'.encode()
        assert ended.exchange.sent == TEXT + comment + DONE
        lawful(world)

    play(streamed())


@given(st.lists(st.integers(1, 200), max_size=30))
def test_how_the_bytes_are_cut_into_chunks_makes_no_difference(cuts: list[int]) -> None:
    async def streamed() -> None:
        whole_stream = sent_by(stream(*GOOD))
        pieces, at = [], 0
        for length in cuts:
            pieces.append(whole_stream[at : at + length])
            at += length
        world = World([stream(*pieces, whole_stream[at:])])
        ended = await world.call(ASKED)
        assert ended.exchange.sent == TEXT + DONE
        assert world.settle.effective_nusd == COST_NUSD
        lawful(world)

    play(streamed())


@dataclass(frozen=True)
class Cut:
    """A stream that begins and cannot be completed. `relayed` is what the caller saw of it before the error event."""

    name: str
    script: Scripted
    relayed: bytes
    cause: str
    code: str
    cost: int
    own_event: bool = True


BEGUN = b"".join(step for step in HELLO if isinstance(step, bytes))
ESTIMATE = INPUT_NUSD + 2 * 10
TOO_LONG = UpstreamInvalidReply("The provider sent an event longer than 4194304 bytes.")
CUTS = [
    Cut("ends early", stream(*HELLO), BEGUN, "disconnected", "upstream_disconnected", ESTIMATE),
    Cut("lost", stream(*HELLO, LOST), BEGUN, "disconnected", "upstream_disconnected", ESTIMATE),
    Cut("late", stream(*HELLO, TIMEOUT), BEGUN, "timeout", "upstream_timeout", ESTIMATE),
    Cut("endless event", stream(*HELLO, TOO_LONG), BEGUN, "invalid_reply", "upstream_invalid_reply", ESTIMATE),
    Cut("cut inside an event", stream(*HELLO, b'data: {"choices":[]}'), BEGUN + b'data: {"choices":[]}\n\n',
        "disconnected", "upstream_disconnected", ESTIMATE),
    Cut("an error inside", stream(*HELLO, error_event()), BEGUN + error_event(),
        "stream_error", "upstream_stream_error", ESTIMATE, own_event=False),
    Cut("an error after usage", stream(*HELLO, usage_chunk(), error_event(), DONE), BEGUN + error_event(),
        "stream_error", "upstream_stream_error", COST_NUSD, own_event=False),
]  # fmt: skip


@pytest.mark.parametrize("case", CUTS, ids=lambda case: case.name)
def test_a_stream_that_stops_is_never_passed_off_as_complete(case: Cut) -> None:
    async def streamed() -> None:
        limit = budget(10_000)
        world = World([case.script], limits=(limit,))
        ended = await world.call(ASKED)
        sent = ended.exchange.sent
        assert sent.startswith(case.relayed)
        assert b"[DONE]" not in sent
        last = json.loads(sent.rstrip().rpartition(b"data: ")[2])
        assert "error" in last
        if case.own_event:
            assert last["error"]["code"] == case.code
        else:
            assert sent == case.relayed
        assert (world.end.outcome, world.end.cause) == ("truncated", case.cause)
        assert (world.settle.outcome, world.settle.status, world.settle.error_code) == ("truncated", 200, case.code)
        assert world.settle.effective_nusd == case.cost
        assert world.spent(limit) == (case.cost, 0)
        lawful(world)

    play(streamed())


FIRST = [
    pytest.param(stream(error_event("overloaded")), "upstream_stream_error", id="an error"),
    pytest.param(stream(chunk("Hel") + error_event("overloaded")), "upstream_stream_error", id="an error at once"),
    pytest.param(stream(), "upstream_invalid_reply", id="nothing"),
    pytest.param(stream(b": comment\n\n"), "upstream_invalid_reply", id="only comments"),
    pytest.param(stream(DONE), "", id="the end"),
    pytest.param(stream(LOST), "upstream_disconnected", id="lost"),
    pytest.param(Scripted((b"<html>",), headers={"content-type": "text/html"}), "upstream_invalid_reply", id="a page"),
]


@pytest.mark.parametrize(("script", "code"), FIRST)
def test_what_fails_before_the_first_event_is_an_answer_with_a_status(script: Scripted, code: str) -> None:
    async def streamed() -> None:
        world = World([script])
        ended = await world.call(ASKED)
        if code:
            assert (ended.status, ended.json["error"]["code"]) == (502, code)
            assert (world.settle.outcome, world.settle.status) == ("error", 502)
        else:
            assert (ended.status, ended.exchange.sent) == (200, DONE)
        lawful(world)

    play(streamed())


def test_it_is_still_time_for_another_deployment_before_the_first_event() -> None:
    async def streamed() -> None:
        world = World([stream(error_event()), stream(*GOOD)])
        ended = await world.call(chat("both", stream=True))
        assert ended.exchange.sent == TEXT + DONE
        assert ended.exchange.header("x-faregate-deployment") == "drains/gpt-test"
        lawful(world)

    play(streamed())


def test_nothing_is_retried_after_the_first_event() -> None:
    async def streamed() -> None:
        world = World([stream(*HELLO, LOST), stream(*GOOD)])
        await world.call(chat("both", stream=True))
        assert len(world.upstream.requests) == 1
        lawful(world)

    play(streamed())


ENDS = [
    pytest.param(stream(*HELLO, chunk("", "stop")), TEXT, id="no [DONE]"),
    pytest.param(stream(*HELLO, chunk("", "stop").rstrip()), TEXT, id="no last blank line"),
    pytest.param(stream(*HELLO, chunk("", "stop"), DONE.strip()), TEXT + DONE, id="[DONE] without a blank line"),
    pytest.param(stream(*HELLO, chunk("", "stop"), DONE + b"data: more\n\n"), TEXT + DONE, id="more after [DONE]"),
    pytest.param(stream(*HELLO, chunk("", "stop"), DONE, LOST), TEXT + DONE, id="lost after [DONE]"),
    pytest.param(Scripted((TEXT + DONE,), headers={**SSE, "content-type": "Text/Event-Stream"}), TEXT + DONE,
                 id="a type in capitals"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "seen"), ENDS)
def test_ends_that_are_complete(script: Scripted, seen: bytes) -> None:
    async def streamed() -> None:
        world = World([script])
        ended = await world.call(ASKED)
        assert ended.exchange.sent == seen
        assert (world.settle.outcome, world.end.state) == ("ok", "estimated"), "no usage came: it is an estimate"
        lawful(world)

    play(streamed())


def test_a_whole_reply_to_a_call_for_a_stream_and_the_other_way_round() -> None:
    async def called() -> None:
        world = World([whole(), stream(*GOOD)])
        ended = await world.call(ASKED)
        assert (ended.status, ended.exchange.sent) == (200, completion())
        assert (await world.call()).status == 502, "nobody who asked for JSON can read events"
        lawful(world)

    play(called())


def test_a_refusal_of_a_stream_is_passed_on_with_its_status() -> None:
    async def called() -> None:
        world = World([refusal(429)])
        ended = await world.call(ASKED)
        assert (ended.status, ended.exchange.header("content-type")) == (429, "application/json")
        lawful(world)

    play(called())


SLOW = {"first_event_wait_s": 15.0, "heartbeat_s": 10.0}


@pytest.mark.parametrize("comments", [False, True], ids=["silent", "with comments of its own"])
def test_after_the_wait_for_the_first_event_come_200_and_heartbeats(comments: bool) -> None:
    """At 15, 25 and 35 s, and no earlier; a provider's comments do not put them off."""

    async def streamed() -> None:
        waiting = (b": PROCESSING\n\n", 4.0) * 10 if comments else (40.0,)
        world = World([stream(*waiting, *GOOD, before_head=())], settings=SLOW)
        ended = await world.call(ASKED)
        assert ended.exchange.sent.count(HEARTBEAT) == 3
        beats = [event for event in world.events if event == Event("write", HEARTBEAT, event.call)]
        assert len(beats) == 3
        assert ended.exchange.sent.endswith(TEXT + DONE)
        assert world.settle.ttft_us == pytest.approx(40_000_000, rel=0.01)
        assert world.settle.overhead_us < 1_000, "waiting for others is not our own time"
        lawful(world)

    play(streamed())


def test_a_stream_that_begins_in_time_gets_no_heartbeat() -> None:
    async def streamed() -> None:
        world = World([stream(14.9, *GOOD, before_head=())], settings=SLOW)
        assert HEARTBEAT not in (await world.call(ASKED)).exchange.sent
        lawful(world)

    play(streamed())


def test_an_error_after_heartbeats_is_told_inside_the_stream() -> None:
    async def streamed() -> None:
        world = World([stream(40.0, error_event("overloaded"))], settings=SLOW)
        ended = await world.call(ASKED)
        assert ended.status == 200
        assert b"upstream_stream_error" in ended.exchange.sent
        assert b"[DONE]" not in ended.exchange.sent
        assert (world.settle.outcome, world.settle.status) == ("error", 200), "200 is what the caller got"
        lawful(world)

    play(streamed())


def test_progress_is_noted_each_second_and_each_256_tokens() -> None:
    async def streamed() -> None:
        slow = [step for _ in range(5) for step in (chunk("word"), 0.6)]
        fast = [step for _ in range(4) for step in (chunk("x" * 400), 0.001)]
        world = World([stream(*slow, *fast, *GOOD)], limits=(budget(10_000),))
        await world.call(ASKED)
        noted = [progress.output_tokens for progress in world.records(Progress)]
        assert len(noted) == 2 + 2
        assert noted == sorted(noted)
        assert noted[0] < 10 < 256 < noted[-1]
        lawful(world)

    play(streamed())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_with_durability_power_nothing_final_is_released_before_it_is_on_disk(streamed: bool) -> None:
    async def called() -> None:
        world = World([stream(*GOOD) if streamed else whole()], settings={"power": True})
        await world.call(chat(stream=streamed))
        order = [event.name for event in world.events if event.name in ("synced", "finish")]
        assert order == ["synced", "finish"]
        (settled,) = [entry.seq for entry in world.journal.entries if isinstance(entry.record, Settle)]
        assert world.journal.synced_seq == settled
        lawful(world)

    play(called())


def test_with_durability_power_a_failure_that_cost_something_is_on_disk_too() -> None:
    async def called() -> None:
        world = World([Scripted(before_head=(LOST,))], settings={"power": True})
        await world.call()
        assert [event.name for event in world.events][-3:] == ["synced", "start", "finish"]
        assert world.records(AttemptEnd)[0].effective_nusd
        lawful(world)

    play(called())


def test_with_durability_process_nobody_waits_for_the_disk() -> None:
    async def called() -> None:
        world = World([whole()])
        await world.call()
        assert "synced" not in [event.name for event in world.events]

    play(called())


def test_a_stream_that_only_keeps_alive_is_given_up_and_one_that_moves_is_not() -> None:
    async def streamed() -> None:
        quiet: list[bytes | float] = [100.0, HEARTBEAT, 100.0, HEARTBEAT]
        world = World([stream(*HELLO, *quiet, 100.0, HEARTBEAT, 100.0, *GOOD)])
        ended = await world.call(ASKED)
        assert b"sent no event for 300 s" in ended.exchange.sent
        assert not ended.exchange.sent.endswith(DONE)
        assert (world.settle.outcome, world.settle.error_code) == ("truncated", "upstream_timeout")
        assert world.upstream.replies[0].aborted
        lawful(world)
        moving = World([stream(*HELLO, *quiet, chunk("a"), *quiet, chunk("b"), chunk("", "stop"), usage_chunk(), DONE)])
        ended = await moving.call(ASKED)
        assert ended.exchange.sent.endswith(DONE)
        assert moving.settle.outcome == "ok"
        lawful(moving)

    play(streamed())
