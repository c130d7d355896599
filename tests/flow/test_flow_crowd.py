"""Many calls at once under limits that cap, downgrade and refuse, with holds that shrink and callers that leave.

The history is the journal: folded record by record, no limit is ever overrun, and at the end nothing is held.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flow.fakes import Scripted
from flow.interruptions import goes
from flow.laws import lawful
from flow.scripts import chunk, completion, refusal, stream, whole
from flow.test_flow_cap import capping
from flow.test_flow_downgrade import only, to, told
from flow.test_flow_shrink import PROMPT, early
from flow.virtual_time import play
from flow.world import TELLS_PROMPT_FIRST, Ended, World, chat
from gateway.core.errors import UpstreamLost
from gateway.core.limits import Limit, Unit
from gateway.core.records import Shrink
from gateway.ledger.fold import Books

LONG: list[dict[str, Any]] = [{"role": "user", "content": PROMPT}]
SHORT: list[dict[str, Any]] = [{"role": "user", "content": "Say something."}]
USAGE = {"prompt_tokens": 30, "completion_tokens": 8, "total_tokens": 38}

SCRIPTS = st.sampled_from(["early", "early", "whole", "whole", "whole", "refused", "lost", "broken"])


def script(name: str) -> Scripted:
    match name:
        case "early":
            return early(0.4)
        case "refused":
            return refusal(500)
        case "lost":
            return whole(0.3, UpstreamLost("it ended the connection before it replied."))  # new: messages are added up
        case "broken":
            return stream(0.2, chunk("Hel"), UpstreamLost("it ended the connection in the middle."))
        case _:
            return whole(0.3, completion(USAGE))


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["fast", "fast", "steady", "both"]),
        st.booleans(),
        st.sampled_from([8, 20, 90]),
        st.integers(0, 60),
        st.sampled_from([-1, -1, -1, 2, 4]),
    ),
    min_size=12,
    max_size=24,
)


AMOUNTS = st.tuples(st.integers(1000, 9000), st.integers(200, 4000), st.integers(1000, 6000))
"""All calls' nano-USD, those of one model, and tokens."""


def limits_of(amounts: tuple[int, int, int]) -> tuple[Limit, ...]:
    all_of_it, large, tokens = amounts
    return (
        capping(all_of_it, 8, id="all"),
        to("steady", large, "large", only("fast")),
        msgspec.structs.replace(capping(tokens, 8, Unit.TOKENS, "tokens")),
    )


@settings(max_examples=40, deadline=None)
@given(CALLS, st.lists(SCRIPTS, min_size=24, max_size=24), AMOUNTS)
def test_no_crowd_overruns_a_limit_at_any_record(
    calls: list[tuple[str, bool, int, int, int]], scripts: list[str], amounts: tuple[int, int, int]
) -> None:
    async def crowd() -> None:
        limits = limits_of(amounts)
        world = World([script(name) for name in scripts], limits=limits, providers=TELLS_PROMPT_FIRST)

        async def one(model: str, long: bool, most: int, after: int, leaves: int) -> Ended:
            await asyncio.sleep(after / 100)
            body = chat(model, stream=long, max_tokens=most, messages=LONG if long else SHORT)
            return await world.call(body, strike_at=leaves, strike=goes if leaves >= 0 else None)

        ended = await asyncio.gather(*(one(*call) for call in calls))
        lawful(world)
        _within(world, limits)
        event(f"shrunk: {bool(world.records(Shrink))}")
        headed = [call for call in ended if call.exchange.head is not None]
        for what in ("budget-clamped", "downgraded"):
            event(f"{what}: {any(told(call, what) is not None for call in headed)}")

    play(crowd())


def _within(world: World, limits: tuple[Limit, ...]) -> None:
    amounts = {limit.id: limit.amount for limit in limits}
    books = Books()
    for entry in world.journal.entries:
        books.apply(entry.record, entry.call_id)
        for name, counter in books.counters.items():
            assert counter.spent + counter.reserved <= amounts[name.partition("|")[0]], name
    assert not books.anomaly_count
