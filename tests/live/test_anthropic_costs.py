"""Anthropic's golden cases end to end: a caller, the gateway, a provider that says this usage, the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from live.pretend_anthropic import OWN_KEY, PretendAnthropic, message, pretending, streamed
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("pretend-anthropic")
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden_costs.json").read_text())
CASES = {
    case["id"]: case for case in GOLDEN["cases"] if case["kind"] == "price" and case.get("provider") == "anthropic"
}
NOT_AT_FIRST = ("server_tool_use", "iterations")


@pytest.fixture(scope="module")
def pretend() -> Iterator[PretendAnthropic]:
    with pretending() as one:
        yield one


@pytest.fixture(scope="module")
def priced_server(pretend: PretendAnthropic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    os.environ["PRETEND_ANTHROPIC_KEY"] = OWN_KEY
    try:
        with running(
            tmp_path_factory.mktemp("claude"),
            pretend.routes("caller_credentials: true").replace("{", "{{").replace("}", "}}"),
        ) as live:
            live.new_key("app")
            yield live
    finally:
        del os.environ["PRETEND_ANTHROPIC_KEY"]


def could_cost(case: dict[str, Any]) -> dict[str, Any]:
    """What a request must ask for to use what the case says: `ledger verify` compares each cost with its bound."""
    usage = final_usage(case)
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
    marked = {"type": "text", "text": "Look.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    asking: dict[str, Any] = {"max_tokens": 4000, "messages": [{"role": "user", "content": [image, marked]}]}
    if usage.get("server_tool_use"):
        asking["tools"] = [{"type": "web_search_20250305", "name": "web_search"}]
    if usage.get("speed"):
        asking["speed"] = usage["speed"]
    if usage.get("iterations"):
        asking["context_management"] = {"edits": [{"type": "compact_20260112"}]}
    return asking


def asked(server: Running, model: str, **more: Any) -> Any:
    """The ledger's row of a message that `model` was asked for."""
    body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "What does it cost?"}], **more}
    reply = server.call("POST", "/v1/messages", body, headers={"x-api-key": server.keys["app"]})
    assert reply.status == 200, reply.body

    def look():
        row = server.call("GET", f"/v1/requests/{reply.headers['request-id']}", key=server.keys["app"])
        return row.json if row.status == 200 and row.json["outcome"] != "running" else None

    return wait_for("the call in the ledger", look)


