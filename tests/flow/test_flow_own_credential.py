"""The caller's own credential: where it goes, where it never goes, and what such a call costs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flow.fakes import Scripted
from flow.scripts import COST_NUSD, JSON, TIMEOUT, budget, tokens_per_day, whole
from flow.virtual_time import play
from flow.world import KEY_TEXTS, POLICY, SECRET, Held, World, chat
from gateway.core.records import Hold, encode_record
from gateway.flow.own_credential import own_credential
from gateway.ledger.callers_own import is_callers_own

OWN = "Bearer sk-ant-oat-the-callers-own"


def open_policy() -> Any:
    providers = {
        name: msgspec.structs.replace(one, caller_credentials=name == "cancels")
        for name, one in POLICY.providers.items()
    }
    return msgspec.structs.replace(POLICY, providers=providers)


def world_of(*scripts: Scripted, **more: Any) -> World:
    world = World(scripts=scripts or (whole(),), **more)
    held = world.services.configuration
    assert isinstance(held, Held)
    held.policy = open_policy()
    return world


async def ask(world: World, model: str = "fast", own: str = OWN, **body: Any) -> Any:
    headers = {"x-faregate-api-key": KEY_TEXTS["app"], "authorization": own}
    return await world.call(chat(model, **body), key="", headers=headers)


def sent_headers(world: World) -> dict[str, str]:
    (request,) = world.upstream.requests
    return dict(request.endpoint.headers) | dict(request.headers)


def test_it_goes_to_a_provider_that_takes_it_in_place_of_ours() -> None:
    async def asked() -> None:
        world = world_of()
        assert (await ask(world)).status == 200
        headers = sent_headers(world)
        assert headers["authorization"] == OWN
        assert SECRET not in str(headers)
        assert KEY_TEXTS["app"] not in str(headers)
        end = world.end
        assert end.effective_nusd == sum(line.effective_nusd for line in end.lines) == 0
        assert end.list_nusd == sum(line.list_nusd for line in end.lines) > 0
        assert is_callers_own(end.lines)
        (hold,) = world.records(Hold)
        assert ("billing", "caller") in hold.tags
        assert ("billing", "caller") in world.settle.tags
        assert (world.settle.effective_nusd, world.settle.list_nusd) == (0, end.list_nusd)
        for record in world.records():
            assert b"oat-the-callers-own" not in encode_record(record)

    play(asked())


def test_the_list_price_is_the_usual_one() -> None:
    async def asked() -> None:
        mine, theirs = world_of(), world_of()
        await ask(theirs)
        await mine.call(chat())
        assert theirs.end.list_nusd == mine.end.list_nusd == mine.end.effective_nusd == COST_NUSD
        assert mine.end.effective_nusd == mine.settle.effective_nusd

    play(asked())


def test_other_providers_never_see_it_and_are_paid_as_usual() -> None:
    async def asked() -> None:
        world = world_of()
        await ask(world, "steady")
        assert sent_headers(world)["authorization"] == f"Bearer {SECRET}"
        assert "oat-the-callers-own" not in str(sent_headers(world))
        assert world.end.effective_nusd == world.end.list_nusd
        assert not is_callers_own(world.end.lines)
        assert ("billing", "caller") not in world.settle.tags

    play(asked())


def test_a_spent_budget_is_in_nobodys_way_and_stays_as_it_is() -> None:
    async def asked() -> None:
        nothing, tokens = budget(1), tokens_per_day(1_000_000)
        world = world_of(limits=(nothing, tokens))
        assert (await world.call(chat())).status == 402
        assert (await ask(world)).status == 200
        assert world.spent(nothing) == (0, 0)
        assert world.spent(tokens)[0] == 15

    play(asked())


def test_a_model_without_a_price_is_no_danger_to_a_budget_then() -> None:
    async def asked() -> None:
        world = world_of(limits=(budget(1_000_000),))
        assert (await world.call(chat("unpriced"))).status == 403
        assert (await ask(world, "unpriced")).status == 200
        assert world.end.state == "unpriced"

    play(asked())


def test_a_key_is_never_taken_for_a_credential() -> None:
    key = KEY_TEXTS["app"]
    both = {"x-faregate-api-key": key, "authorization": f"Bearer {key}", "x-api-key": KEY_TEXTS["narrow"]}
    assert own_credential(both) == ()
    assert own_credential({"authorization": OWN}) == ()
    sent = {"x-faregate-api-key": key, "authorization": OWN, "x-api-key": "sk-ant-api03"}
    assert own_credential(sent) == (("authorization", OWN), ("x-api-key", "sk-ant-api03"))


@pytest.mark.parametrize("status", [401, 403])
def test_its_refusal_is_the_callers_to_see(status: int) -> None:
    async def asked() -> None:
        body = b'{"type":"error","error":{"type":"authentication_error","message":"OAuth token has expired."}}'
        world = world_of(Scripted((body,), status=status, headers=JSON))
        ended = await ask(world)
        assert (ended.status, ended.exchange.sent) == (status, body)
        assert world.end.effective_nusd == 0

    play(asked())


def test_an_estimate_costs_nothing_too() -> None:
    async def asked() -> None:
        world = world_of(whole(TIMEOUT))
        await ask(world)
        assert (world.end.state, world.end.effective_nusd) == ("estimated", 0)
        assert world.end.list_nusd
        (hold,) = world.records(Hold)
        assert all(rate.rate_pico == 0 and rate.list_pico for rate in hold.rates)

    play(asked())


def test_a_caller_cannot_say_so_itself() -> None:
    async def asked() -> None:
        world = world_of()
        await world.call(chat(), headers={"x-faregate-tags": "billing=caller"})
        assert ("billing", "caller") not in world.settle.tags

    play(asked())
