"""Limits that go on with less output instead of refusing; and how far estimates are overshot."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.laws import lawful
from flow.scripts import (
    COST_NUSD,
    DONE,
    HELLO,
    budget,
    chunk,
    completion,
    stream,
    usage_chunk,
    whole,
)
from flow.test_flow_downgrade import only, sent, to, told
from flow.test_flow_refusals import BOUND_NUSD
from flow.virtual_time import play
from flow.world import INPUT_NUSD, MAX_OUTPUT, OUTPUT_NUSD, SURFACES, World, chat
from gateway.core.limits import HoldKind, Limit, OnExceed, Unit
from gateway.core.records import Hold, Void


def capping(amount: int, least: int = 8, unit: Unit = Unit.USD, id: str = "budget") -> Limit:
    return msgspec.structs.replace(budget(amount, OnExceed.CAP_OUTPUT), id=id, min_output=least, unit=unit)


# ---------------------------------------------------------------- cap_output


DIGIT_NUSD = INPUT_NUSD
"""The cap's own digits are part of the text: the search counts as many as the caller's limit could have."""


def input_part(body: bytes, tokens: int = 99) -> int:
    """What the bound of a body with such a limit in it is without its output: two nano-USD for its lines' rounding."""
    capped = SURFACES["chat.completions"].with_output_limit(body, tokens)
    assert capped is not None
    return (len(capped) + 64) * INPUT_NUSD + 2


@pytest.mark.parametrize("more", [{}, {"max_tokens": 90}, {"max_completion_tokens": 90}, {"max_tokens": 90, "n": 2}])
def test_output_is_capped_to_what_is_left_exactly(more: dict[str, int]) -> None:
    async def capped() -> None:
        body = chat("fast", **more)
        choices = more.get("n", 1)
        left = input_part(body) + choices * 40 * OUTPUT_NUSD
        limit = capping(left)
        world = World([whole()], limits=(limit,))
        call = await world.call(body)
        assert call.status == 200
        (hold,) = world.records(Hold)
        tokens = int(told(call, "budget-clamped") or 0)
        given = {name: value for name, value in sent(world).items() if name.startswith("max_")}
        assert given == {
            name if name in more else "max_completion_tokens": tokens for name in (more.keys() - {"n"} or {""})
        }
        assert tokens == (40 if more else 39), "as many as there is money for: `100` may be written longer than `99`"
        assert hold.bound_nusd == hold.takes[0].amount <= left
        assert left - hold.bound_nusd < choices * OUTPUT_NUSD + DIGIT_NUSD, "one more token would not fit"
        assert sent(world)["messages"] == json.loads(body)["messages"]
        assert f"limit budget:cap_output {tokens}" in world.settle.verdicts
        assert world.metrics.told == [("call_changed", "budget", "cap_output")]
        lawful(world)

    play(capped())


def test_tokens_are_capped_the_same_way() -> None:
    async def capped() -> None:
        body = chat("fast", max_tokens=90)
        text = (input_part(body) - 2) // INPUT_NUSD
        world = World([whole()], limits=(capping(text + 33, unit=Unit.TOKENS),))
        call = await world.call(body)
        assert (call.status, told(call, "budget-clamped"), sent(world)["max_tokens"]) == (200, "33", 33)
        lawful(world)

    play(capped())


def test_what_fits_is_not_touched() -> None:
    async def untouched() -> None:
        world = World([whole()], limits=(capping(10**6),))
        call = await world.call(chat("fast", max_tokens=20))
        assert (told(call, "budget-clamped"), sent(world)["max_tokens"]) == (None, 20)
        lawful(world)

    play(untouched())


@pytest.mark.parametrize("asked", [MAX_OUTPUT, 7])
def test_less_than_the_least_that_is_worth_a_call_is_a_refusal(asked: int) -> None:
    """Also where the caller itself asked for less than that: its limit stays what it is."""

    async def refused() -> None:
        body = chat("fast", max_tokens=asked)
        world = World([whole()], limits=(capping(input_part(body) + 7 * OUTPUT_NUSD - 1, least=8),))
        call = await world.call(body)
        error = call.json["error"]
        assert (call.status, error["code"]) == (402, "budget_exceeded")
        if asked > 8:
            assert error["min_output"] == 8
            assert "Not even an answer cut to 8 tokens, the least this limit allows, fits." in error["message"]
            assert "lower max_tokens" not in error["message"], "that would not help"
        else:
            assert "min_output" not in error, "it was the caller's own limit that did not fit"
        assert not world.upstream.requests
        lawful(world)

    play(refused())


