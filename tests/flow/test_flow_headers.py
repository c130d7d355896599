"""What a caller is told beside the answer, and what a request's own headers say of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.laws import lawful
from flow.scripts import GOOD, budget, completion, refusal, requests_per_minute, stream, tokens_per_day, whole
from flow.virtual_time import play
from flow.world import World, chat
from gateway.core.ids import CALL, parse_id, print_id
from gateway.core.records import AttemptEnd, Hold
from gateway.flow.trace import read_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CALL_ID = b"c" * 16


def test_a_whole_answer_says_which_call_where_and_for_how_much() -> None:
    async def called() -> None:
        world = World([whole()])
        exchange = (await world.call()).exchange
        (entry, *_) = world.journal.entries
        assert exchange.header("x-request-id") == print_id(CALL, entry.call_id)
        assert parse_id(CALL, exchange.header("x-request-id") or "") == entry.call_id
        assert exchange.header("x-faregate-deployment") == "cancels/gpt-test"
        assert exchange.header("x-faregate-cost-usd") == "0.00000007"
        assert exchange.header("content-length") == str(len(completion()))
        lawful(world)

    play(called())


@pytest.mark.parametrize("script", [whole(5.0, completion()), stream(5.0, *GOOD, 5.0)], ids=["whole", "stream"])
@pytest.mark.parametrize("write_s", [0.0, 3.0], ids=["fast", "slow"])
def test_overhead_is_our_own_time_not_the_providers_nor_the_callers(script: object, write_s: float) -> None:
    async def called() -> None:
        world = World([script])  # type: ignore[list-item]
        body = chat(stream=True)
        ended = await world.call([body[:10], 7.0, body[10:]], write_s=write_s)
        assert int(ended.exchange.header("x-faregate-overhead-us") or -1) < 1_000
        assert world.settle.overhead_us < 1_000
        assert world.settle.duration_us > 12_000_000

    play(called())


def test_an_unpriced_answer_has_no_cost_and_a_refusal_neither_cost_nor_deployment() -> None:
    async def called() -> None:
        world = World([whole(), refusal(500)])
        unpriced = (await world.call(chat("unpriced"))).exchange
        assert unpriced.header("x-faregate-cost-usd") is None
        assert unpriced.header("x-faregate-deployment") == "cancels/gpt-unpriced"
        for refused in ((await world.call()).exchange, (await world.call(chat("none"))).exchange):
            assert refused.header("x-request-id")
            assert refused.header("x-faregate-deployment") is refused.header("x-faregate-cost-usd") is None
        lawful(world)

    play(called())


HOSTILE = ["any/a\r\nset-cookie: a=b", "any/a\nb", "any/\0", "any/\x85", "any/\u2028x", "any/" + "a" * 300]


@pytest.mark.parametrize("model", HOSTILE)
def test_no_model_name_gets_into_headers_that_is_more_than_a_name(model: str) -> None:
    async def called() -> None:
        world = World([whole()])
        ended = await world.call(chat(model))
        assert ended.status == 404
        lawful(world)

    play(called())


def test_a_wildcards_model_stands_in_the_header_as_far_as_a_header_can_hold_it() -> None:
    async def called() -> None:
        world = World([whole()])
        ended = await world.call(chat("any/Modell-für-Ωmega"))
        assert ended.exchange.head is not None
        assert dict(ended.exchange.head.headers)[b"x-faregate-deployment"] == "cancels/Modell-für-?mega".encode(
            "latin-1"
        )

    play(called())


def test_who_asks_is_taken_from_headers_and_the_keys_own_tags_stay() -> None:
    async def called() -> None:
        world = World([whole()])
        sent = {
            "x-faregate-user": "u" * 300,
            "x-faregate-session": "s-1",
            "x-faregate-tags": "colour=blue, env=dev,=none,novalue,team=other,Cost_Centre=9,"
            + ",".join(f"t{n}=1" for n in range(99)),
            "x-stainless-retry-count": "2",
        }
        await world.call(headers=sent)
        settle, hold = world.settle, world.records(Hold)[0]
        assert (settle.org, settle.team) == ("acme", "search")
        assert settle.user == "u" * 256
        assert settle.session == "s-1"
        tags = dict(settle.tags)
        assert (tags["env"], tags["colour"], tags["novalue"]) == ("prod", "blue", "")
        assert not {"", "team", "cost_centre"} & tags.keys(), "whose money it is, is the key's to say"
        assert len(tags) <= 17
        assert settle.client_retry == 2
        assert (hold.user, hold.session, hold.tags) == (settle.user, settle.session, settle.tags)
        lawful(world)

    play(called())


@pytest.mark.parametrize("count", ["", "-1", "²", "1e3", "9999", "x"])
def test_a_retry_count_that_is_none_is_zero(count: str) -> None:
    async def called() -> None:
        world = World([whole()])
        assert (await world.call(headers={"x-stainless-retry-count": count})).status == 200
        assert world.settle.client_retry == 0

    play(called())


def test_the_users_name_in_the_body_counts_where_no_header_names_one() -> None:
    async def called() -> None:
        world = World([whole()])
        await world.call(chat(user="body"))
        assert world.settle.user == world.records(Hold)[0].user == "body"

    play(called())


GOOD_TRACES = [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-what-comes-later"]
BAD_TRACES = [
    "", "00", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE[:-2]}  -{SPAN}-01",
    f"00-{'  '.join([TRACE[:10], TRACE[:20]])}-{SPAN}-01", f"00-{TRACE}-{SPAN[:-2]}  -01", f"zz-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-0", f"00-{'x' * 32}-{SPAN}-01",
]  # fmt: skip


@pytest.mark.parametrize("header", GOOD_TRACES)
def test_a_trace_is_taken_over(header: str) -> None:
    assert read_traceparent(header, CALL_ID) == (bytes.fromhex(TRACE), bytes.fromhex(SPAN))


@pytest.mark.parametrize("header", BAD_TRACES)
def test_a_trace_that_is_none_begins_here(header: str) -> None:
    assert read_traceparent(header, CALL_ID) == (CALL_ID, b"")


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f ]{2}-[0-9a-f ]{32}-[0-9a-f ]{16}-[0-9a-f ]{2}", fullmatch=True))
def test_trace_ids_are_always_of_their_length(header: str) -> None:
    trace, span = read_traceparent(header, CALL_ID)
    assert (len(trace), len(span)) in {(16, 8), (16, 0)}


def test_the_path_records_trace_and_parent() -> None:
    async def called() -> None:
        world = World([whole()])
        await world.call(headers={"traceparent": GOOD_TRACES[0]})
        settle = world.settle
        assert (settle.trace_id.hex(), settle.parent_span_id.hex(), len(settle.span_id)) == (TRACE, SPAN, 8)
        lawful(world)

    play(called())


def test_metrics_hear_of_each_call_once() -> None:
    async def called() -> None:
        world = World([whole()])
        await world.call()
        await world.call(b"{")
        assert [(facts["outcome"], facts["status"]) for facts in world.metrics.ended] == [("ok", 200), ("refused", 400)]
        assert world.metrics.holds == [(world.records(Hold)[0].bound_nusd, 70)]

    play(called())


def test_token_limits_are_told_with_every_answer_and_once() -> None:
    async def told() -> None:
        day = tokens_per_day(1000)
        world = World([whole()], limits=(day, requests_per_minute(9)))
        call = await world.call()
        header = call.exchange.header
        (hold,), (ended,) = world.records(Hold), world.records(AttemptEnd)
        used = ended.input_tokens + ended.output_tokens
        assert 0 < used < hold.takes[0].amount
        assert header("x-ratelimit-limit-tokens") == "1000"
        assert header("x-ratelimit-remaining-tokens") == str(1000 - used), "its own hold is not held any more"
        assert (header("x-ratelimit-limit-requests"), header("x-ratelimit-remaining-requests")) == ("9", "8")
        assert header("x-ratelimit-reset-tokens") is not None
        refused = (
            await world.call(chat("fast", max_tokens=100, messages=[{"role": "user", "content": "x" * 900}]))
        ).exchange
        assert refused.header("x-ratelimit-limit-tokens") == "1000"
        assert refused.header("x-ratelimit-remaining-requests") == "7"
        lawful(world)

    play(told())


def test_no_limit_no_headers() -> None:
    async def silent() -> None:
        world = World([whole()], limits=(budget(10**6),))
        call = await world.call()
        assert call.exchange.head is not None
        assert not [name for name, _ in call.exchange.head.headers if b"ratelimit" in name]

    play(silent())
