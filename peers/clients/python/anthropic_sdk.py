"""anthropic (Python), as an application uses it."""

import asyncio

import anthropic
from steps import (
    CLAUDE_MODEL,
    HICCUP,
    HICCUP_ANSWER,
    KEY,
    POOR_KEY,
    REFUSED,
    RIVERS,
    RIVERS_ANSWER,
    URL,
    WEATHER,
    WEATHER_ANSWER,
    introduce,
    refused,
    step,
)

client = anthropic.Anthropic(base_url=URL, api_key=KEY)
WEATHER_TOOL = {
    "name": "get_weather",
    "description": "Today's weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def ask(text: str) -> dict:
    return {"model": CLAUDE_MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": text}]}


def messages() -> None:
    answer = client.messages.create(**ask(RIVERS))
    assert answer.content[0].text == RIVERS_ANSWER
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (19, 9)
    assert answer._request_id.startswith("req_")


def stream() -> None:
    with client.messages.stream(**ask(RIVERS)) as made:
        assert "".join(made.text_stream) == RIVERS_ANSWER
        assert made.get_final_message().stop_reason == "end_turn"


async def asynchronous() -> None:
    other = anthropic.AsyncAnthropic(base_url=URL, api_key=KEY)
    async with other, other.messages.stream(**ask(RIVERS)) as made:
        assert "".join([text async for text in made.text_stream]) == RIVERS_ANSWER


def beta() -> None:
    """Posted to `/v1/messages?beta=true`, with a header that no list of ours knows."""
    answer = client.beta.messages.create(**ask(RIVERS), betas=["something-new-2027-01-01"])
    assert answer.content[0].text == RIVERS_ANSWER


def tools() -> None:
    asked = ask(WEATHER) | {"tools": [WEATHER_TOOL]}
    first = client.messages.create(**asked)
    call = next(block for block in first.content if block.type == "tool_use")
    assert (first.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}
    asked["messages"] = [
        *asked["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(**asked).content[0].text == WEATHER_ANSWER


def tools_streamed() -> None:
    with client.messages.stream(**ask(WEATHER), tools=[WEATHER_TOOL]) as made:
        final = made.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})


def models() -> None:
    found = {model.id: model.type for model in client.models.list()}
    assert found[CLAUDE_MODEL] == "model", found


def errors() -> None:
    with refused(anthropic.BadRequestError, status_code=400):
        client.messages.create(**ask(REFUSED))
    with refused(anthropic.NotFoundError, status_code=404):
        client.messages.create(**(ask(RIVERS) | {"model": "claude-none"}))
    with refused(anthropic.AuthenticationError, status_code=401):
        client.with_options(api_key="fg_live_nobody").messages.create(**ask(RIVERS))


def budget() -> None:
    """The class of the status where the package has one, though it has never heard of this code."""
    kind = getattr(anthropic, "PaymentRequiredError", anthropic.APIStatusError)
    with refused(kind, status_code=402):
        client.with_options(api_key=POOR_KEY).messages.create(**ask(RIVERS))


introduce("anthropic")
with step("messages"):
    messages()
with step("stream"):
    stream()
with step("async"):
    asyncio.run(asynchronous())
with step("beta"):
    beta()
with step("tools"):
    tools()
with step("tools streamed"):
    tools_streamed()
with step("models"):
    models()
with step("errors"):
    errors()
with step("retry"):
    assert client.messages.create(**ask(HICCUP)).content[0].text == HICCUP_ANSWER
with step("budget"):
    budget()
