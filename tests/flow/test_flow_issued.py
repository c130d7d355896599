"""Ids that a provider issued, hosted tools with a limit, and responses in the background, on the path."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from dialects.examples_responses import USAGE, message, response

from flow.fakes import Scripted
from flow.scripts import whole
from flow.world import INPUT_NUSD, MAX_OUTPUT, OUTPUT_NUSD, POLICY, PROVIDERS, SURFACES, World
from gateway.core.issued import IssuedIds
from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.core.ports import StatefulSurface
from gateway.core.records import Hold
from gateway.core.tokens import estimate_tokens
from gateway.flow.issued import Issued

IDS = IssuedIds((b"s" * 32,))
STATEFUL = {name: one for name, one in SURFACES.items() if isinstance(one, StatefulSurface)}


class StatefulWorld(World):
    """A world in which ids are named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self.services, "issued", Issued(IDS, STATEFUL))


def told(**more: Any) -> Scripted:
    return reply(response("completed", [message()], usage=USAGE) | more)


def reply(value: dict[str, Any]) -> Scripted:
    return whole(json.dumps(value).encode())


def asked(model: str = "both", **more: Any) -> bytes:
    return json.dumps({"model": model, "input": "Say something.", **more}).encode()


async def test_a_reply_names_its_id_to_its_caller() -> None:
    world = StatefulWorld([told()])
    ended = await world.call(asked(), surface="responses")
    assert ended.json["id"] == IDS.name("resp_1", "acme", "cancels")
    assert world.end.upstream_id == "resp_1"


async def test_a_call_goes_on_where_the_reply_is_kept() -> None:
    world = StatefulWorld([told()])
    ended = await world.call(asked(previous_response_id=IDS.name("resp_0", "acme", "drains")), surface="responses")
    assert ended.status == 200
    assert world.end.upstream_id == "resp_1"
    sent = world.upstream.requests[0]
    assert sent.endpoint.url.startswith("http://drains.test")
    assert json.loads(sent.body)["previous_response_id"] == "resp_0"


@pytest.mark.parametrize(
    "name",
    [
        IDS.name("resp_0", "strangers", "cancels"),
        IDS.name("resp_0", "acme", "unknown"),
        "resp_0",
        IDS.name("resp_0", "acme", "cancels")[:-1],
    ],
)
async def test_an_id_of_somebody_else_does_not_exist(name: str) -> None:
    world = StatefulWorld()
    ended = await world.call(asked(previous_response_id=name), surface="responses")
    assert (ended.status, ended.json["error"]["code"]) == (404, "previous_response_not_found")
    assert world.settle.outcome == "refused"
    assert not world.upstream.requests


async def test_a_model_of_another_provider_cannot_go_on() -> None:
    world = StatefulWorld()
    ended = await world.call(
        asked("steady", previous_response_id=IDS.name("resp_0", "acme", "cancels")), surface="responses"
    )
    assert (ended.status, ended.json["error"]["param"]) == (400, "previous_response_id")


async def test_without_wiring_no_state_is_gone_on_from() -> None:
    ended = await World().call(asked(previous_response_id="resp_0"), surface="responses")
    assert ended.status == 404


async def test_a_response_in_the_background_counts_as_all_it_may_use() -> None:
    world = StatefulWorld([reply(response("queued", background=True))])
    await world.call(asked("fast", background=True, max_output_tokens=77), surface="responses")
    end = world.end
    assert (end.state, end.source, end.output_tokens, end.upstream_id) == ("estimated", "estimated", 77, "resp_1")
    (hold,) = world.records(Hold)
    assert end.effective_nusd == hold.bound_nusd - 2, "each line rounds, so a bound has one nano-USD more for each"


@pytest.mark.parametrize(("most", "status"), [(2, 200), (None, 403)])
async def test_tools_at_the_provider_fit_a_hard_budget_only_with_a_limit(most: int | None, status: int) -> None:
    limit = Limit("budget", Unit.USD, 10**12, Window(WindowKind.DAY), (("key", "*"),))
    world = StatefulWorld([told()], [limit])
    ended = await world.call(asked("fast", tools=[{"type": "mcp"}], max_tool_calls=most), surface="responses")
    assert ended.status == status
    if most is None:
        assert ended.json["error"]["code"] == "model_unpriced"
    else:
        (hold,) = world.records(Hold)
        assert hold.bound_nusd == 3 * 8000 * INPUT_NUSD + MAX_OUTPUT * OUTPUT_NUSD + 2


async def test_a_route_may_limit_the_calls_of_such_tools_where_the_request_does_not() -> None:
    limit = Limit("budget", Unit.USD, 10**12, Window(WindowKind.DAY), (("key", "*"),))
    searching: dict[str, Any] = {"tools": [{"type": "mcp"}]}
    route = POLICY.models["fast"]
    (deployment,) = route.deployments
    bounded = msgspec.structs.replace(route, deployments=(msgspec.structs.replace(deployment, max_tool_calls=2),))
    for named, expected in ((searching, 2), ({**searching, "max_tool_calls": 1}, 1), ({}, None)):
        world = StatefulWorld([told()], [limit])
        vars(world.services.configuration)["policy"] = msgspec.structs.replace(
            POLICY, models={**POLICY.models, "fast": bounded}
        )
        ended = await world.call(asked("fast", **named), surface="responses")
        assert ended.status == 200
        (sent,) = world.upstream.requests
        assert json.loads(sent.body).get("max_tool_calls") == expected


async def test_an_input_is_estimated_where_nobody_counts_it() -> None:
    rows = {**PROVIDERS, "openai": msgspec.structs.replace(PROVIDERS["openai"], endpoints=("responses",))}
    world = StatefulWorld(providers=rows)
    ended = await world.call(asked("fast"), surface="responses.input_tokens")
    assert ended.json == {"object": "response.input_tokens", "input_tokens": estimate_tokens(len(asked("fast")))}
    assert (world.settle.outcome, world.settle.effective_nusd, world.settle.attempts) == ("ok", 0, 0)
    other = StatefulWorld(providers=rows)
    kept = asked("fast", previous_response_id=IDS.name("resp_0", "acme", "cancels"))
    refused = await other.call(kept, surface="responses.input_tokens")
    assert refused.status == 400, "what is kept elsewhere cannot be estimated here"


async def test_a_count_holds_no_money_and_costs_nothing() -> None:
    limit = Limit("budget", Unit.USD, 1, Window(WindowKind.DAY), (("key", "*"),))
    world = StatefulWorld([whole(b'{"object":"response.input_tokens","input_tokens":12}')], [limit])
    ended = await world.call(asked("fast"), surface="responses.input_tokens")
    assert ended.json["input_tokens"] == 12
    assert (world.end.state, world.end.effective_nusd, world.spent(limit)) == ("priced", 0, (0, 0))
