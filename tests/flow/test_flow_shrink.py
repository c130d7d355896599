"""Usage that comes before the end of a stream: the hold shrinks to what is left to pay, and others get the rest."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flow.fakes import Scripted
from flow.laws import lawful
from flow.scripts import DONE, budget, chunk, stream, tokens_per_day, usage_chunk
from flow.virtual_time import play
from flow.world import INPUT_NUSD, OUTPUT_NUSD, TELLS_PROMPT_FIRST, Ended, World, chat
from gateway.core.call import Head
from gateway.core.charge import PriceSheet
from gateway.core.limits import Limit, Take, Unit
from gateway.core.records import AttemptEnd, Dispatch, Hold, Settle, Shrink
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.flow.shrink import PLAUSIBLE_SHARE, SHRINK_WORTH, exact_bound, shrunk
from gateway.ledger.adopt import closing_records
from gateway.ledger.fold import Books
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import hold_bound

AT_MS = 1_795_608_000_000
BOOK = PriceBook()
MODELS = ["gpt-6.1-sol", "gpt-5", "gpt-4o", "o3", "gpt-audio", "text-embedding-3-small"]
SHEETS = [found for name in MODELS if (found := BOOK.sheet("openai", name)) is not None] + list(
    BOOK.sheets_for("simulated").values()
)
SERVED = {"": ["", "default"], "flex": ["flex", "default"], "priority": ["priority", "default"]}
PROMPT = "Say something. " * 60
BODY = chat("fast", stream=True, max_tokens=20, messages=[{"role": "user", "content": PROMPT}])
PROMPT_TOKENS = 200
BOUND_NUSD = (len(BODY) + 64) * INPUT_NUSD + 20 * OUTPUT_NUSD + 2
EXACT_NUSD = PROMPT_TOKENS * INPUT_NUSD + 20 * OUTPUT_NUSD + 2


def usage(output: int, prompt: int = PROMPT_TOKENS) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def early(*waits: float, first: object = None, last: int = 5) -> Scripted:
    """A stream whose first chunk tells the prompt, as vLLM does when asked for continuous usage."""
    wait_s = waits[0] if waits else 0.01
    return stream(
        0.01, chunk("Hel", usage=usage(0) if first is None else first), wait_s, chunk("lo", usage=usage(1)), 0.01,
        chunk("", "stop"), 0.01, usage_chunk(usage(last)), 0.01, DONE,
    )  # fmt: skip


# ---------------------------------------------------------------- the law


@settings(max_examples=400, deadline=None)
@given(
    prices=st.sampled_from(SHEETS),
    tier=st.sampled_from(sorted(SERVED)),
    text_bytes=st.one_of(st.integers(0, 5000), st.integers(0, 1_100_000)),
    longest=st.one_of(st.none(), st.integers(1, 200_000)),
    choices=st.integers(1, 4),
    flags=st.tuples(st.booleans(), st.booleans()),
    data=st.data(),
)
def test_what_a_known_prompt_can_still_cost_is_never_more_than_the_shrunk_hold(
    prices: PriceSheet,
    tier: str,
    text_bytes: int,
    longest: int | None,
    choices: int,
    flags: tuple[bool, bool],
    data: st.DataObject,
) -> None:
    """Whatever of the prompt turns out to have been cached or written, however long the answer gets."""
    markers, audio = flags
    expected = any(found.meter == Meter.OUTPUT for found in prices.rows)
    head = Head(
        model=prices.model, text_bytes=text_bytes, messages=1, max_output_tokens=longest, choices=choices,
        service_tier=tier, cache_markers=markers, audio=audio, media=int(audio), output_expected=expected,
    )  # fmt: skip
    whole = hold_bound(head, prices, AT_MS)
    assume(whole.nusd is not None)
    assert whole.nusd is not None
    prompt = data.draw(st.integers(1, max(1, whole.input_bound)))
    exact = exact_bound(head, prices, AT_MS, "", prompt)
    assert exact.nusd is not None
    assert exact.output_bound == whole.output_bound, "an answer can still become as long as it could"
    assert prompt <= exact.input_bound
    if prompt <= whole.input_bound:
        assert exact.nusd <= whole.nusd, "a hold never grows"
    left_in, left_out = prompt, exact.output_bound
    input_meters = [Meter.INPUT, Meter.CACHE_READ, Meter.CACHE_WRITE]
    input_meters += [Meter.CACHE_WRITE_1H] * markers + [Meter.INPUT_AUDIO, Meter.CACHE_READ_AUDIO] * audio
    meters: dict[Meter, int] = {}
    order = data.draw(st.permutations(input_meters))
    for meter in order[:-1]:
        meters[meter] = data.draw(st.one_of(st.just(left_in), st.integers(0, left_in)))
        left_in -= meters[meter]
    meters[order[-1]] = left_in
    for meter in data.draw(st.permutations([Meter.OUTPUT, *[Meter.OUTPUT_AUDIO] * audio])):
        meters[meter] = data.draw(st.one_of(st.just(left_out), st.integers(0, left_out)))
        left_out -= meters[meter]
    served = data.draw(st.sampled_from(SERVED[tier]))
    used = Usage({meter: n for meter, n in meters.items() if n}, UsageSource.PROVIDER, served_tier=served)
    assert used.input_tokens() + used.output_tokens() <= exact.tokens
    cost = charge(used, prices, AT_MS).effective_nusd
    assert cost is None or cost <= exact.nusd


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_nothing_of_a_hold_grows(usd: int, tokens: int, nusd: int, exact_tokens: int) -> None:
    takes = (Take("a|k|day", "a", Unit.USD, usd), Take("b|k|day", "b", Unit.TOKENS, tokens))
    held = Hold(0, b"a" * 16, 1, "", "", "", "", "", (), "", "", "", "", "", 0, 0, takes, (), usd, 0, ())
    smaller = shrunk(held, msgspec.structs.replace(hold_bound(Head("m"), None, 0), nusd=nusd, input_bound=exact_tokens))
    assert [take.amount for take in smaller.takes] == [min(usd, nusd), min(tokens, exact_tokens)]
    assert smaller.bound_nusd == min(usd, nusd)


def test_a_longer_answer_than_the_known_window_stays_held_where_the_caller_allows_it() -> None:
    """A window may be larger than the price sources say, and the first hold did not rely on it."""
    rows = BOOK.sheets_for("simulated")["sim-small"].rows
    prices = PriceSheet("m", rows, 8000, 0)
    for longest in (None, 100, 50_000):
        head = Head(model="m", text_bytes=6000, messages=1, max_output_tokens=longest)
        exact = exact_bound(head, prices, AT_MS, "", 1500)
        assert (exact.input_bound, exact.output_bound) == (1500, hold_bound(head, prices, AT_MS).output_bound)


# ---------------------------------------------------------------- on the path


def test_what_a_prompt_did_not_cost_is_given_back_while_the_answer_runs() -> None:
    async def shrank() -> None:
        limit, day = budget(10**6), tokens_per_day(10**6)
        world = World([early(5.0)], limits=(limit, day), providers=TELLS_PROMPT_FIRST)
        running = asyncio.create_task(world.call(BODY))
        await asyncio.sleep(1.0)
        assert world.spent(limit) == (0, EXACT_NUSD)
        assert world.spent(day) == (0, PROMPT_TOKENS + 20)
        assert (await running).status == 200
        (record,) = world.records(Shrink)
        assert record.bound_nusd == EXACT_NUSD
        assert [take.amount for take in record.freed] == [BOUND_NUSD - EXACT_NUSD, len(BODY) + 64 - PROMPT_TOKENS]
        assert world.spent(limit) == (PROMPT_TOKENS * INPUT_NUSD + 5 * OUTPUT_NUSD, 0)
        assert world.metrics.told == [("hold_shrunk", "cancels/gpt-test")]
        assert world.metrics.holds == [(EXACT_NUSD, PROMPT_TOKENS * INPUT_NUSD + 5 * OUTPUT_NUSD)]
        lawful(world)

    play(shrank())


def test_a_waiting_call_gets_what_was_freed_and_only_after_it_stands_in_the_journal() -> None:
    async def lent_again() -> None:
        limit = budget(BOUND_NUSD + EXACT_NUSD)
        world = World([early(20.0)], limits=(limit,), providers=TELLS_PROMPT_FIRST)
        first, second = (asyncio.create_task(world.call(BODY)) for _ in range(2))
        await asyncio.sleep(1.0)
        order = [(type(entry.record), entry.call_id) for entry in world.journal.entries]
        (a, b) = dict.fromkeys(call_id for _, call_id in order)
        assert order[:4] == [(Hold, a), (Dispatch, a), (Shrink, a), (Hold, b)], "while the first one still runs"
        assert [(await call).status for call in (first, second)] == [200, 200]
        lawful(world)

    play(lent_again())


def test_a_provider_that_counts_at_the_end_costs_no_record() -> None:
    async def untouched() -> None:
        for end in (
            (chunk("", "stop"), 0.01, usage_chunk(usage(5)), 0.01, DONE),
            (chunk("", "stop", usage=usage(5)), 1.0, DONE),
        ):
            world = World(
                [stream(0.01, chunk("Hel"), 0.01, *end)], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST
            )
            assert (await world.call(BODY)).status == 200
            assert not world.records(Shrink)
            lawful(world)

    play(untouched())


@pytest.mark.parametrize(
    "first",
    [
        usage(0, 0),
        usage(0, len(BODY) // 3 // PLAUSIBLE_SHARE - 1),
        {**usage(0), "total_tokens": 1},
        {"prompt_tokens": "many"},
    ],
    ids=["nothing", "far too few", "contradicts itself", "no number"],
)
def test_a_placeholder_is_no_prompt_and_the_next_usage_may_be(first: dict[str, Any]) -> None:
    async def waited() -> None:
        world = World([early(first=first)], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST)
        assert (await world.call(BODY)).status == 200
        (record,) = world.records(Shrink)
        assert record.bound_nusd == EXACT_NUSD
        lawful(world)

    play(waited())


def test_with_an_image_a_placeholder_is_fewer_than_its_messages_and_items() -> None:
    async def waited() -> None:
        image = {"type": "image_url", "image_url": {"url": "http://pictures.test/1.png"}}
        content = [{"type": "text", "text": PROMPT}, image]
        body = chat("fast", stream=True, max_tokens=20, messages=[{"role": "user", "content": content}])
        for placeholder in (0, 1, 2):
            world = World([early(first=usage(0, placeholder))], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST)
            assert (await world.call(body)).status == 200
            (record,) = world.records(Shrink)
            assert record.bound_nusd == EXACT_NUSD
            lawful(world)

    play(waited())


def test_what_is_not_worth_a_record_is_not_written() -> None:
    """The prompt is a small part of what may be spent: the longest answer is most of it."""

    async def kept() -> None:
        body = chat("fast", stream=True, max_tokens=100, messages=[{"role": "user", "content": "x"}])
        held = (len(body) + 64) * INPUT_NUSD + 100 * OUTPUT_NUSD + 2
        for prompt, records in ((len(body) + 64 - held // SHRINK_WORTH // INPUT_NUSD + 1, 0), (30, 1)):
            world = World(
                [early(first=usage(0, prompt), last=1)], limits=(budget(10**6),), providers=TELLS_PROMPT_FIRST
            )
            assert (await world.call(body)).status == 200
            assert len(world.records(Shrink)) == records
            lawful(world)

    play(kept())


@pytest.mark.parametrize(
    "more",
    [{"holo": 1}, {"tools": [{"type": "web_search"}]}, {"prompt_cache_retention": "24h"}],
    ids=["an unknown member", "tools at the provider", "marked for a cache"],
)
def test_what_may_add_to_a_prompt_keeps_its_hold(more: dict[str, Any]) -> None:
    async def kept() -> None:
        world = World([early()], limits=(tokens_per_day(10**6),), providers=TELLS_PROMPT_FIRST)
        body = chat("fast", stream=True, max_tokens=20, messages=[{"role": "user", "content": PROMPT}], **more)
        assert (await world.call(body)).status == 200
        assert not world.records(Shrink)
        lawful(world)

    play(kept())


def test_of_several_prompts_one_may_be_told_at_a_time() -> None:
    async def kept() -> None:
        world = World([early()], limits=(budget(10**7),), providers=TELLS_PROMPT_FIRST)
        body = json.dumps({"model": "fast", "stream": True, "max_tokens": 20, "prompt": [PROMPT, PROMPT]}).encode()
        assert (await world.call(body, surface="completions")).status == 200
        assert not world.records(Shrink)
        lawful(world)

    play(kept())


def test_without_a_limit_nothing_is_shrunk() -> None:
    async def unlimited() -> None:
        world = World([early()], providers=TELLS_PROMPT_FIRST)
        assert (await world.call(BODY)).status == 200
        assert not world.records(Shrink)
        lawful(world)

    play(unlimited())


def test_a_full_disk_keeps_its_room_for_those_that_end() -> None:
    async def kept() -> None:
        limit = budget(10**6)
        world = World([early(5.0)], limits=(limit,), providers=TELLS_PROMPT_FIRST)
        world.journal.ready = False
        assert (await world.call(BODY)).status == 200
        assert not world.records(Shrink)
        lawful(world)

    play(kept())


def test_usage_that_cannot_be_priced_after_all_spends_the_shrunk_hold_and_no_more() -> None:
    """What was freed may be another call's by then."""

    async def spent() -> None:
        limit, day = budget(10**6), tokens_per_day(10**6)
        contradiction = {**usage(5), "total_tokens": 1}
        script = stream(
            0.01,
            chunk("Hel", usage=usage(0)),
            0.01,
            chunk("lo"),
            0.01,
            chunk("", "stop"),
            usage_chunk(contradiction),
            DONE,
        )
        world = World([script], limits=(limit, day), providers=TELLS_PROMPT_FIRST)
        assert (await world.call(BODY)).status == 200
        assert len(world.records(Shrink)) == 1
        assert world.spent(limit) == (EXACT_NUSD, 0)
        assert world.spent(day) == (PROMPT_TOKENS + 20, 0)
        lawful(world)

    play(spent())


