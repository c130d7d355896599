"""openai (Python), as an application uses it."""

import asyncio

import openai
from pydantic import BaseModel
from steps import (
    CHAT_MODEL,
    CITY,
    EMBED_MODEL,
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

client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY)
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: str
    country: str
    population: int


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def chat() -> None:
    answer = client.chat.completions.create(model=CHAT_MODEL, messages=ask(RIVERS))
    assert answer.choices[0].message.content == RIVERS_ANSWER
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (19, 9)
    assert answer._request_id.startswith("req_")


def stream() -> None:
    chunks = list(client.chat.completions.create(model=CHAT_MODEL, messages=ask(RIVERS), stream=True))
    assert text_of(chunks) == RIVERS_ANSWER
    assert all(chunk.choices for chunk in chunks)
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=CHAT_MODEL, messages=ask(RIVERS), stream=True, stream_options=options, user="jane"
        )
    )
    assert text_of(chunks) == RIVERS_ANSWER
    assert chunks[-1].usage.total_tokens == 28


async def asynchronous() -> None:
    async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEY) as other:
        made = other.chat.completions.create(model=CHAT_MODEL, messages=ask(RIVERS), stream=True)
        assert text_of([chunk async for chunk in await made]) == RIVERS_ANSWER


def tools() -> None:
    messages = ask(WEATHER)
    first = client.chat.completions.create(model=CHAT_MODEL, messages=messages, tools=[WEATHER_TOOL])
    call = first.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Paris"}')
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    second = client.chat.completions.create(model=CHAT_MODEL, messages=messages, tools=[WEATHER_TOOL])
    assert second.choices[0].message.content == WEATHER_ANSWER


def tools_streamed() -> None:
    with client.chat.completions.stream(model=CHAT_MODEL, messages=ask(WEATHER), tools=[WEATHER_TOOL]) as made:
        final = made.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert (call.id, call.function.name) == ("call_weather_1", "get_weather")
    assert call.function.parsed_arguments == {"city": "Paris"}


def schema() -> None:
    parsed = client.chat.completions.parse(model=CHAT_MODEL, messages=ask(CITY), response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Paris", country="France", population=2102650)


def embeddings() -> None:
    made = client.embeddings.create(model=EMBED_MODEL, input="A river")  # base64, unless asked otherwise
    assert made.data[0].embedding == [0.25, -0.5, 1.0, 0.125]
    plain = client.embeddings.create(model=EMBED_MODEL, input="A river", encoding_format="float")
    assert plain.data[0].embedding == made.data[0].embedding


def models() -> None:
    assert CHAT_MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


def errors() -> None:
    with refused(openai.BadRequestError, status_code=400, code="refused_by_vendor", type="invalid_request_error"):
        client.chat.completions.create(model=CHAT_MODEL, messages=ask(REFUSED))
    with refused(openai.NotFoundError, status_code=404, code="model_not_found"):
        client.chat.completions.create(model="gpt-4o-minimal", messages=ask(RIVERS))
    with refused(openai.AuthenticationError, status_code=401, code="invalid_api_key"):
        client.with_options(api_key="fg_live_nobody").models.list()


def retry() -> None:
    assert client.chat.completions.create(model=CHAT_MODEL, messages=ask(HICCUP)).choices[0].message.content == (
        HICCUP_ANSWER
    )


def budget() -> None:
    with refused(openai.APIStatusError, status_code=402, code="budget_exceeded"):
        client.with_options(api_key=POOR_KEY).chat.completions.create(model=CHAT_MODEL, messages=ask(RIVERS))


introduce("openai")
with step("chat"):
    chat()
with step("stream"):
    stream()
with step("async"):
    asyncio.run(asynchronous())
with step("tools"):
    tools()
with step("tools streamed"):
    tools_streamed()
with step("json_schema"):
    schema()
with step("embeddings"):
    embeddings()
with step("models"):
    models()
with step("errors"):
    errors()
with step("retry"):
    retry()
with step("budget"):
    budget()
