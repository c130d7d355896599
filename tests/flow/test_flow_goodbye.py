"""The caller goes away: the end at once for a provider that then stops billing; another one is read to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from flow.fakes import CallersExchange, Gone, Scripted
from flow.laws import lawful
from flow.scripts import COST_NUSD, HELLO, budget, chunk, completion, refusal, stream, usage_chunk, whole
from flow.virtual_time import play
from flow.world import Ended, World, chat
from gateway.core.records import AttemptEnd, Settle

DONE = b"data: [DONE]\n\n"
LONG_WHOLE = Scripted((5.0, completion()[:40], 5.0, completion()[40:]), before_head=(10.0,))
LONG_STREAM = Scripted(
    (5.0, chunk("Hel"), 5.0, chunk("lo"), 5.0, chunk("", "stop"), 0.5, usage_chunk(), 4.5, DONE),
    headers={"content-type": "text/event-stream"},
    before_head=(10.0,),
)


async def left_after(world: World, body: bytes, seconds: float) -> tuple[Ended, float]:
    """The call of a caller that leaves after `seconds`; how long after that the path went on."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    def leaves(exchange: CallersExchange, _: object) -> None:
        loop.call_later(seconds, exchange.disconnect.left)

    ended = await world.call(body, strike_at=0, strike=leaves)
    return ended, loop.time() - began - seconds


@dataclass(frozen=True)
class Moment:
    """Where the call is when its caller goes, and what a cancelled attempt costs there. None: what usage says."""

    name: str
    script: Scripted
    after_s: float
    cost: int | None


