"""Budgets and rates under concurrency, against a running server whose upstream answers only when told to."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from live.raw_client import post_chat
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("limits")
BODY = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100}
CALLS = 500
FIT = 37


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("limits")) as live:
        yield live


def hold_nusd(server: Running) -> int:
    """What one such call holds: read from a refusal, which names the amount it required."""
    if "poor" not in server.keys:
        server.new_key("poor", "--budget", "0.000000001USD/total")
    refused = server.call("POST", "/v1/chat/completions", BODY, server.keys["poor"])
    assert refused.status == 402
    return int(refused.json["error"]["required_nusd"])


def usd(nusd: int) -> str:
    return f"{nusd // 10**9}.{nusd % 10**9:09d}USD/total"


async def storm(server: Running, secret: str, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    return await asyncio.gather(*(post_chat(server.port, secret, BODY) for _ in range(count)))


async def opened_when_decided(server: Running, secret: str) -> list[tuple[int, dict[str, str], bytes]]:
    """The storm, with the upstream's gate opened once every call has been either dispatched or refused."""
    server.control(gate="closed")
    running_storm = asyncio.ensure_future(storm(server, secret, CALLS))
    refused = 0

    def decided() -> bool:
        nonlocal refused
        text = server.call("GET", "/metrics", key=server.keys["scrape"]).body.decode()
        refused = sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in text.split("\n")
            if line.startswith("faregate_calls_total{") and 'outcome="refused"' in line and 'status="429"' in line
        )
        return refused >= CALLS - FIT

    try:
        await asyncio.to_thread(wait_for, "a decision on all calls", decided)
    finally:
        server.control(gate="open")
    return await running_storm


async def test_a_hard_budget_lets_exactly_as_many_in_as_fit(server: Running) -> None:
    server.new_key("scrape", "--role", "metrics")
    hold = await asyncio.to_thread(hold_nusd, server)
    limit = (FIT + 1) * hold - 1
    secret = await asyncio.to_thread(server.new_key, "storm", "--budget", usd(limit))
    replies = await opened_when_decided(server, secret)
    statuses = [status for status, _, _ in replies]
    assert statuses.count(200) == FIT
    assert statuses.count(429) == CALLS - FIT
    for status, headers, body in replies:
        if status == 429:
            assert json.loads(body)["error"]["code"] == "budget_reserved"
            assert 0 < int(headers["retry-after"]) <= 10
    spent = await asyncio.to_thread(spent_nusd, server, secret)
    admitted = (limit - spent) // hold
    server.control(gate="closed")
    again = asyncio.ensure_future(storm(server, secret, CALLS))
    await asyncio.to_thread(wait_for, "the admitted calls upstream", lambda: waiting(server) >= min(admitted, FIT))
    await asyncio.sleep(3.0)  # the others have waited their two seconds and are refused
    assert waiting(server) == admitted
    server.control(gate="open")
    second = [status for status, _, _ in await again]
    assert second.count(200) == admitted
    assert second.count(402) == 0
    await asyncio.to_thread(server.verified)


def waiting(server: Running) -> int:
    """Attempts at the simulator that have begun and not ended, by its own log."""
    begun: set[str] = set()
    ended: set[str] = set()
    for line in server.witness.read_text().split("\n"):
        if line:
            event = json.loads(line)
            (begun if event["event"] == "begin" else ended).add(event["attempt_id"])
    return len(begun - ended)


def spent_nusd(server: Running, secret: str) -> int:
    def settled() -> int:
        usage = server.call("GET", "/v1/usage", key=secret).json
        total = usage["month"]["cost"]["nano_usd"] if usage["month"]["calls"] >= CALLS else 0
        return int(total)

    return wait_for("the storm in the ledger", settled)


async def test_an_sdk_retry_turns_a_reserved_budget_into_success(server: Running) -> None:
    hold = await asyncio.to_thread(hold_nusd, server)
    secret = await asyncio.to_thread(server.new_key, "patient", "--budget", usd(hold * 2 + hold // 2))
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=secret, max_retries=5) as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(
                    **BODY,
                    extra_headers={"x-sim-latency-ms": "2500", "x-sim-tokens": "1"},  # type: ignore[call-overload]
                )
                for _ in range(3)
            )
        )
    assert all(answer.choices for answer in answers)


def test_a_rate_limit_is_honest(server: Running) -> None:
    secret = server.new_key("slow", "--rpm", "3")
    replies = [server.chat(secret) for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "3"
    assert replies[0].headers["x-ratelimit-remaining-requests"] == "2"
    refused = replies[3]
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert 0 < float(refused.headers["retry-after"]) <= 65


def test_an_exhausted_budget_is_402_and_says_when_it_resets(server: Running) -> None:
    secret = server.new_key("spent", "--budget", "0.000001USD/day")
    refused = server.call("POST", "/v1/chat/completions", BODY, secret)
    error = refused.json["error"]
    assert (refused.status, error["code"], error["type"]) == (402, "budget_exceeded", "budget_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert isinstance(error["resets_at"], int)
    assert error["resets_at_iso"].endswith("Z")


def test_the_witness_file_exists_where_the_books_are_compared(server: Running) -> None:
    assert server.chat(server.new_key("witnessed")).status == 200
    assert server.witness.stat().st_size > 0
