"""openai (Python) on Responses."""

import openai
from pydantic import BaseModel
from steps import (
    CHAT_MODEL,
    CITY,
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
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    name: str
    country: str
    population: int


def create() -> None:
    answer = client.responses.create(model=CHAT_MODEL, input=RIVERS, store=False)
    assert answer.output_text == RIVERS_ANSWER
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (19, 9)


def stream() -> None:
    events = list(client.responses.create(model=CHAT_MODEL, input=RIVERS, stream=True, store=False))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == RIVERS_ANSWER


def helper() -> None:
    """The SDK's own accumulator, which enforces the order of events."""
    with client.responses.stream(model=CHAT_MODEL, input=RIVERS, store=False) as made:
        assert made.get_final_response().output_text == RIVERS_ANSWER


def tools() -> None:
    first = client.responses.create(model=CHAT_MODEL, input=WEATHER, tools=[WEATHER_TOOL], store=False)
    call = next(item for item in first.output if item.type == "function_call")
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    messages = [{"role": "user", "content": WEATHER}, call]
    messages += [{"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}]
    second = client.responses.create(model=CHAT_MODEL, input=messages, tools=[WEATHER_TOOL], store=False)
    assert second.output_text == WEATHER_ANSWER


introduce("openai")
with step("create"):
    create()
with step("stream"):
    stream()
with step("stream helper"):
    helper()
with step("tools"):
    tools()
with step("json_schema"):
    parsed = client.responses.parse(model=CHAT_MODEL, input=CITY, text_format=City, store=False)
    assert parsed.output_parsed == City(name="Paris", country="France", population=2102650)
with step("errors"):
    with refused(openai.BadRequestError, status_code=400, code="refused_by_vendor"):
        client.responses.create(model=CHAT_MODEL, input=REFUSED)
    with refused(openai.NotFoundError, status_code=404, code="model_not_found"):
        client.responses.create(model="gpt-4o-minimal", input=RIVERS)
with step("budget"), refused(openai.APIStatusError, status_code=402, code="budget_exceeded"):
    client.with_options(api_key=POOR_KEY).responses.create(model=CHAT_MODEL, input=RIVERS)
