"""The official OpenAI SDK, unchanged, against a running server: what an application developer does first."""

from __future__ import annotations

import openai
import pytest
from live.running import Running, wait_for

pytestmark = pytest.mark.xdist_group("live")
MESSAGES = [{"role": "user", "content": "Name three rivers."}]


@pytest.fixture
def client(server: Running, app_key: str):
    with openai.OpenAI(base_url=server.url + "/v1", api_key=app_key, max_retries=0) as made:
        yield made


def recorded(server: Running, request_id: str, key: str):
    """The call as its owner sees it, once it is in the ledger."""

    def look():
        reply = server.call("GET", f"/v1/requests/{request_id}", key=key)
        return reply.json if reply.status == 200 and reply.json["outcome"] != "running" else None

    return wait_for(f"{request_id} in the ledger", look)


def test_chat(server: Running, client: openai.OpenAI, app_key: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model="sim-small", messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 0
    assert float(raw.headers["x-faregate-cost-usd"]) > 0
    assert raw.headers["x-faregate-deployment"] == "simulated/sim-small"
    assert int(raw.headers["x-faregate-overhead-us"]) >= 0
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert row["outcome"] == "ok"
    assert row["usage"]["input_tokens"] == answer.usage.prompt_tokens
    assert row["usage"]["output_tokens"] == answer.usage.completion_tokens
    assert row["cost"]["usd"] == raw.headers["x-faregate-cost-usd"]


def test_chat_stream_without_usage_asked_has_no_usage_chunk_but_a_recorded_cost(
    server: Running, client: openai.OpenAI, app_key: str
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="sim-small", messages=MESSAGES, stream=True
    ) as raw:
        chunks = list(raw.parse())
        request_id = raw.headers["x-request-id"]
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    row = recorded(server, request_id, app_key)
    assert row["outcome"] == "ok"
    assert row["cost"]["nano_usd"] > 0
    assert row["attempts"][0]["source"] == "provider"


def test_chat_stream_with_usage_asked(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="sim-small", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


async def test_async_chat_and_stream(server: Running, app_key: str) -> None:
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=app_key, max_retries=0) as client:
        answer = await client.chat.completions.create(model="gpt-test", messages=MESSAGES)
        assert answer.choices[0].message.content
        text = ""
        async for chunk in await client.chat.completions.create(model="sim-small", messages=MESSAGES, stream=True):
            text += chunk.choices[0].delta.content or ""
        assert text


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="sim-small", prompt="Once").choices[0].text
    pieces = [
        chunk.choices[0].text for chunk in client.completions.create(model="sim-small", prompt="Once", stream=True)
    ]
    assert "".join(pieces)


def test_embeddings(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="sim-embed", input=["one", "two"], dimensions=16)
    assert [len(row.embedding) for row in made.data] == [16, 16]
    plain = client.embeddings.create(model="sim-embed", input="one", dimensions=16, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(made.data[0].embedding, abs=1e-6)


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "sim-small" in names
    assert "gpt-test" in names
    assert client.models.retrieve("team/with/slashes").id == "team/with/slashes"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("sim-smal")
    assert "sim-small" in refused.value.message


def test_unknown_members_survive_both_ways(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-small", messages=MESSAGES, extra_body={"some_new_option": {"deep": [1, 2.5, "x"]}}
    )
    assert answer.system_fingerprint == "faregate-simulator"


def test_errors_reach_the_sdk_as_its_own_classes(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="sim-smal", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert "sim-small" in missing.value.message
    assert missing.value.request_id.startswith("req_")
    wrong = client.with_options(api_key="fg_live_nobody")
    with pytest.raises(openai.AuthenticationError):
        wrong.chat.completions.create(model="sim-small", messages=MESSAGES)
    with pytest.raises(openai.InternalServerError) as dead:
        client.chat.completions.create(model="sim-dead", messages=MESSAGES)
    assert dead.value.status_code == 502
    assert "dead" in dead.value.message
    limited = client.with_options(default_headers={"x-sim-fault": "refuse-429"})
    with pytest.raises(openai.RateLimitError):
        limited.chat.completions.create(model="sim-small", messages=MESSAGES)


def test_an_error_as_first_event_is_an_error_reply(client: openai.OpenAI) -> None:
    faulty = client.with_options(default_headers={"x-sim-fault": "error-first"})
    with pytest.raises(openai.InternalServerError) as refused:
        list(faulty.chat.completions.create(model="sim-small", messages=MESSAGES, stream=True))
    assert refused.value.code == "upstream_stream_error"


@pytest.mark.parametrize("fault", ["truncated", "disconnect-mid"])
def test_a_cut_stream_is_never_passed_off_as_complete(
    server: Running, client: openai.OpenAI, app_key: str, fault: str
) -> None:
    faulty = client.with_options(default_headers={"x-sim-fault": fault})
    stream = faulty.chat.completions.create(model="sim-small", messages=MESSAGES, stream=True)
    request_id = stream.response.headers["x-request-id"]
    with pytest.raises(openai.APIError):
        list(stream)
    row = recorded(server, request_id, app_key)
    assert row["outcome"] == "truncated"
    assert row["cost"]["state"] == "estimated"
    assert row["cost"]["nano_usd"] > 0


def test_everything_so_far_is_in_the_books(server: Running) -> None:
    server.verified()