def test_a_model_that_thinks_beyond_its_limit_is_not_capped() -> None:
    async def refused() -> None:
        body = chat("fast", max_tokens=MAX_OUTPUT)
        world = World([whole()], limits=(capping(input_part(body) + 50 * OUTPUT_NUSD),))
        policy = world.services.configuration.policy
        sheets = {name: msgspec.structs.replace(sheet, output_beyond=10) for name, sheet in policy.sheets.items()}
        world.services.configuration.policy = msgspec.structs.replace(policy, sheets=sheets)  # type: ignore[misc]
        assert (await world.call(body)).status == 402
        lawful(world)

    play(refused())


def test_an_embedding_has_no_output_to_cap() -> None:
    async def refused() -> None:
        world = World([whole()], limits=(capping(1),))
        body = json.dumps({"model": "fast", "input": "x"}).encode()
        assert (await world.call(body, surface="embeddings")).status == 402
        lawful(world)

    play(refused())


def test_a_cap_fits_every_limit_in_the_way_or_the_call_is_refused() -> None:
    async def refused() -> None:
        body = chat("fast", max_tokens=90)
        room = input_part(body)
        for left, status in ((30, 200), (7, 402)):
            strict = msgspec.structs.replace(budget(room + left * OUTPUT_NUSD), id="strict")
            world = World([whole()], limits=(capping(room + 60 * OUTPUT_NUSD), strict))
            call = await world.call(body)
            assert (call.status, told(call, "budget-clamped")) == (status, "30" if status == 200 else None)
            lawful(world)

    play(refused())


def test_a_limit_that_does_not_cap_refuses_by_itself() -> None:
    async def refused() -> None:
        body = chat("fast", max_tokens=90)
        strict = msgspec.structs.replace(budget(input_part(body) + 30 * OUTPUT_NUSD), id="strict")
        world = World([whole()], limits=(capping(10**6), strict))
        assert (await world.call(body)).status == 402
        lawful(world)

    play(refused())


def test_a_cap_waits_for_what_running_calls_hold_of_the_least_answer() -> None:
    async def waited() -> None:
        body = chat("fast", max_tokens=30)
        need = input_part(body) + 30 * OUTPUT_NUSD
        world = World([whole(1.0, completion())], limits=(capping(need + 20, least=8),))
        first = asyncio.create_task(world.call(body))
        await asyncio.sleep(0.1)
        second = await world.call(chat("fast", max_tokens=90))
        assert (second.status, (await first).status) == (200, 200)
        assert int(told(second, "budget-clamped") or 0) >= 8
        lawful(world)

    play(waited())


def test_a_stream_is_capped_as_well() -> None:
    async def capped() -> None:
        good = (*HELLO, chunk("", "length"), usage_chunk(), DONE)
        body = chat("fast", stream=True, max_tokens=90)
        world = World([stream(*good)], limits=(capping(input_part(body) + 60 * OUTPUT_NUSD),))
        call = await world.call(body)
        assert call.status == 200
        assert int(told(call, "budget-clamped") or 0) == sent(world)["max_tokens"] < 90
        assert sent(world)["stream_options"] == {"include_usage": True}
        lawful(world)

    play(capped())


def test_first_less_output_then_another_model() -> None:
    """Both limits have no room: the caller keeps its model where a shorter answer of it fits."""

    async def capped() -> None:
        body = chat("fast", max_tokens=90)
        room = input_part(body) + 60 * OUTPUT_NUSD
        world = World([whole()], limits=(capping(room, id="cap"), to("steady", room, "other", only("fast"))))
        call = await world.call(body)
        assert told(call, "budget-clamped") is not None
        assert told(call, "downgraded") is None
        lawful(world)

    play(capped())


