"""The simulated Responses API by the official SDK, without a gateway between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.dialects.discover import discover
from gateway.simulator.text import tokenize
from simulator.live import Live

RESPONSES = discover()["responses"]
ASKED: dict[str, Any] = {"model": "sim-small", "input": "Explain budgets please"}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look_up",
    "parameters": {
        "type": "object",
        "properties": {"word": {"type": "string"}, "deep": {"type": "boolean"}, "kinds": {"type": "array"}},
        "required": ["word", "deep"],
    },
}


@pytest.fixture
async def client(live: Live) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{live.port}/v1", api_key="sk", max_retries=0) as made:
        yield made


async def ask(live: Live, headers: dict[str, str] | None = None, **more: Any) -> Any:
    return await live.ask("POST", "/v1/responses", ASKED | more, headers)


async def test_a_response_counts_what_it_says(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(**ASKED)
    assert answer.usage is not None
    assert answer.usage.output_tokens == len(tokenize(answer.output_text))
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    chat = await client.chat.completions.create(
        model="sim-small", messages=[{"role": "user", "content": ASKED["input"]}]
    )
    assert answer.output_text == chat.choices[0].message.content, "it says the same whichever way it is asked"


async def test_stream_and_whole_response_are_the_same(client: openai.AsyncOpenAI) -> None:
    for more in (
        {},
        {"model": "sim-reasoning"},
        {"tools": [TOOL], "tool_choice": "required"},
        {"max_output_tokens": 4},
    ):
        whole = await client.responses.create(**ASKED | more)
        async with client.responses.stream(**ASKED | more) as stream:
            numbers = [event.sequence_number async for event in stream]
            if whole.status == "completed":
                final = await stream.get_final_response()
                assert final.usage == whole.usage
                assert [item.type for item in final.output] == [item.type for item in whole.output]
        assert numbers == list(range(len(numbers)))


async def test_our_dialect_reads_what_the_witness_saw(live: Live) -> None:
    answer = await ask(live, {"x-request-id": "att-r1"})
    facts = RESPONSES.read_reply(answer.body)
    streamed = await ask(live, {"x-request-id": "att-r2"}, stream=True)
    tap = RESPONSES.tap(RESPONSES.read_head(b'{"model":"m","input":"x"}'))
    tap.feed(streamed.body)
    assert facts.usage is not None
    assert tap.usage is not None
    for name, usage in (("att-r1", facts.usage), ("att-r2", tap.usage)):
        await live.until(lambda name=name: live.witnessed()[name].ended)  # type: ignore[misc]
        seen = live.witnessed()[name]
        assert seen.completed
        assert seen.usage["prompt_tokens"] == usage.input_tokens()
        assert seen.usage["completion_tokens"] == usage.output_tokens()


async def test_a_response_in_the_background_is_ready_when_its_tokens_would_be(client: openai.AsyncOpenAI) -> None:
    slow = await client.responses.create(**ASKED, background=True, extra_headers={"x-sim-latency-ms": "600000"})
    assert (slow.status, slow.usage) == ("queued", None)
    assert (await client.responses.retrieve(slow.id)).status == "queued"
    assert (await client.responses.cancel(slow.id)).status == "cancelled"
    assert (await client.responses.retrieve(slow.id)).status == "cancelled"
    quick = await client.responses.create(**ASKED, background=True)
    done = await client.responses.retrieve(quick.id)
    assert done.status == "completed"
    assert done.usage is not None


async def test_what_is_kept_is_gone_on_from_listed_and_deleted(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(**ASKED)
    second = await client.responses.create(model="sim-small", input="And then?", previous_response_id=first.id)
    items = (await client.responses.input_items.list(second.id, order="asc")).data
    assert [item.type for item in items] == ["message", "message", "message"]
    await client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as gone:
        await client.responses.create(model="sim-small", input="x", previous_response_id=first.id)
    assert gone.value.code == "previous_response_not_found"
    unkept = await client.responses.create(**ASKED, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unkept.id)
