"""Usage that came before the end of a stream, and what is booked where nothing came after it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flow.laws import lawful
from flow.scripts import DONE, budget, chunk, stream, tokens_per_day
from flow.test_flow_shrink import BODY, PROMPT, PROMPT_TOKENS, early, usage
from flow.virtual_time import play
from flow.world import INPUT_NUSD, OUTPUT_NUSD, TELLS_PROMPT_FIRST, World, chat
from gateway.core.errors import UpstreamLost
from gateway.core.records import Shrink


@pytest.mark.parametrize(
    ("ending", "outcome"), [((), "truncated"), ((0.01, chunk("", "stop"), 0.01, DONE), "ok")], ids=["cut", "complete"]
)
def test_output_after_the_last_usage_is_estimated_and_not_free(ending: tuple[Any, ...], outcome: str) -> None:
    """A provider that tells usage once, at the beginning, has counted none of the answer."""

    async def estimated() -> None:
        limit = budget(10**6)
        text = "nine byte" * 2
        script = stream(0.01, chunk("Hel", usage=usage(1)), 0.01, chunk(text), *ending)
        world = World([script], limits=(limit,), providers=TELLS_PROMPT_FIRST)
        await world.call(BODY)
        end = world.end
        assert (end.state, end.outcome) == ("estimated", outcome)
        assert (end.input_tokens, end.output_tokens) == (PROMPT_TOKENS, 1 + len(text) // 3)
        assert b'"prompt_tokens"' in end.raw_usage
        assert world.spent(limit) == (PROMPT_TOKENS * INPUT_NUSD + 7 * OUTPUT_NUSD, 0)
        lawful(world)

    play(estimated())


@pytest.mark.parametrize(("ending", "state"), [((), "estimated"), ((chunk("", "stop", usage=usage(2)),), "priced")])
def test_a_stream_cut_after_a_usage_that_counts_all_of_it_is_priced_by_that(
    ending: tuple[bytes, ...], state: str
) -> None:
    """With its meters, cached tokens apart. It is exact only where nothing more can have been on its way."""

    async def priced() -> None:
        cached = {**usage(2), "prompt_tokens_details": {"cached_tokens": 150}}
        lost = UpstreamLost("it ended the connection.")
        script = stream(0.01, chunk("Hel", usage=usage(1)), 0.01, chunk("lo", usage=cached), 0.01, *ending, lost)
        world = World([script], providers=TELLS_PROMPT_FIRST)
        await world.call(BODY)
        assert (world.end.state, world.end.output_tokens) == (state, 2)
        assert world.end.source == ("provider" if state == "priced" else "estimated")
        assert [(line.meter, line.quantity) for line in world.end.lines] == [
            ("input", 50), ("cache_read", 150), ("output", 2),
        ]  # fmt: skip
        lawful(world)

    play(priced())


@pytest.mark.parametrize("told_of", ["each", "all"])
def test_of_several_choices_a_cut_stream_is_not_paid_as_one(told_of: str) -> None:
    """vLLM tells in each chunk what its choice has so far, and only at the end what all have; others tell all."""

    async def cut() -> None:
        steps: list[Any] = []
        for number in range(1, 21):
            for choice in range(4):
                output = number if told_of == "each" else 4 * (number - 1) + choice + 1
                event = chunk("wo", usage=usage(output)).replace(b'"index": 0', b'"index": %d' % choice)
                steps += [0.01, event]
        body = chat("fast", stream=True, max_tokens=50, n=4, messages=[{"role": "user", "content": PROMPT}])
        world = World([stream(*steps)], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST)
        await world.call(body)
        assert (world.end.outcome, world.end.state) == ("truncated", "estimated")
        assert world.end.output_tokens == (80 if told_of == "all" else -(-80 * len("wo") // 3))
        lawful(world)

    play(cut())


@pytest.mark.parametrize("asked", [None, 20])
def test_what_is_held_for_an_answer_without_a_known_end_does_not_shrink(asked: int | None) -> None:
    """A free model that no price source knows the sizes of, under a limit on tokens."""

    async def kept() -> None:
        world = World([early()], limits=(tokens_per_day(10**6),), providers=TELLS_PROMPT_FIRST)
        policy = world.services.configuration.policy
        free = {
            name: msgspec.structs.replace(
                sheet,
                rows=tuple(msgspec.structs.replace(row, rate_pico=0) for row in sheet.rows),
                context_window=0,
                max_output_tokens=0,
            )
            for name, sheet in policy.sheets.items()
        }
        world.services.configuration.policy = msgspec.structs.replace(policy, sheets=free)  # type: ignore[misc]
        body = chat("fast", stream=True, max_tokens=asked, messages=[{"role": "user", "content": PROMPT}])
        assert (await world.call(body)).status == 200
        assert len(world.records(Shrink)) == (asked is not None)
        lawful(world)

    play(kept())


def test_a_provider_that_may_tell_a_part_first_frees_nothing() -> None:
    """Anthropic's input grows with a search: only where the first usage is known to be whole does a hold shrink."""

    async def scene() -> None:
        world = World([early()], limits=(budget(10**6),))
        await world.call(BODY)
        assert not world.records(Shrink)
        world = World([early()], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST)
        await world.call(BODY)
        assert len(world.records(Shrink)) == 1

    play(scene())