def test_many_capped_at_once_never_spend_more_than_there_is() -> None:
    async def crowd() -> None:
        usage = {"prompt_tokens": 60, "completion_tokens": 8, "total_tokens": 68}
        limit = capping(2600, least=8)
        world = World([whole(0.5, completion(usage))], limits=(limit,))
        calls = await asyncio.gather(*(world.call(chat("fast", max_tokens=90)) for _ in range(40)))
        assert {call.status for call in calls} <= {200, 402, 429}
        assert sum(call.status == 200 for call in calls) >= 3
        assert world.spent(limit)[0] <= limit.amount
        assert not world.records(Void)
        lawful(world)

    play(crowd())


@pytest.mark.parametrize("first", [True, False], ids=["before a bound", "behind a bound"])
def test_how_far_an_estimate_was_overshot_is_counted_whatever_other_limits_there_are(first: bool) -> None:
    async def overshot() -> None:
        body = chat("fast")
        amount = (len(body) + 64) * INPUT_NUSD + MAX_OUTPUT * OUTPUT_NUSD + 2
        estimate = msgspec.structs.replace(budget(amount), id="estimate", hold=HoldKind.ESTIMATE)
        limits = [budget(10**9), msgspec.structs.replace(budget(10**9), id="other", unit=Unit.TOKENS)]
        limits.insert(0 if first else 2, estimate)
        usage = {"prompt_tokens": len(body) + 67, "completion_tokens": MAX_OUTPUT, "total_tokens": len(body) + 167}
        world = World([whole(0.01, completion(usage))], limits=limits)
        assert (await world.call(body)).status == 200
        assert world.metrics.told == [("overshot", "estimate", 3 * INPUT_NUSD - 2)]
        assert world.spent(estimate) == (amount + 3 * INPUT_NUSD - 2, 0)

    play(overshot())


def test_how_far_estimates_were_overshot_is_counted_once_each() -> None:
    async def overshot() -> None:
        limit = msgspec.structs.replace(budget(COST_NUSD + 10), hold=HoldKind.ESTIMATE)
        usage = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
        world = World([whole(0.5, completion(usage))], limits=(msgspec.structs.replace(limit, amount=BOUND_NUSD),))
        calls = await asyncio.gather(*(world.call() for _ in range(4)))
        spent = world.spent(limit)[0]
        beyond = [entry[2] for entry in world.metrics.told if entry[0] == "overshot"]
        assert sum(int(str(one)) for one in beyond) == max(0, spent - BOUND_NUSD)
        assert {call.status for call in calls} <= {200, 402, 429}
        lawful(world)

    play(overshot())


@settings(max_examples=120, deadline=None)
@given(
    asked=st.one_of(st.none(), st.integers(1, 200)),
    choices=st.integers(1, 3),
    text=st.text(max_size=60),
    left=st.integers(-50, 2500),
    least=st.integers(1, 40),
    unit=st.sampled_from([Unit.USD, Unit.TOKENS]),
)
def test_whatever_is_left_a_cap_fits_it_and_is_the_largest_that_does(
    asked: int | None, choices: int, text: str, left: int, least: int, unit: Unit
) -> None:
    """The law of `cap_output`: held ≤ left, not less than the least, not more than asked, and one more is too much."""

    async def lawfully() -> None:
        more = {} if asked is None else {"max_tokens": asked}
        body = chat("fast", n=choices, messages=[{"role": "user", "content": text}], **more)
        amount = max(0, left + (input_part(body) if unit is Unit.USD else (input_part(body) - 2) // INPUT_NUSD))
        limit = capping(amount, least, unit)
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        world = World([whole(0.01, completion(usage))], limits=(limit,))
        call = await world.call(body)
        most = min(asked or MAX_OUTPUT, MAX_OUTPUT)
        each = choices * (OUTPUT_NUSD if unit is Unit.USD else 1)
        digits = 3 * (INPUT_NUSD if unit is Unit.USD else 1)
        if call.status == 200:
            (hold,) = world.records(Hold)
            held = hold.takes[0].amount
            assert held <= amount
            tokens = told(call, "budget-clamped")
            if tokens is not None:
                assert least <= int(tokens) < most
                assert amount - held < each + digits or int(tokens) == most - 1, "one more does not fit"
                (name,) = [name for name in sent(world) if name.startswith("max_")]
                assert sent(world)[name] == int(tokens)
        else:
            assert call.status == (402 if unit is Unit.USD else 429)
            assert least >= most or left < least * each + digits, "a cap that would have fitted"
        lawful(world)

    play(lawfully())
