"""The official Anthropic SDK, unchanged, against a running server: Messages as they go through."""

from __future__ import annotations

import re
from pathlib import Path

import anthropic
import pytest
from live.running import Running, wait_for

pytestmark = pytest.mark.xdist_group("live")
QUESTION = [{"role": "user", "content": "Name three rivers."}]
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
LONG = "A fare gate opens for passengers who have paid. " * 200


@pytest.fixture
def claude(server: Running, app_key: str):
    with anthropic.Anthropic(base_url=server.url, api_key=app_key, max_retries=0) as made:
        yield made


def recorded_message(server: Running, request_id: str, key: str):
    """The call as its owner sees it, once it is in the ledger."""

    def look():
        reply = server.call("GET", f"/v1/requests/{request_id}", key=key)
        return reply.json if reply.status == 200 and reply.json["outcome"] != "running" else None

    return wait_for(f"{request_id} in the ledger", look)


def test_a_message(server: Running, claude: anthropic.Anthropic, app_key: str) -> None:
    raw = claude.messages.with_raw_response.create(model="sim-small", max_tokens=200, messages=QUESTION)
    message = raw.parse()
    assert message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message._request_id == raw.headers["x-request-id"] == raw.headers["request-id"]
    assert raw.headers["x-faregate-deployment"] == "simulated/sim-small"
    row = recorded_message(server, message._request_id, app_key)
    assert row["outcome"] == "ok"
    assert row["endpoint"] == "messages"
    assert row["usage"]["input_tokens"] == message.usage.input_tokens > 0
    assert row["usage"]["output_tokens"] == message.usage.output_tokens > 0
    assert row["cost"]["usd"] == raw.headers["x-faregate-cost-usd"]
    assert row["cost"]["nano_usd"] > 0


