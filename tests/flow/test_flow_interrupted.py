"""Every scene, interrupted in each of its waits, in each way: the laws hold, and no cancellation is eaten."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.interruptions import STRIKES, goes, stops, struck
from flow.laws import lawful
from flow.scripts import SCENES, Scene, budget, requests_per_minute
from flow.virtual_time import play

BY_NAME = {scene.name: scene for scene in SCENES}


@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("scene", SCENES, ids=BY_NAME)
def test_lawful_wherever_a_call_is_interrupted(scene: Scene, strike: object) -> None:
    async def everywhere() -> None:
        at = 0
        while True:
            world, ended = await struck(scene, strike, at)  # type: ignore[arg-type]
            lawful(world)
            if strike is stops and ended.suspensions > at:
                assert isinstance(ended.error, asyncio.CancelledError)
            if strike is goes:
                assert ended.error is None, "the caller's leaving is no error of ours"
            if ended.suspensions <= at:
                return
            at += 1

    play(everywhere())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(BY_NAME)), st.sampled_from(sorted(STRIKES)), st.integers(0, 30))))
def test_lawful_in_one_world_with_many_interrupted_calls(calls: list[tuple[str, str, int]]) -> None:
    """One gateway, calls one after the other: what one leaves behind, the next would meet."""

    async def all_of_them() -> None:
        scenes = [BY_NAME[name] for name, _, _ in calls]
        scripts = tuple(script for scene in scenes for script in scene.scripts)
        world = Scene("many", scripts).make() if scripts else Scene("none", ()).make()
        for scene, (_, strike, at) in zip(scenes, calls, strict=True):
            await world.call(**scene.call(), strike=STRIKES[strike], strike_at=at)
        lawful(world)

    play(all_of_them())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(BY_NAME)),
            st.sampled_from(sorted(STRIKES)),
            st.integers(0, 25),
            st.floats(0, 0.2, allow_nan=False),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_lawful_with_many_calls_at_once(calls: list[tuple[str, str, int, float]]) -> None:
    """Side by side, interrupted at random, under a budget that has room for few of them: they wait for each other."""

    async def at_once() -> None:
        scenes = [BY_NAME[name] for name, *_ in calls]
        scripts = tuple(script for scene in scenes for script in scene.scripts)
        world = Scene("crowd", scripts, world={"limits": (budget(3_500), requests_per_minute(6))}).make()

        async def one(scene: Scene, strike: str, at: int, after_s: float) -> None:
            await asyncio.sleep(after_s)
            await world.call(**scene.call(), strike=STRIKES[strike], strike_at=at)

        await asyncio.gather(*(one(scene, *rest) for scene, (_, *rest) in zip(scenes, calls, strict=True)))
        lawful(world)

    play(at_once())