def test_a_stream_that_breaks_after_it_is_estimated_within_the_shrunk_hold() -> None:
    async def broken() -> None:
        limit = budget(10**6)
        world = World(
            [stream(0.01, chunk("Hel", usage=usage(0)), 0.01, chunk("lo" * 400))],
            limits=(limit,),
            providers=TELLS_PROMPT_FIRST,
        )
        ended: Ended = await world.call(BODY)
        assert b"error" in ended.exchange.sent
        assert world.spent(limit)[0] <= EXACT_NUSD
        lawful(world)

    play(broken())


def test_a_crash_after_it_posts_at_most_what_was_left() -> None:
    """The records as a bookkeeper reads them, cut at every place after the SHRINK."""

    async def crashed() -> None:
        limits: tuple[Limit, ...] = (budget(10**6), tokens_per_day(10**6))
        world = World([early(5.0)], limits=limits, providers=TELLS_PROMPT_FIRST)
        await world.call(BODY)
        entries = world.journal.entries
        (at,) = [place for place, entry in enumerate(entries) if isinstance(entry.record, Shrink)]
        for cut in range(at + 1, len(entries)):
            books = Books()
            for entry in entries[:cut]:
                books.apply(entry.record, entry.call_id)
            closing = [record for _, record in closing_records(books, AT_MS) if not isinstance(record, Settle)]
            for record in closing:
                assert isinstance(record, AttemptEnd)
                most = {Unit.USD: EXACT_NUSD, Unit.TOKENS: PROMPT_TOKENS + 20}
                assert record.posted
                assert all(take.amount <= most[take.unit] for take in record.posted)

    play(crashed())