def final_usage(case: dict[str, Any]) -> dict[str, Any]:
    return case["raw_usage"] if "raw_usage" in case else case["raw_stream"][-1]["usage"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_whole_message_costs_what_the_golden_case_says(
    priced_server: Running, pretend: PretendAnthropic, case: dict[str, Any]
) -> None:
    pretend.answer(message(case["model"], final_usage(case)))
    row = asked(priced_server, case["model"], **could_cost(case))
    assert row["cost"]["nano_usd"] == case["expected_nano_usd"]
    assert (row["cost"]["state"], row["attempts"][0]["source"]) == ("priced", "provider")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_streamed_message_costs_what_the_golden_case_says(
    priced_server: Running, pretend: PretendAnthropic, case: dict[str, Any]
) -> None:
    if "raw_stream" in case:
        start, *deltas = [event.get("message", event)["usage"] for event in case["raw_stream"]]
    else:
        whole = case["raw_usage"]
        start = {name: value for name, value in whole.items() if name not in NOT_AT_FIRST} | {"output_tokens": 1}
        deltas = [{name: value for name, value in whole.items() if name != "cache_creation"}]
    pretend.answer(streamed(case["model"], start, *deltas))
    row = asked(priced_server, case["model"], stream=True, **could_cost(case))
    assert row["cost"]["nano_usd"] == case["expected_nano_usd"]
    assert (row["cost"]["state"], row["attempts"][0]["source"]) == ("priced", "provider")


def test_every_golden_case_of_anthropic_is_here() -> None:
    assert CASES.keys() == {"G19", "G20", "G21", "G22", "G23", "G24"}


def test_headers_and_bodies_pass_as_they_are(priced_server: Running, pretend: PretendAnthropic) -> None:
    reply = message("claude-haiku-4-5", {"input_tokens": 5, "output_tokens": 2})
    pretend.answer(
        reply, request_id="req_upstream", anthropic_ratelimit_requests_limit="50", anthropic_organization_id="org"
    )
    body = b'{ "model":"claude-haiku-4-5", "max_tokens":9,\n"messages":[{"role":"user","content":"\\u00e9"}], "x":1.0 }'
    betas = "future-thing-2027-01-01,interleaved-thinking-2025-05-14"
    answered = priced_server.call(
        "POST",
        "/v1/messages?beta=true",
        body,
        headers={
            "x-api-key": priced_server.keys["app"],
            "anthropic-version": "2026-10-21",
            "anthropic-beta": betas,
            "cookie": "secret",
        },
    )
    assert answered.body == reply
    sent = pretend.received[-1]
    assert (sent.path, sent.body) == ("/v1/messages", body)
    assert sent.headers["x-api-key"] == OWN_KEY
    assert (sent.headers["anthropic-version"], sent.headers["anthropic-beta"]) == ("2026-10-21", betas)
    assert not {"cookie", "authorization"} & sent.headers.keys()
    assert answered.headers["x-upstream-request-id"] == "req_upstream"
    assert answered.headers["request-id"].startswith("req_")
    assert answered.headers["x-upstream-anthropic-ratelimit-requests-limit"] == "50"
    assert "anthropic-organization-id" not in answered.headers


def test_a_caller_without_a_version_gets_one_that_every_model_takes(
    priced_server: Running, pretend: PretendAnthropic
) -> None:
    pretend.answer(message("claude-haiku-4-5", {"input_tokens": 5, "output_tokens": 2}))
    asked(priced_server, "claude-haiku-4-5")
    assert pretend.received[-1].headers["anthropic-version"] == "2023-06-01"


def test_an_error_body_passes_word_for_word(priced_server: Running, pretend: PretendAnthropic) -> None:
    said = b'{"type":"error", "error":{"type":"invalid_request_error","message":"messages.1: `thinking` blocks"} }'
    pretend.answer(said, status=400, request_id="req_upstream")
    body = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    answered = priced_server.call("POST", "/v1/messages", body, key=priced_server.keys["app"])
    assert (answered.status, answered.body) == (400, said)


def test_a_callers_own_credential_is_sent_and_not_booked(priced_server: Running, pretend: PretendAnthropic) -> None:
    own = {"input_tokens": 1000, "output_tokens": 20}
    pretend.answer(message("claude-haiku-4-5", own))
    key = priced_server.keys["app"]
    asking = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 3000}]}
    spent = priced_server.call("GET", "/v1/usage", key=key).json
    with anthropic.Anthropic(
        base_url=priced_server.url, auth_token="sk-ant-oat-mine", default_headers={"x-faregate-api-key": key}
    ) as claude:
        request_id = claude.messages.create(**asking)._request_id
        sent = pretend.received[-1].headers
        assert sent["authorization"] == "Bearer sk-ant-oat-mine"
        assert not {"x-api-key", "x-faregate-api-key"} & sent.keys()
        said = b'{"type":"error","error":{"type":"authentication_error","message":"OAuth token has expired."}}'
        pretend.answer(said, status=401)
        with pytest.raises(anthropic.AuthenticationError, match="OAuth token has expired"):
            claude.messages.create(**asking)

    def look():
        row = priced_server.call("GET", f"/v1/requests/{request_id}", key=key)
        return row.json if row.status == 200 and row.json["outcome"] != "running" else None

    row = wait_for("the call in the ledger", look)
    assert row["cost"]["nano_usd"] == 0
    assert row["tags"]["billing"] == "caller"
    lines = row["attempts"][0]["lines"]
    assert [(line["meter"], line["part"]) for line in lines] == [("input", "caller"), ("output", "caller")]
    assert sum(line["list"]["nano_usd"] for line in lines) == 1000 * 1000 + 20 * 5000
    assert priced_server.call("GET", "/v1/usage", key=key).json["budgets"] == spent["budgets"]
    for folder in ("data", "policies"):
        for path in (priced_server.folder / folder).rglob("*"):
            assert not path.is_file() or b"sk-ant-oat-mine" not in path.read_bytes(), path
    assert "sk-ant-oat-mine" not in priced_server.log()


def test_the_ledger_of_golden_cases_adds_up(priced_server: Running, pretend: PretendAnthropic) -> None:
    pretend.answer(message("claude-haiku-4-5", {"input_tokens": 5, "output_tokens": 2}))
    asked(priced_server, "claude-haiku-4-5")
    last = []

    def green() -> bool:
        last[:] = [priced_server.faregate("ledger", "verify", check=False)]
        return last[0].returncode == 0

    try:
        wait_for("a green `ledger verify`", green, 30.0)
    except AssertionError:
        raise AssertionError(last[0].stdout + last[0].stderr) from None
