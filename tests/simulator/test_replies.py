"""The simulator's API as OpenAI's clients and our own dialect read it."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.dialects.discover import discover
from gateway.simulator.text import tokenize
from simulator.live import Live

CHAT = discover()["chat.completions"]


@pytest.fixture
async def client(live: Live) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{live.port}/v1", api_key="sk", max_retries=0) as made:
        yield made


ASKED: dict[str, Any] = {"model": "sim-small", "messages": [{"role": "user", "content": "Explain budgets please"}]}


async def test_a_whole_reply_counts_what_it_says(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**ASKED)
    text = answer.choices[0].message.content
    assert text is not None
    assert answer.usage is not None
    assert "imulated" in text
    assert answer.system_fingerprint == "faregate-simulator"
    assert answer.usage.completion_tokens == len(tokenize(text))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].finish_reason == "stop"


async def test_stream_and_whole_reply_say_the_same(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**ASKED, n=2)
    texts = {0: "", 1: ""}
    last = None
    async for chunk in await client.chat.completions.create(
        **ASKED, n=2, stream=True, stream_options={"include_usage": True}
    ):
        assert last is None, "the usage chunk is the last one"
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        if not chunk.choices:
            last = chunk
    assert last is not None
    assert last.usage is not None
    assert whole.usage is not None
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert last.usage.completion_tokens == whole.usage.completion_tokens


async def test_the_order_of_chunks(live: Live) -> None:
    for asked in (True, False):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        answer = await live.chat(stream=True, max_tokens=3, **options)
        first, *middle, end, done = answer.events
        assert done == "[DONE]"
        if asked:
            assert end["choices"] == []
            assert end["usage"]["completion_tokens"] == 3
            *middle, end = middle
            assert all(chunk["usage"] is None for chunk in [first, *middle, end])
        else:
            assert all("usage" not in chunk for chunk in [first, *middle, end])
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [tokenize(chunk["choices"][0]["delta"]["content"]) for chunk in middle] == [
            [chunk["choices"][0]["delta"]["content"]] for chunk in middle
        ]
        assert len(middle) == 3
        assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "length")
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in [first, *middle, end]}) == 1


async def test_our_dialect_reads_it(live: Live) -> None:
    body = json.dumps(ASKED | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    streamed = await live.chat(stream=True, stream_options={"include_usage": True})
    tap = CHAT.tap(CHAT.read_head(body))
    tap.feed(streamed.body)
    facts = CHAT.read_reply((await live.chat()).body)
    assert tap.usage is not None
    assert facts.usage is not None
    assert tap.complete
    assert tap.usage.meters == facts.usage.meters
    assert (tap.usage.fault, tap.usage.unknown_fields) == ("", ())
    assert tap.output_bytes == facts.output_bytes


async def test_reasoning_is_shown_and_counted(live: Live) -> None:
    whole = (await live.chat(model="sim-reasoning")).json
    message, usage = whole["choices"][0]["message"], whole["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == len(tokenize(message["reasoning_content"])) > 0
    assert usage["completion_tokens"] == len(tokenize(message["reasoning_content"])) + len(tokenize(message["content"]))
    deltas = [
        chunk["choices"][0]["delta"] for chunk in (await live.chat(model="sim-reasoning", stream=True)).events[:-1]
    ]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"]


async def test_the_served_tier(live: Live) -> None:
    for asked, served in ((None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")):
        assert (await live.chat(service_tier=asked)).json["service_tier"] == served


async def test_completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="sim-small", prompt=["one", "two"], max_tokens=5)
    assert whole.usage is not None
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert whole.usage.completion_tokens == 10
    text = ""
    async for chunk in await client.completions.create(model="sim-small", prompt="one", max_tokens=5, stream=True):
        text += chunk.choices[0].text
    assert text == whole.choices[0].text


async def test_embeddings(client: openai.AsyncOpenAI, live: Live) -> None:
    reply = await client.embeddings.create(model="sim-embed", input=["hello", "world", "hello"])
    first, second, third = [item.embedding for item in reply.data]
    assert first == third != second
    assert len(first) == 256
    assert math.isclose(math.hypot(*first), 1, rel_tol=1e-6)
    asked = {"model": "sim-embed", "input": "hello", "dimensions": 8}
    floats = (await live.ask("POST", "/v1/embeddings", asked)).json["data"][0]["embedding"]
    printed = (await live.ask("POST", "/v1/embeddings", asked | {"encoding_format": "base64"})).json["data"][0]
    unpacked = struct.unpack("<8f", base64.b64decode(printed["embedding"]))
    assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(floats, unpacked, strict=True))
    tokens = (await live.ask("POST", "/v1/embeddings", {"model": "sim-embed", "input": [[1, 2], [3]]})).json
    assert tokens["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_models(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names == ["sim-small", "sim-large", "sim-reasoning", "sim-embed"]
    assert (await client.models.retrieve("sim-large")).owned_by == "faregate-simulator"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-4o", messages=ASKED["messages"])
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", {"model": "sim-small", "messages": []}),
        ("/v1/chat/completions", {"model": "sim-small", "prompt": "x"}),
        ("/v1/chat/completions", {"model": "sim-small", "messages": [{}], "n": 0}),
        ("/v1/completions", {"model": "sim-small", "messages": [{}]}),
        ("/v1/embeddings", {"model": "sim-embed", "input": []}),
        ("/v1/embeddings", {"model": "sim-embed"}),
        ("/control", {"latency": 5}),
        ("/control", {"fault": "fire"}),
    ],
    ids=str,
)
async def test_wrong_requests(live: Live, path: str, body: Any) -> None:
    answer = await live.ask("POST", path, body)
    assert answer.status == 400
    assert answer.json["error"]["message"]


async def test_nothing_is_larger_than_the_model(live: Live) -> None:
    """The sizes that budgets are held by: a prompt over them is refused, an answer ends at them."""
    long = {"model": "sim-small", "messages": [{"role": "user", "content": "x " * 130_000}]}
    texts = {"model": "sim-embed", "input": ["x", "x " * 9_000]}
    for path, body in (("/v1/chat/completions", long), ("/v1/embeddings", texts)):
        answer = await live.ask("POST", path, body)
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
    longest = (await live.chat({"x-sim-tokens": "20000"})).json
    assert longest["usage"]["completion_tokens"] == 16_384
    assert longest["choices"][0]["finish_reason"] == "length"


async def test_a_wrong_header_is_told(live: Live) -> None:
    answer = await live.chat({"x-sim-tokens": "many"})
    assert answer.status == 400
    assert "x-sim-" in answer.json["error"]["message"]
    assert (await live.ask("GET", "/v1/nowhere")).status == 404


async def test_asked_as_vllm_is_every_chunk_tells_the_usage_so_far(client: openai.AsyncOpenAI) -> None:
    asked = {"include_usage": True, "continuous_usage_stats": True}
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            **ASKED, n=2, stream=True, extra_body={"stream_options": asked}
        )
    ]
    assert all(chunk.usage is not None for chunk in chunks)
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len({usage.prompt_tokens for usage in told}) == 1, "the first chunk knows the prompt"
    counts = [usage.completion_tokens for usage in told]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (
        0,
        sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks),
    )
    plain = [chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]
    assert not [chunk for chunk in plain if chunk.usage is not None]