def estimate(body: bytes, output_bytes: int = 0) -> int:
    return -(-len(body) // 3) * 2 + -(-output_bytes // 3) * 10


FAST = {streamed: chat("fast", stream=streamed) for streamed in (False, True)}
MOMENTS = [
    Moment("waiting for the head", LONG_WHOLE, 5.0, estimate(FAST[False])),
    Moment("waiting for the body", LONG_WHOLE, 12.0, estimate(FAST[False])),
    Moment("inside the body", LONG_WHOLE, 17.0, estimate(FAST[False])),
    Moment("waiting for a stream's head", LONG_STREAM, 5.0, estimate(FAST[True])),
    Moment("waiting for the first event", LONG_STREAM, 12.0, estimate(FAST[True])),
    Moment("after the first event", LONG_STREAM, 17.0, estimate(FAST[True], 3)),
    Moment("in the middle", LONG_STREAM, 22.0, estimate(FAST[True], 5)),
    Moment("after the usage", LONG_STREAM, 26.0, None),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_provider_that_then_stops_billing_is_stopped_at_once(moment: Moment) -> None:
    async def left() -> None:
        limit = budget(100_000)
        world = World([moment.script], limits=(limit,))
        body = FAST[moment.script is LONG_STREAM]
        _, went_on_s = await left_after(world, body, moment.after_s)
        assert went_on_s == pytest.approx(0, abs=0.001)
        assert all(reply.aborted for reply in world.upstream.replies)
        cost = COST_NUSD if moment.cost is None else moment.cost
        assert (world.end.outcome, world.end.cause, world.end.effective_nusd) == ("client_gone", "client_gone", cost)
        assert world.end.state == ("priced" if moment.cost is None else "estimated")
        settle = world.settle
        assert (settle.outcome, settle.status, settle.error_code) == ("client_gone", 499, "client_gone")
        assert world.spent(limit) == (cost, 0)
        lawful(world)

    play(left())


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_one_that_bills_on_is_read_to_its_end_for_the_usage(moment: Moment) -> None:
    async def left() -> None:
        limit = budget(100_000)
        world = World([moment.script], limits=(limit,))
        ended, went_on_s = await left_after(world, chat("steady", stream=moment.script is LONG_STREAM), moment.after_s)
        assert went_on_s > 0
        assert b"[DONE]" not in ended.exchange.sent, "nobody is there to read it"
        assert (world.end.outcome, world.end.effective_nusd, world.end.state) == ("ok", COST_NUSD, "priced")
        assert (world.settle.outcome, world.settle.status) == ("client_gone", 200)
        assert world.spent(limit) == (COST_NUSD, 0)
        lawful(world)

    play(left())


SLOW = [
    pytest.param(Scripted((b"",), before_head=(500.0,)), 5.0, id="head"),
    pytest.param(Scripted((500.0, completion()), before_head=()), 5.0, id="body"),
    pytest.param(stream(500.0, *HELLO, before_head=()), 5.0, id="first event"),
    pytest.param(stream(*HELLO, 500.0, DONE, before_head=()), 5.0, id="stream"),
]


@pytest.mark.parametrize(("script", "after_s"), SLOW)
def test_but_not_for_longer_than_a_minute(script: Scripted, after_s: float) -> None:
    async def left() -> None:
        world = World([script], limits=(budget(100_000),))
        _, went_on_s = await left_after(world, chat("steady", stream="stream" in str(script.headers)), after_s)
        assert went_on_s == pytest.approx(60.0, abs=0.1)
        assert (world.end.outcome, world.settle.outcome, world.settle.status) == ("client_gone", "client_gone", 499)
        lawful(world)

    play(left())


def test_a_drained_stream_that_fails_is_the_callers_leaving_and_no_truncation() -> None:
    async def left() -> None:
        world = World([stream(*HELLO, 2.0, before_head=())])
        await left_after(world, chat("steady", stream=True), 1.0)
        assert (world.end.outcome, world.settle.outcome, world.settle.status) == ("client_gone", "client_gone", 499)
        lawful(world)

    play(left())


@pytest.mark.parametrize("model", ["fast", "steady"])
@pytest.mark.parametrize("status", [429, 500])
def test_an_attempt_that_was_refused_costs_nothing_also_when_nobody_waits_for_the_refusal(
    model: str, status: int
) -> None:
    async def left() -> None:
        slow = Scripted((5.0, *refusal(status).steps), status=status, before_head=())
        world = World([slow], limits=(budget(100_000),))
        await left_after(world, chat(model), 2.0)
        assert (world.end.effective_nusd, world.end.source, world.settle.effective_nusd) == (0, "none", 0)
        lawful(world)

    play(left())


def test_a_body_that_stops_in_the_middle_is_a_caller_that_has_gone() -> None:
    async def left() -> None:
        world = World([whole()])
        ended = await world.call([chat()[:20], Gone()])
        assert ended.exchange.head is None
        assert (world.settle.outcome, world.settle.status) == ("client_gone", 499)
        assert world.upstream.requests == []
        lawful(world)

    play(left())


def test_a_caller_that_left_before_dispatch_has_nothing_sent_for_it() -> None:
    async def left() -> None:
        world = World([whole()])
        await world.call(strike_at=0, strike=lambda exchange, _: exchange.disconnect.left())
        assert world.upstream.requests == []
        assert world.records(AttemptEnd) == []
        assert world.settle.outcome == "client_gone"
        lawful(world)

    play(left())


@pytest.mark.parametrize("model", ["fast", "steady"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("after_s", [5.0, 12.0, 17.0])
def test_a_stop_of_the_server_settles_what_runs_and_passes_through(model: str, streamed: bool, after_s: float) -> None:
    async def stopped() -> None:
        loop = asyncio.get_running_loop()
        world = World([LONG_STREAM if streamed else LONG_WHOLE], limits=(budget(100_000),))
        ended = await world.call(
            chat(model, stream=streamed), strike_at=0, strike=lambda _, task: loop.call_later(after_s, task.cancel)
        )
        assert isinstance(ended.error, asyncio.CancelledError)
        assert (world.end.outcome, world.end.cause, world.end.state) == ("lost", "cancelled", "estimated")
        assert (world.settle.outcome, world.settle.error_code) == ("error", "cancelled")
        lawful(world)

    play(stopped())


def test_a_fault_of_our_own_is_settled_as_one_and_named_in_the_log() -> None:
    class Faulty:
        name = "faulty"

        def check(self, *asked: object) -> None:
            raise ZeroDivisionError

    async def failed() -> None:
        world = World([whole()], guards=(Faulty(),))
        ended = await world.call()
        assert isinstance(ended.error, ZeroDivisionError)
        (settle,) = world.records(Settle)
        assert (settle.outcome, settle.status, settle.error_code) == ("error", 500, "internal_error")
        (note,) = ended.error.__notes__
        assert "req_" in note

    play(failed())
