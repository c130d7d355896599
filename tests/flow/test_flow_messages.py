"""Messages on the request path: a count that costs nothing, pings, cut streams, betas in the bound, ids in errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from dialects.examples_messages import (
    MESSAGE_REPLY,
    MESSAGE_STREAM,
    PING,
    STOP,
    block_start,
    event,
    message_delta,
    message_start,
    text,
)

from flow.fakes import Scripted
from flow.scripts import JSON, SSE, budget, tokens_per_day, whole
from flow.virtual_time import play
from flow.world import KEY_TEXTS, POLICY, PROVIDERS, Ended, Held, World
from gateway.core.charge import PriceRow
from gateway.core.errors import UpstreamLost
from gateway.core.ids import CALL, print_id
from gateway.core.records import AttemptEnd, Hold, Settle, Shrink

SERVED = ("messages", "messages.count_tokens")
KINDS = {kind: msgspec.structs.replace(row, endpoints=SERVED) for kind, row in PROVIDERS.items()}
"""As if every provider served Messages."""
QUIRKED = {kind: msgspec.structs.replace(row, quirks=PROVIDERS["anthropic"].quirks) for kind, row in KINDS.items()}
"""As if every provider counted as Anthropic does."""


def ask(model: str = "fast", **more: Any) -> bytes:
    return json.dumps(
        {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Say something."}], **more}
    ).encode()


def count(model: str = "fast") -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Say something."}]}).encode()


def told(ended: Ended) -> dict[bytes, bytes]:
    assert ended.exchange.head is not None
    return dict(ended.exchange.head.headers)


def test_a_count_is_made_here_where_no_provider_of_the_model_counts() -> None:
    async def asked() -> None:
        world = World(limits=(budget(1),))
        ended = await world.call(count(), surface="messages.count_tokens")
        assert (ended.status, ended.json) == (200, {"input_tokens": -(-len(count()) // 3)})
        assert told(ended)[b"content-type"] == b"application/json"
        assert told(ended)[b"request-id"] == told(ended)[b"x-request-id"]
        assert world.upstream.requests == []
        assert (world.settle.outcome, world.settle.attempts, world.settle.effective_nusd) == ("ok", 0, 0)
        unknown = await world.call(count("nothing"), surface="messages.count_tokens")
        assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")

    play(asked())


def test_a_count_of_a_provider_is_passed_on_and_holds_nothing_though_the_budget_is_spent() -> None:
    async def asked() -> None:
        limits = (budget(1), tokens_per_day(1))
        world = World([Scripted((b'{"input_tokens":14}',), headers=JSON)], limits=limits, providers=KINDS)
        ended = await world.call(count("unpriced"), surface="messages.count_tokens")
        assert (ended.status, ended.json) == (200, {"input_tokens": 14})
        (hold,), (end,) = world.records(Hold), world.records(AttemptEnd)
        assert (hold.takes, hold.bound_nusd) == ((), 0)
        assert (end.state, end.effective_nusd, end.lines, end.source) == ("priced", 0, (), "none")
        assert [world.spent(limit) for limit in limits] == [(0, 0), (0, 0)]

    play(asked())


def test_a_count_that_fails_costs_nothing_either() -> None:
    async def asked() -> None:
        lost = UpstreamLost("It ended.")
        world = World([Scripted((lost,), headers=JSON), whole(b"<html>")], providers=KINDS)
        for _ in range(2):
            ended = await world.call(count(), surface="messages.count_tokens")
            assert (ended.status, ended.json["error"]["type"]) == (502, "api_error")
        assert [end.effective_nusd for end in world.records(AttemptEnd)] == [0, 0]

    play(asked())


def test_a_message_whole_and_streamed() -> None:
    async def asked() -> None:
        stream = Scripted((MESSAGE_STREAM,), headers=SSE)
        world = World([Scripted((MESSAGE_REPLY,), headers=JSON), stream], providers=KINDS)
        plain = await world.call(ask(), surface="messages")
        streamed = await world.call(ask(stream=True), surface="messages")
        assert (plain.exchange.sent, streamed.exchange.sent) == (MESSAGE_REPLY, MESSAGE_STREAM)
        for end in world.records(AttemptEnd):
            assert (end.input_tokens, end.output_tokens, end.finish_reason) == (9, 3, "end_turn")
            assert (end.model_served, end.state, end.effective_nusd) == ("m-1", "priced", 9 * 2 + 3 * 10)

    play(asked())


def test_a_late_first_event_is_bridged_with_pings() -> None:
    async def asked() -> None:
        late = Scripted((40.0, MESSAGE_STREAM), headers=SSE)
        world = World([late], providers=KINDS)
        ended = await world.call(ask(stream=True), surface="messages")
        assert ended.exchange.sent == PING * 2 + MESSAGE_STREAM

    play(asked())


def test_a_cut_message_ends_with_an_error_event_and_is_booked_by_what_came() -> None:
    async def asked() -> None:
        start = message_start(usage={"input_tokens": 30, "cache_read_input_tokens": 10, "output_tokens": 1})
        came = event(start) + event(block_start()) + event(text("x" * 60))
        world = World([Scripted((came,), headers=SSE)], providers=KINDS)
        ended = await world.call(ask(stream=True), surface="messages")
        assert ended.exchange.sent.startswith(came + b"event: error\ndata: ")
        assert STOP not in ended.exchange.sent
        end = world.end
        assert (end.outcome, end.state, end.source) == ("truncated", "estimated", "estimated")
        assert (end.input_tokens, end.output_tokens) == (40, 20)
        assert {line.meter: line.quantity for line in end.lines} == {"input": 30, "cache_read": 10, "output": 20}

    play(asked())


def test_an_error_after_pings_is_still_another_deployments_chance() -> None:
    async def asked() -> None:
        overloaded = event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        scripts = [Scripted((PING, 1.0, PING + overloaded), headers=SSE), Scripted((MESSAGE_STREAM,), headers=SSE)]
        world = World(scripts, providers=KINDS)
        ended = await world.call(ask("both", stream=True), surface="messages")
        assert ended.exchange.sent == MESSAGE_STREAM
        assert [end.effective_nusd for end in world.records(AttemptEnd)] == [0, 48]

    play(asked())


def test_errors_name_their_call() -> None:
    async def asked() -> None:
        world = World()
        ended = await world.call(ask("nothing"), surface="messages")
        (entry,) = [one for one in world.journal.entries if isinstance(one.record, Settle)]
        assert ended.json["request_id"] == print_id(CALL, entry.call_id) == told(ended)[b"request-id"].decode()

    play(asked())


def test_versions_and_betas_reach_only_providers_of_the_dialect_and_unknown_betas_are_noted() -> None:
    async def asked() -> None:
        rows = {kind: msgspec.structs.replace(row, dialect_prefixes=("anthropic-",)) for kind, row in KINDS.items()}
        sent = {"anthropic-version": "2026-10-21", "anthropic-beta": "brand-new-2027-01-01", "cookie": "c"}
        for providers, version in ((rows, "2026-10-21"), (KINDS, "2023-06-01")):
            world = World([Scripted((MESSAGE_REPLY,), headers=JSON)], providers=providers)
            await world.call(ask(), surface="messages", headers=sent)
            headers = world.upstream.requests[0].headers
            assert [value for name, value in headers if name == "anthropic-version"] == [version]
            assert dict(headers).get("anthropic-beta") == (sent["anthropic-beta"] if providers is rows else None)
            assert "cookie" not in dict(headers)

    play(asked())


def test_cache_writes_are_held_for_only_where_a_marker_asks_for_them() -> None:
    """2 nano-USD a token of input, 10 of output; a write costs 3, one for an hour 5."""
    dear = (("cache_write", 3), ("cache_write_1h", 5))
    sheet = POLICY.sheets["openai/gpt-test"]
    rows = (*sheet.rows, *(PriceRow(f"row-{meter}", meter, nusd * 1000, source="demo") for meter, nusd in dear))

    async def bound_of(**more: Any) -> int:
        world = World([Scripted((MESSAGE_REPLY,), headers=JSON)], providers=QUIRKED)
        held = world.services.configuration
        assert isinstance(held, Held)
        held.policy = msgspec.structs.replace(
            POLICY, sheets={**POLICY.sheets, "openai/gpt-test": msgspec.structs.replace(sheet, rows=rows)}
        )
        headers = more.pop("headers", {})
        body = ask(**more)
        await world.call(body, surface="messages", headers=headers)
        (hold,) = world.records(Hold)
        rate, rest = divmod(hold.bound_nusd - 50 * 10, len(body) + 64)
        assert rest < 10, "one nano-USD for each kind of line"
        return int(rate)

    async def asked() -> None:
        marker = {"type": "ephemeral"}
        assert await bound_of() == 2
        assert await bound_of(cache_control=marker) == 3
        assert await bound_of(cache_control={**marker, "ttl": "1h"}) == 5
        assert await bound_of(something_new=True) == 5
        assert await bound_of(headers={"anthropic-beta": "brand-new-2027-01-01"}) == 5
        assert await bound_of(headers={"anthropic-beta": "interleaved-thinking-2025-05-14"}) == 2

    play(asked())


def test_a_marked_prompt_is_held_for_as_long_as_nobody_has_counted_it() -> None:
    """Claude Code marks every prompt: its calls must not hold a token for each byte until they end."""
    told = {"input_tokens": 40, "cache_creation_input_tokens": 60, "cache_read_input_tokens": 900, "output_tokens": 1}
    limit = budget(1_000_000_000)

    async def asked() -> None:
        stream = event(message_start(usage=told)) + event(block_start()) + event(text("hi"))
        rest = event(message_delta(usage=told | {"output_tokens": 3})) + STOP
        world = World([Scripted((stream, 5.0, rest), headers=SSE)], limits=(limit,), providers=QUIRKED)
        marked = {"type": "text", "text": "x" * 6000, "cache_control": {"type": "ephemeral"}}
        await world.call(ask(stream=True, system=[marked]), surface="messages")
        (hold,), (shrink,), (end,) = world.records(Hold), world.records(Shrink), world.records(AttemptEnd)
        assert hold.bound_nusd > 6000 * 2
        assert end.effective_nusd <= shrink.bound_nusd <= 1000 * 2 + 50 * 10 + 10
        assert world.spent(limit) == (end.effective_nusd, 0)

    play(asked())


def test_a_key_in_either_header_is_the_same_key() -> None:
    async def asked() -> None:
        world = World([Scripted((MESSAGE_REPLY,), headers=JSON)], providers=KINDS)
        ended = await world.call(ask(), key="", surface="messages", headers={"x-api-key": KEY_TEXTS["app"]})
        assert ended.status == 200

    play(asked())
