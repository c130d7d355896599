"""Limits that go on with another model instead of refusing."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from flow.laws import lawful
from flow.scripts import (
    COST_NUSD,
    budget,
    completion,
    refusal,
    requests_per_minute,
    tokens_per_day,
    whole,
)
from flow.test_flow_refusals import BOUND_NUSD
from flow.virtual_time import play
from flow.world import Ended, World, chat
from gateway.core.limits import Limit, OnExceed
from gateway.core.records import Hold, Settle
from gateway.flow.downgrade import DOWNGRADES_MAX
from gateway.limits.rules import Rules


def to(model: str, amount_nusd: int, id: str = "budget", scope: tuple[tuple[str, str], ...] = (("key", "*"),)) -> Limit:
    limit = budget(amount_nusd, OnExceed.DOWNGRADE)
    return msgspec.structs.replace(limit, id=id, downgrade_to=model, scope=scope)


def only(model: str) -> tuple[tuple[str, str], ...]:
    return (("key", "*"), ("model", model))


def sent(world: World, number: int = 0) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.upstream.requests[number].body)
    return body


def told(call: Ended, name: str) -> str | None:
    return call.exchange.header(f"x-faregate-{name}")


# ---------------------------------------------------------------- downgrade


def test_a_call_without_room_goes_on_with_the_model_its_limit_names() -> None:
    async def goes_on() -> None:
        limit = to("steady", 10, scope=only("fast"))
        world = World([whole()], limits=(limit,))
        call = await world.call()
        assert call.status == 200
        assert told(call, "downgraded") == "fast -> steady"
        assert told(call, "deployment") == "drains/gpt-test"
        assert sent(world)["model"] == "gpt-test"
        settle = world.settle
        assert (settle.model_asked, settle.deployment, settle.outcome) == ("fast", "drains/gpt-test", "ok")
        assert "limit budget:downgrade steady" in settle.verdicts
        (hold,) = world.records(Hold)
        assert (hold.model_asked, hold.takes) == ("fast", ()), "the limit is on the other model only"
        assert world.metrics.told == [("call_changed", "budget", "downgrade")]
        lawful(world)

    play(goes_on())


def test_what_does_not_fit_there_either_is_told_the_first_refusal() -> None:
    async def refused() -> None:
        world = World([whole()], limits=(to("steady", 10),))
        call = await world.call()
        assert (call.status, call.json["error"]["code"], call.json["error"]["limit_id"]) == (
            402, "budget_exceeded", "budget",
        )  # fmt: skip
        assert told(call, "downgraded") is None
        assert not world.upstream.requests
        assert world.settle.verdicts == ("allowed_models:allow",)
        lawful(world)

    play(refused())


def test_limits_that_point_at_each_other_end() -> None:
    async def ends() -> None:
        limits = [
            to("steady", 1, "a", only("fast")),
            to("both", 1, "b", only("steady")),
            to("fast", 1, "c", only("both")),
        ]
        world = World([whole()], limits=limits)
        call = await world.call()
        assert (call.status, call.json["error"]["limit_id"]) == (402, "a"), "the refusal of the model asked for"
        lawful(world)

    play(ends())


def test_a_chain_goes_on_to_where_there_is_room() -> None:
    async def chained() -> None:
        limits = [to("steady", 1, "a", only("fast")), to("sim", 1, "b", only("steady"))]
        world = World([whole()], limits=limits)
        call = await world.call()
        assert (call.status, told(call, "downgraded")) == (200, "fast -> sim")
        assert "limit b:downgrade sim" in world.settle.verdicts
        lawful(world)

    play(chained())


def test_no_chain_is_longer_than_some() -> None:
    async def bounded() -> None:
        names = ["fast", *(f"any/m{n}" for n in range(30)), "steady"]
        limits = [to(after, 1, f"l{n:02}", only(name)) for n, (name, after) in enumerate(pairwise(names))]
        world = World([whole()], limits=limits[: DOWNGRADES_MAX + 2])
        assert (await world.call()).status == 402
        lawful(world)

    play(bounded())


@pytest.mark.parametrize("model", ["steady", "nothing-like-it", "unpriced"])
def test_a_model_that_may_not_or_cannot_be_used_is_no_way_out(model: str) -> None:
    """The key of `narrow` may use models that begin with `fa` only; an unpriced one passes no hard budget."""

    async def refused() -> None:
        limit = to(model, 1)
        world = World([whole()], limits=(limit,))
        key = "narrow" if model == "steady" else "app"
        if key == "narrow":
            world.services.wants.use(_rules(limit))
        call = await world.call(key=key)
        assert (call.status, call.json["error"]["code"]) == (402, "budget_exceeded")
        lawful(world)

    play(refused())


def _rules(*limits: Limit) -> Any:
    return Rules(limits)


def test_money_that_others_hold_is_waited_for_before_another_model_is() -> None:
    async def waited() -> None:
        limit = to("sim", BOUND_NUSD + COST_NUSD, scope=only("fast"))
        world = World([whole(1.0, completion())], limits=(limit,))
        calls = await asyncio.gather(world.call(), world.call())
        assert [told(call, "downgraded") for call in calls] == [None, None]
        world = World([whole(30.0, completion())], limits=(limit,))
        calls = await asyncio.gather(world.call(), world.call())
        assert [(call.status, told(call, "downgraded")) for call in calls] == [(200, None), (200, "fast -> sim")]
        lawful(world)

    play(waited())


def test_a_downgraded_call_counts_as_a_request_of_the_model_it_went_to() -> None:
    async def counted() -> None:
        few = msgspec.structs.replace(requests_per_minute(1), scope=only("steady"))
        all_of_them = msgspec.structs.replace(requests_per_minute(9), id="all")
        world = World([whole()], limits=(to("steady", 1, scope=only("fast")), few, all_of_them))
        calls = [await world.call(), await world.call()]
        assert [call.status for call in calls] == [200, 402], "the second finds no room there, and is told the budget"
        assert world.spent(few)[0] == 1
        assert world.spent(all_of_them)[0] == 2, "what both models count is counted once a call"
        assert [len(settle.counts) for settle in world.records(Settle)] == [0, 1]
        lawful(world)

    play(counted())


def test_a_failed_attempt_at_the_model_asked_for_keeps_its_hold_and_its_cause() -> None:
    """Two deployments; the second one has no room left and the limit names another model."""

    async def failed_over() -> None:
        scope = (("key", "*"), ("provider", "drains"))
        world = World([refusal(500), whole()], limits=(to("sim", 1, scope=scope), budget(10**6, OnExceed.DRY_RUN)))
        world.limits = ()
        call = await world.call(chat("both"))
        assert (call.status, told(call, "downgraded"), told(call, "deployment")) == (
            200,
            "both -> sim",
            "simulated/gpt-test",
        )
        assert world.settle.causes == ("cancels/gpt-test: http_500",)
        lawful(world)

    play(failed_over())


def test_a_model_whose_attempt_failed_is_not_gone_on_with_again() -> None:
    """Its second deployment has no room, and the limit in its way names it once more."""

    async def ended() -> None:
        limits = (to("both", 1, "a", only("fast")), to("both", 1, "b", (("key", "*"), ("provider", "drains"))))
        world = World([refusal(500)], limits=limits)
        call = await world.call()
        assert (call.status, call.json["error"]["limit_id"]) == (402, "b")
        assert len(world.upstream.requests) == 1
        assert told(call, "downgraded") == "fast -> both", "the attempt that failed was that model's"
        lawful(world)

    play(ended())


def test_an_embedding_is_not_sent_to_a_model_that_serves_none() -> None:
    async def refused() -> None:
        world = World([whole()], limits=(to("nowhere", 1),))
        body = json.dumps({"model": "fast", "input": "x"}).encode()
        assert (await world.call(body, surface="embeddings")).status == 402
        lawful(world)

    play(refused())


def test_what_is_left_of_the_tokens_of_a_model_gone_away_from_is_not_told() -> None:
    async def untold() -> None:
        large = msgspec.structs.replace(tokens_per_day(10**6), scope=only("both"))
        limits = (large, to("sim", 1, scope=(("key", "*"), ("provider", "drains"))))
        world = World([refusal(500), whole()], limits=limits)
        call = await world.call(chat("both"))
        assert (call.status, told(call, "downgraded")) == (200, "both -> sim")
        assert call.exchange.header("x-ratelimit-limit-tokens") is None
        lawful(world)

    play(untold())