def test_a_streamed_message_says_what_the_whole_one_says(
    server: Running, claude: anthropic.Anthropic, app_key: str
) -> None:
    whole = claude.messages.create(model="sim-small", max_tokens=200, messages=QUESTION)
    with claude.messages.stream(model="sim-small", max_tokens=200, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
        request_id = stream.response.headers["request-id"]
    assert text == message.content[0].text == whole.content[0].text
    assert message.usage.output_tokens == whole.usage.output_tokens
    row = recorded_message(server, request_id, app_key)
    assert (row["outcome"], row["stream"]) == ("ok", True)
    assert row["attempts"][0]["source"] == "provider"
    assert row["usage"]["output_tokens"] == message.usage.output_tokens


def test_tools_and_thinking(claude: anthropic.Anthropic) -> None:
    asked = {
        "model": "sim-large",
        "max_tokens": 4000,
        "messages": QUESTION,
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "weather"},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        thinking, tool = message.content
        assert thinking.type == "thinking"
        assert thinking.signature.endswith("/==")
        assert (tool.type, tool.name, message.stop_reason) == ("tool_use", "weather", "tool_use")
        assert tool.input["days"] == 1
        assert tool.input["city"]
    assert streamed.content[0].thinking == whole.content[0].thinking
    assert streamed.content[1].input == whole.content[1].input


def test_a_marked_prompt_is_written_to_the_cache_and_read_again(
    server: Running, claude: anthropic.Anthropic, app_key: str
) -> None:
    marked = [{"type": "text", "text": LONG + "first", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    seen = []
    for _ in range(2):
        raw = claude.messages.with_raw_response.create(
            model="sim-large", max_tokens=50, system=marked, messages=QUESTION
        )
        seen.append(raw.parse().usage)
        row = recorded_message(server, raw.headers["request-id"], app_key)
        lines = {line["meter"]: line["quantity"] for line in row["attempts"][0]["lines"]}
        assert lines.get("cache_write_1h", 0) == seen[-1].cache_creation.ephemeral_1h_input_tokens
        assert lines.get("cache_read", 0) == seen[-1].cache_read_input_tokens
        assert lines["input"] == seen[-1].input_tokens
    assert seen[0].cache_creation_input_tokens == seen[1].cache_read_input_tokens > 1000
    assert seen[0].cache_read_input_tokens == seen[1].cache_creation_input_tokens == 0


async def test_an_async_message_and_a_beta_one(server: Running, app_key: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key=app_key, max_retries=0) as client:
        message = await client.messages.create(model="gpt-test", max_tokens=50, messages=QUESTION)
        assert message.content[0].text
        beta = await client.beta.messages.create(
            model="sim-small", max_tokens=50, messages=QUESTION, betas=["interleaved-thinking-2025-05-14"]
        )
        assert beta.content[0].text


def test_the_older_key_header_and_every_spelling_of_the_path(server: Running, app_key: str) -> None:
    body = {"model": "sim-small", "max_tokens": 20, "messages": QUESTION}
    headers = {"x-api-key": app_key, "anthropic-version": "2023-06-01"}
    for path in ("/v1/messages", "/v1/messages?beta=true", "/messages", "/v1/v1/messages"):
        reply = server.call("POST", path, body, headers=headers)
        assert (reply.status, reply.json["type"]) == (200, "message"), path
        assert reply.headers["request-id"].startswith("req_")


def test_counting_tokens_costs_nothing(server: Running, claude: anthropic.Anthropic, app_key: str) -> None:
    raw = claude.messages.with_raw_response.count_tokens(model="sim-small", messages=QUESTION)
    counted = raw.parse().input_tokens
    message = claude.messages.create(model="sim-small", max_tokens=5, messages=QUESTION)
    assert counted == message.usage.input_tokens
    row = recorded_message(server, raw.headers["request-id"], app_key)
    assert row["endpoint"] == "messages.count_tokens"
    assert row["cost"]["nano_usd"] == 0
    assert row["cost"]["state"] == "priced"


def test_models_in_pages_and_one_of_them(server: Running, claude: anthropic.Anthropic, app_key: str) -> None:
    whole = [model.id for model in claude.models.list()]
    assert {"sim-small", "gpt-test"} <= set(whole)
    page = claude.models.list(limit=2)
    assert (len(page.data), page.has_more, page.last_id) == (2, True, whole[1])
    assert [model.id for model in page] == whole, "the SDK asks for the pages that follow"
    before = claude.models.list(limit=2, before_id=whole[3])
    assert ([model.id for model in before.data], before.has_more) == (whole[1:3], True)
    one = claude.models.retrieve("sim-small")
    assert (one.id, one.type, one.display_name) == ("sim-small", "model", "sim-small")
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("sim-smal")
    with pytest.raises(anthropic.BadRequestError, match="limit must be"):
        claude.models.list(limit=0)
    plain = server.call("GET", "/v1/models?limit=1000", headers={"x-api-key": app_key})
    assert [row["id"] for row in plain.json["data"]] == whole
    assert server.call("HEAD", "/").status == 200


def test_errors_reach_the_anthropic_sdk_as_its_own_classes(server: Running, claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="sim-smal", max_tokens=5, messages=QUESTION)
    assert "sim-small" in str(missing.value)
    assert (missing.value.type, missing.value.error_code) == ("not_found_error", "model_not_found")
    assert missing.value.request_id == missing.value.body["request_id"]
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="fg_live_nobody").messages.create(model="m", max_tokens=5, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens must be a whole number"):
        claude.messages.create(model="sim-small", max_tokens=-5, messages=QUESTION)
    with pytest.raises(anthropic.InternalServerError) as dead:
        claude.messages.create(model="sim-dead", max_tokens=5, messages=QUESTION)
    assert dead.value.status_code == 502
    limited = claude.with_options(default_headers={"x-sim-fault": "refuse-429"})
    with pytest.raises(anthropic.RateLimitError) as refused:
        limited.messages.create(model="sim-small", max_tokens=5, messages=QUESTION)
    assert refused.value.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Simulated rate limit."},
    }


def test_a_spent_budget_is_payment_required_for_the_anthropic_sdk(server: Running) -> None:
    key = server.new_key("poor-claude", "--budget", "0.000001USD/month")
    with (
        anthropic.Anthropic(base_url=server.url, api_key=key) as poor,
        pytest.raises(anthropic.PaymentRequiredError) as refused,
    ):
        poor.messages.create(model="sim-small", max_tokens=500, messages=QUESTION)
    error = refused.value.body["error"]
    assert error["type"] == error["details"]["error_code"] == "budget_exceeded"
    assert error["resets_at"] > 1_700_000_000
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.value.response.headers


@pytest.mark.parametrize("fault", ["truncated", "disconnect-mid", "error-event"])
def test_a_cut_message_is_never_passed_off_as_complete(
    server: Running, claude: anthropic.Anthropic, app_key: str, fault: str
) -> None:
    faulty = claude.with_options(default_headers={"x-sim-fault": fault})
    stream = faulty.messages.create(model="sim-small", max_tokens=200, messages=QUESTION, stream=True)
    request_id = stream.response.headers["request-id"]
    with pytest.raises(anthropic.APIStatusError):
        list(stream)
    row = recorded_message(server, request_id, app_key)
    assert row["outcome"] == "truncated"
    assert row["cost"]["state"] == "estimated"
    assert row["cost"]["nano_usd"] > 0


def test_an_error_before_a_message_is_an_error_reply(claude: anthropic.Anthropic) -> None:
    faulty = claude.with_options(default_headers={"x-sim-fault": "error-first"})
    with pytest.raises(anthropic.InternalServerError) as refused:
        faulty.messages.create(model="sim-small", max_tokens=20, messages=QUESTION, stream=True)
    assert refused.value.error_code == "upstream_stream_error"


def test_unknown_message_members_survive_both_ways(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(
        model="sim-small", max_tokens=20, messages=QUESTION, extra_body={"some_new_option": {"deep": [1, 2.5]}}
    )
    assert message.content


def test_the_documented_snippet_runs_as_it_is_printed(
    server: Running, app_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "anthropic.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet.replace("http://127.0.0.1:4000", server.url).replace("fg_live_…", app_key), {})
    assert "req_" in capsys.readouterr().out


def test_the_ledger_agrees_with_the_outside_log_after_messages(server: Running, claude: anthropic.Anthropic) -> None:
    claude.messages.create(model="sim-small", max_tokens=20, messages=QUESTION)
    server.verified()
