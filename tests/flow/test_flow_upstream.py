"""What a provider can do to a call that is not a stream, and what becomes of the money."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from flow.fakes import Scripted
from flow.laws import lawful
from flow.scripts import (
    COST_NUSD,
    JSON,
    LOST,
    REFUSED,
    TIMEOUT,
    USAGE,
    budget,
    completion,
    refusal,
    stream,
    tokens_per_day,
    whole,
)
from flow.virtual_time import play
from flow.world import SECRET, World, chat
from gateway.core.limits import HoldKind
from gateway.core.records import AttemptEnd, Hold, Void

ESTIMATE_NUSD = -(-len(chat()) // 3) * 2
"""The input alone, at a token for each three bytes."""


@dataclass(frozen=True)
class Case:
    """One reply: what the caller gets, how the attempt ended (`void`: never sent), what it cost."""

    name: str
    script: Scripted
    status: int
    code: str
    outcome: str
    cause: str
    cost: int | None
    state: str = "priced"
    says: str = ""
    settled: str = "error"


def failed(name: str, script: Scripted, status: int, code: str, outcome: str, cause: str, cost: int = 0) -> Case:
    return Case(name, script, status, code, outcome, cause, cost, "estimated" if cost else "priced")


BROKEN_USAGE = completion({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 999})
AUDIO_USAGE = completion({**USAGE, "prompt_tokens_details": {"audio_tokens": 4}})
GUESSED = ESTIMATE_NUSD + 4 * 10
NULL_USAGE = completion(None).replace(b'"id"', b'"usage": null, "id"')
INVALID = (502, "upstream_invalid_reply", "error", "invalid_reply")
CASES = [
    Case("ok", whole(), 200, "", "ok", "", COST_NUSD, settled="ok"),
    Case("no usage", whole(completion(None)), 200, "", "ok", "", GUESSED, "estimated", settled="ok"),
    Case("usage null", whole(NULL_USAGE), 200, "", "ok", "", GUESSED, "estimated", settled="ok"),
    Case("usage that contradicts itself", whole(BROKEN_USAGE), 200, "", "ok", "", None, "unpriced", settled="ok"),
    Case("a meter without a price", whole(AUDIO_USAGE), 200, "", "ok", "", None, "unpriced", settled="ok"),
    failed("refused", Scripted(before_head=(REFUSED,)), 502, "upstream_unreachable", "void", "connect"),
    failed("lost", Scripted(before_head=(LOST,)), 502, "upstream_disconnected", "lost", "disconnected", ESTIMATE_NUSD),
    failed("late", Scripted(before_head=(TIMEOUT,)), 504, "upstream_timeout", "timeout", "timeout", ESTIMATE_NUSD),
    failed("lost later", whole(b"{", LOST), 502, "upstream_disconnected", "lost", "disconnected", ESTIMATE_NUSD),
    failed("late later", whole(b"{", TIMEOUT), 504, "upstream_timeout", "timeout", "timeout", ESTIMATE_NUSD),
    failed("not JSON", whole(b"<html>"), *INVALID, ESTIMATE_NUSD),
    failed("JSON of another kind", whole(b"[]"), *INVALID, ESTIMATE_NUSD),
    failed("empty", whole(b""), *INVALID, ESTIMATE_NUSD),
    failed("too large", whole(b" " * 100_001), *INVALID, ESTIMATE_NUSD),
    failed("a redirect", refusal(302), *INVALID),
    failed("credential refused", refusal(401), 502, "upstream_auth_error", "error", "credential"),
    failed("credential forbidden", refusal(403), 502, "upstream_auth_error", "error", "credential"),
    failed("500", refusal(500), 502, "upstream_error", "error", "http_500"),
    failed("503", refusal(503), 503, "upstream_error", "error", "http_503"),
    failed("504", refusal(504), 504, "upstream_error", "error", "http_504"),
    failed("529", refusal(529), 503, "upstream_error", "error", "http_529"),
    failed("500 lost", Scripted((LOST,), status=500), 502, "upstream_disconnected", "lost", "disconnected"),
    failed("400 endless", Scripted((b"x" * 2_000_000,), status=400), *INVALID),
]


@pytest.mark.parametrize("limited", [False, True], ids=["free", "limited"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_reply_is_answered_booked_and_settled(case: Case, limited: bool) -> None:
    async def called() -> None:
        limit = budget(10_000)
        tokens = tokens_per_day(10_000)
        world = World([case.script], limits=(limit, tokens) if limited else ())
        ended = await world.call()
        assert ended.status == case.status
        settle = world.settle
        assert (settle.outcome, settle.error_code) == (case.settled, case.code)
        assert (settle.effective_nusd, settle.cost_state) == (case.cost, case.state)
        if case.outcome == "void":
            (void,) = world.records(Void)
            assert void.cause == case.cause
        else:
            assert (world.end.outcome, world.end.cause, world.end.state) == (case.outcome, case.cause, case.state)
        if case.code:
            assert ended.json["error"]["code"] == case.code
            assert settle.causes == (f"cancels/gpt-test: {case.cause}",)
        else:
            assert ended.exchange.sent == case.script.steps[-1]
        if limited:
            bound = world.records(Hold)[0].bound_nusd
            assert world.spent(limit) == (bound if case.cost is None else case.cost, 0), (
                "unseen money is not given back"
            )
        lawful(world)

    play(called())


def test_a_usage_that_contradicts_itself_spends_all_it_may_have_used() -> None:
    async def called() -> None:
        expected = msgspec.structs.replace(budget(10_000), id="lim_expected", hold=HoldKind.ESTIMATE)
        tokens = tokens_per_day(10_000)
        world = World([whole(BROKEN_USAGE)], limits=(expected, tokens))
        assert (await world.call()).status == 200
        (hold,) = world.records(Hold)
        held = {take.limit_id: take.amount for take in hold.takes}
        assert hold.bound_nusd is not None
        assert world.spent(expected) == (max(held[expected.id], hold.bound_nusd), 0)
        assert world.spent(tokens) == (held[tokens.id], 0)
        assert held[tokens.id] > 15
        lawful(world)

    play(called())


REFUSED_FOR = {
    400: "invalid_request", 402: "insufficient_quota", 404: "not_found", 408: "timeout", 409: "invalid_request",
    413: "request_too_large", 422: "invalid_request", 429: "rate_limit_exceeded", 451: "invalid_request",
}  # fmt: skip


@pytest.mark.parametrize("status", REFUSED_FOR)
def test_a_refusal_by_the_provider_is_the_callers_to_see_byte_for_byte(status: int) -> None:
    async def refused() -> None:
        headers = {"content-type": "application/problem+json", "retry-after": "7", "x-ratelimit-limit-requests": "9",
                   "x-request-id": "up-7", "set-cookie": "a=b", "server": "theirs"}  # fmt: skip
        script = refusal(status, headers)
        world = World([script], limits=(budget(10_000),))
        ended = await world.call()
        assert (ended.status, ended.exchange.sent) == (status, script.steps[-1])
        assert ended.exchange.header("content-type") == "application/problem+json"
        assert ended.exchange.header("retry-after") == "7"
        assert ended.exchange.header("x-upstream-request-id") == "up-7"
        assert ended.exchange.header("x-upstream-ratelimit-limit-requests") == "9"
        assert ended.exchange.header("x-ratelimit-limit-requests") == "9", "kept, as the caller's key has no such limit"
        assert ended.exchange.header("set-cookie") is ended.exchange.header("server") is None
        assert (world.settle.outcome, world.settle.status, world.settle.error_code) == (
            "error", status, f"upstream_{REFUSED_FOR[status]}",
        )  # fmt: skip
        assert (world.end.effective_nusd, world.end.source, world.end.lines) == (0, "none", ())
        lawful(world)

    play(refused())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
def test_a_provider_that_quotes_our_credential_does_not_show_it(status: int) -> None:
    async def refused() -> None:
        world = World([refusal(status, message=f"Incorrect API key provided: {SECRET}.")])
        ended = await world.call()
        assert SECRET.encode() not in ended.exchange.sent
        lawful(world)

    play(refused())


def test_the_message_names_the_provider_and_what_it_said() -> None:
    async def refused() -> None:
        world = World([refusal(500, message="the model is on fire")])
        message = (await world.call()).json["error"]["message"]
        assert "cancels" in message
        assert "500" in message
        assert "the model is on fire" in message

    play(refused())


def test_a_missing_credential_fails_only_its_own_calls_and_names_the_provider() -> None:
    async def refused() -> None:
        world = World([whole()])
        ended = await world.call(chat("keyless"))
        assert (ended.status, ended.json["error"]["code"]) == (502, "upstream_auth_error")
        assert "keyless" in ended.json["error"]["message"]
        assert "MISSING" not in ended.json["error"]["message"]  # the operator's log has the reference
        assert world.upstream.requests == []
        assert (await world.call()).status == 200
        lawful(world)

    play(refused())


def test_what_is_sent_is_the_body_with_another_model_and_our_own_headers() -> None:
    async def sent() -> None:
        world = World([whole()])
        sent = {"x-sim-latency": "1", "cookie": "a=b", "openai-organization": "theirs", "x-faregate-user": "u"}
        await world.call(chat(unheard_of={"a": [1, 2]}), headers=sent)
        (request,) = world.upstream.requests
        assert request.endpoint.url == "http://cancels.test/v1/chat/completions"
        assert json.loads(request.body) == {**json.loads(chat(unheard_of={"a": [1, 2]})), "model": "gpt-test"}
        sent_headers = [*request.endpoint.headers, *request.headers]
        headers = dict(sent_headers)
        assert len(headers) == len(sent_headers)
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert headers["accept-encoding"] == "identity"
        assert set(headers) == {
            "content-type", "accept", "accept-encoding", "user-agent", "x-request-id", "authorization",
        }  # fmt: skip
        await world.call(chat("sim"), headers=sent)
        steering = world.upstream.requests[1]
        steered = dict([*steering.endpoint.headers, *steering.headers])
        assert steered["x-sim-latency"] == "1"
        assert "authorization" not in steered, "a provider without a credential gets none"
        lawful(world)

    play(sent())


@dataclass(frozen=True)
class Endpoint:
    surface: str
    body: dict[str, Any]
    reply: dict[str, Any]
    path: str
    cost: int
    more: dict[str, Any] = field(default_factory=dict)


TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
ENDPOINTS = [
    Endpoint("completions", {"prompt": "Say"}, {**TEXT, "usage": USAGE}, "/completions", COST_NUSD),
    Endpoint("embeddings", {"input": "Say"}, {**VECTORS, "usage": {"prompt_tokens": 10, "total_tokens": 10}},
             "/embeddings", 20),
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.surface)
def test_the_smaller_endpoints_go_the_same_way(endpoint: Endpoint) -> None:
    async def called() -> None:
        reply = json.dumps({"model": "gpt-test-2026", **endpoint.reply}).encode()
        world = World([Scripted((reply,), headers=JSON)], limits=(budget(10_000),))
        ended = await world.call(json.dumps({"model": "fast", **endpoint.body}).encode(), surface=endpoint.surface)
        assert (ended.status, ended.exchange.sent) == (200, reply)
        assert world.upstream.requests[0].endpoint.url == f"http://cancels.test/v1{endpoint.path}"
        assert (world.settle.endpoint, world.settle.effective_nusd) == (endpoint.surface, endpoint.cost)
        lawful(world)

    play(called())


def test_the_second_deployment_serves_when_the_first_fails() -> None:
    async def called() -> None:
        limit = budget(10_000)
        world = World([refusal(500), whole()], limits=(limit,))
        ended = await world.call(chat("both"))
        assert (ended.status, ended.exchange.header("x-faregate-deployment")) == (200, "drains/gpt-test")
        assert [hold.attempt_no for hold in world.records(Hold)] == [1, 2]
        assert [(end.outcome, end.effective_nusd) for end in world.records(AttemptEnd)] == [("error", 0), ("ok", 70)]
        assert world.settle.causes == ("cancels/gpt-test: http_500",)
        assert world.spent(limit) == (COST_NUSD, 0)
        lawful(world)

    play(called())


def test_when_all_fail_every_cause_is_told_and_the_last_one_decides() -> None:
    async def called() -> None:
        world = World([Scripted(before_head=(REFUSED,)), refusal(503)])
        ended = await world.call(chat("both"))
        assert ended.status == 503
        assert "cannot be connected" in ended.json["error"]["message"]
        assert "503" in ended.json["error"]["message"]
        assert world.settle.causes == ("cancels/gpt-test: connect", "drains/gpt-test: http_503")
        lawful(world)

    play(called())


def test_a_reply_that_is_no_stream_after_heartbeats_is_told_inside_the_stream() -> None:
    async def called() -> None:
        settings = {"first_event_wait_s": 1.0}
        world = World([stream(3.0, LOST), refusal(429)], settings=settings)
        ended = await world.call(chat("both", stream=True))
        assert ended.status == 200
        assert b'"code":"upstream_stream_error"' in ended.exchange.sent
        assert b"[DONE]" not in ended.exchange.sent
        assert world.settle.error_code == "upstream_rate_limit_exceeded"
        lawful(world)

    play(called())


def test_what_a_usage_says_that_nobody_reads_is_counted() -> None:
    async def counted() -> None:
        world = World([whole(0.01, completion({**USAGE, "holo_tokens": 3, "more": {}}))])
        assert (await world.call()).status == 200
        assert world.end.unknown_usage == ("holo_tokens", "more")
        assert world.metrics.told == [("usage_unknown", "cancels/gpt-test", 2)]
        lawful(world)

    play(counted())


@pytest.mark.parametrize(("reported_usd", "gap"), [("0.00000007", False), ("0.000000071", True), ("0.000000069", True)])
def test_what_a_provider_says_it_cost_is_compared_with_our_price(reported_usd: str, gap: bool) -> None:
    async def compared() -> None:
        world = World([whole(0.01, completion({**USAGE, "cost": float(reported_usd)}))])
        policy = world.services.configuration.policy
        vendor = msgspec.structs.replace(policy.providers["cancels"], kind="openrouter")
        sheets = {**policy.sheets, "openrouter/gpt-test": policy.sheets["openai/gpt-test"]}
        world.services.configuration.policy = msgspec.structs.replace(  # type: ignore[misc]
            policy, providers={**policy.providers, "cancels": vendor}, sheets=sheets
        )
        assert (await world.call()).status == 200
        assert world.end.effective_nusd == COST_NUSD
        assert world.metrics.told == [("cost_compared", "cancels/gpt-test", gap)]
        lawful(world)

    play(compared())
