"""Every way a call is refused before anything is sent: what is told, what is recorded, and that it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from vault.fakes import Chance

from flow.laws import lawful
from flow.scripts import budget, requests_per_minute, stream, whole
from flow.virtual_time import play
from flow.world import KEY_TEXTS, World, chat
from gateway.core.errors import (
    BadRequest,
    BodyTooLarge,
    FaregateError,
    KeysUnavailable,
    NotAuthenticated,
    NotPermitted,
    RequestTimeout,
    UnsupportedMediaType,
)
from gateway.core.limits import HoldKind
from gateway.core.records import Dispatch, Hold, Void
from gateway.core.verdict import Verdict
from gateway.vault.keys import generate

BOUND_NUSD = (len(chat()) + 64) * 2 + 100 * 10 + 2
"""What a plain call may cost: a token a byte and the template's, the model's whole output, a nano for each line."""
FORGED = generate(Chance(77), "live", KEY_TEXTS["app"].split("_")[2]).text


@dataclass(frozen=True)
class Unknown:
    """A refusal before identification: raised, counted by whoever called, never recorded."""

    name: str
    error: type[FaregateError]
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)


UNKNOWN = [
    Unknown("no key", NotAuthenticated),
    Unknown("an empty key", NotAuthenticated, headers={"authorization": "Bearer "}),
    Unknown("another scheme", NotAuthenticated, headers={"authorization": "Basic eDp5"}),
    Unknown("not a key", NotAuthenticated, "hello"),
    Unknown("a wrong secret under a known name", NotAuthenticated, FORGED),
    Unknown("a key nobody knows", NotAuthenticated, "stranger"),
    Unknown("a revoked key's text in another header", NotAuthenticated, headers={"x-api-key": KEY_TEXTS["stranger"]}),
    Unknown("two keys that differ", BadRequest, "app", {"x-api-key": KEY_TEXTS["narrow"]}),
    Unknown("expired", NotAuthenticated, "expired"),
    Unknown("paused", NotPermitted, "paused"),
    Unknown("a role that may not call models", NotPermitted, "boss"),
    Unknown("metrics only", NotPermitted, "scrape"),
    Unknown("unknown while keys are stale", KeysUnavailable, "stranger", world={"fresh_ms": 0}),
]


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case.name)
def test_before_identification_nothing_is_recorded(case: Unknown) -> None:
    async def refused() -> None:
        world = World([whole()], **case.world)
        ended = await world.call(key=case.key, headers=case.headers)
        assert type(ended.error) is case.error
        assert ended.exchange.head is None
        assert world.events == []
        lawful(world)

    play(refused())


def test_a_known_key_is_served_while_keys_are_stale() -> None:
    async def served() -> None:
        world = World([whole()], fresh_ms=0)
        assert (await world.call()).status == 200
        lawful(world)

    play(served())


@pytest.mark.parametrize("header", ["x-faregate-api-key", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_key_is_taken_from_any_header_that_sdks_use(header: str) -> None:
    async def served() -> None:
        world = World([whole()])
        alone = await world.call(key="", headers={header: KEY_TEXTS["app"]})
        agreeing = await world.call(headers={header: KEY_TEXTS["app"]})
        assert (alone.status, agreeing.status) == (200, 200)
        lawful(world)

    play(served())


@dataclass(frozen=True)
class Refused:
    """A refusal of an identified call: answered, settled as `refused`, free of charge."""

    name: str
    status: int
    code: str
    param: str | None = None
    key: str = "app"
    body: Any = b""
    world: dict[str, Any] = field(default_factory=dict)
    held: bool = False
    counted: int = 0


class Deny:
    name = "no-secrets"

    def check(self, *asked: object) -> Verdict:
        return Verdict("deny", self.name, reason="Send no secrets.")


TOO_LARGE = BodyTooLarge("The body is larger than the 20 bytes accepted here.")
RPM = {"limits": (requests_per_minute(0),)}
MANY = {"limits": (requests_per_minute(10),)}
REFUSED = [
    Refused("not JSON", 400, "invalid_request", body=b"{"),
    Refused("no messages", 400, "invalid_request", "messages", body=b'{"model":"fast"}'),
    Refused("a wrong type", 400, "invalid_request", "stream", body=chat(stream="yes")),
    Refused("too large", 413, "request_too_large", body=[TOO_LARGE]),
    Refused(
        "not JSON by its header", 415, "unsupported_media_type", body=[UnsupportedMediaType("Send application/json.")]
    ),
    Refused("a body that never ends", 408, "request_timeout", body=[RequestTimeout("The body did not arrive.")]),
    Refused("unknown model", 404, "model_not_found", "model", body=chat("fats"), world=MANY, counted=1),
    Refused("model not allowed", 403, "model_not_allowed", "model", "narrow", chat("steady")),
    Refused("policy", 403, "policy_denied", world={"guards": (Deny(),)}),
    Refused("rate limit", 429, "rate_limit_exceeded", world=RPM),
    Refused("more than the budget", 402, "budget_exceeded", world={"limits": (budget(BOUND_NUSD - 1),)}),
    Refused(
        "more than the budget, otherwise told",
        429,
        "budget_exceeded",
        world={"limits": (budget(0),), "settings": {"budget_status": 429}},
    ),
    Refused("unpriced", 403, "model_unpriced", "model", body=chat("unpriced"), world={"limits": (budget(10**9),)}),
    Refused("the journal is full", 503, "usage_log_unavailable", world={"refuse": (Hold,), **MANY}, counted=1),
    Refused(
        "full at DISPATCH", 503, "usage_log_unavailable", world={"refuse": (Dispatch,), **MANY}, held=True, counted=1
    ),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_an_identified_call_that_is_refused_is_settled_and_free(case: Refused, streamed: bool) -> None:
    async def refused() -> None:
        world = World([stream(b"never") if streamed else whole()], **case.world)
        ended = await world.call(case.body, key=case.key)
        error = ended.json["error"]
        assert (ended.status, error["code"], error["param"]) == (case.status, case.code, case.param)
        assert len(error["message"]) > 10
        assert ended.exchange.header("content-type") == "application/json"
        assert world.upstream.requests == []
        settle = world.settle
        assert (settle.outcome, settle.status, settle.error_code) == ("refused", case.status, case.code)
        assert (settle.effective_nusd, settle.list_nusd, settle.input_tokens) == (0, 0, 0)
        assert len(world.records(Hold)) == len(world.records(Void)) == int(case.held)
        assert (
            sum(take.amount for take in settle.counts)
            + sum(take.amount for hold in world.records(Hold) for take in hold.counts)
            == case.counted
        ), "a call that was admitted stays counted as a request"
        assert settle.counts == () or not case.held, "counted once"
        lawful(world)

    play(refused())


def test_close_names_are_offered_for_an_unknown_model() -> None:
    async def refused() -> None:
        world = World([whole()])
        ended = await world.call(chat("fats"))
        assert "fast" in ended.json["error"]["message"]
        assert (world.settle.model_asked, world.settle.attempts, world.settle.deployment) == ("fats", 0, "")

    play(refused())


def test_what_a_budget_allows_exactly_is_served_and_the_rest_comes_back() -> None:
    async def served() -> None:
        limit = budget(BOUND_NUSD)
        world = World([whole()], limits=(limit,))
        assert (await world.call()).status == 200
        assert world.spent(limit) == (70, 0)
        refused = await world.call()
        assert refused.status == 402, "70 are spent now, so the same bound does not fit any more"
        error = refused.json["error"]
        assert (error["spent_nusd"], error["reserved_nusd"], error["required_nusd"]) == (70, 0, BOUND_NUSD)
        assert refused.exchange.header("x-should-retry") == "false"
        lawful(world)

    play(served())


def test_a_refused_request_is_not_counted_and_the_rest_is_told_in_headers() -> None:
    async def limited() -> None:
        limit = requests_per_minute(2)
        world = World([whole()], limits=(limit,))
        left = []
        for _ in range(4):
            ended = await world.call()
            left.append((ended.status, ended.exchange.header("x-ratelimit-remaining-requests")))
            assert ended.exchange.header("x-ratelimit-limit-requests") == "2"
        assert left == [(200, "1"), (200, "0"), (429, "0"), (429, "0")]
        assert 0 < int(ended.exchange.header("retry-after") or 0) <= 65
        assert world.spent(limit) == (2, 0)
        lawful(world)

    play(limited())


def test_a_rewriting_policy_changes_what_is_sent_and_recorded() -> None:
    class Cap:
        name = "cap"

        def check(self, *asked: object) -> Verdict:
            return Verdict("rewrite", self.name, body=chat(max_tokens=7))

    async def served() -> None:
        world = World([whole()], guards=(Cap(),))
        assert (await world.call(chat(max_tokens=90))).status == 200
        assert b'"max_tokens":7' in world.upstream.requests[0].body
        assert world.settle.verdicts == ("cap:rewrite",)
        assert world.records(Hold)[0].bound_nusd == (len(chat(max_tokens=7)) + 64) * 2 + 7 * 10 + 2
        lawful(world)

    play(served())


def test_tools_at_the_provider_pass_a_budget_that_holds_estimates_and_no_proven_one() -> None:
    """Nothing limits how often they are called: a proven bound there is none, an estimate of the tokens there is."""
    searching = chat(tools=[{"type": "web_search"}])

    async def asked(hold: HoldKind) -> tuple[int, Any]:
        limit = msgspec.structs.replace(budget(10**9), hold=hold)
        world = World([whole()], limits=(limit,))
        ended = await world.call(searching)
        if ended.status == 200:
            (held,) = world.records(Hold)
            assert held.takes[0].amount > 0
            assert held.bound_nusd is None
            assert world.spent(limit)[1] == 0
        lawful(world)
        return ended.status, ended.json

    assert play(asked(HoldKind.ESTIMATE))[0] == 200
    status, refused = play(asked(HoldKind.BOUND))
    assert (status, refused["error"]["code"], refused["error"]["param"]) == (403, "model_unpriced", "tools")
    assert "web_search" in refused["error"]["message"]
    assert "hold: estimate" in refused["error"]["message"]
