"""pydantic-ai on chat completions, Responses and Messages."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from steps import (
    CHAT_MODEL,
    CITY,
    CLAUDE_MODEL,
    KEY,
    POOR_KEY,
    RIVERS,
    RIVERS_ANSWER,
    URL,
    WEATHER,
    WEATHER_ANSWER,
    introduce,
    raised,
    step,
)


class City(BaseModel):
    name: str
    country: str
    population: int


PARIS = City(name="Paris", country="France", population=2102650)


def models(key: str = KEY) -> dict[str, Model]:
    openai = OpenAIProvider(base_url=URL + "/v1", api_key=key)
    return {
        "chat": OpenAIChatModel(CHAT_MODEL, provider=openai),
        "responses": OpenAIResponsesModel(CHAT_MODEL, provider=openai),
        "messages": AnthropicModel(CLAUDE_MODEL, provider=AnthropicProvider(base_url=URL, api_key=key)),
    }


async def streamed(model: Model) -> str:
    async with Agent(model).run_stream(RIVERS) as result:
        return await result.get_output()


def tools(model: Model) -> None:
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        return f"21 degrees in {city}"

    result = agent.run_sync(WEATHER)
    assert result.output == WEATHER_ANSWER
    assert result.usage.requests == 2
    assert result.usage.input_tokens == 61 + 92


def budget(model: Model) -> None:
    error = raised(lambda: Agent(model).run_sync(RIVERS))
    assert type(error).__name__ == "ModelQuotaExceededError", repr(error)


introduce("pydantic-ai-slim", "openai", "anthropic")
for surface, used in models().items():
    with step(f"{surface} answer"):
        assert Agent(used).run_sync(RIVERS).output == RIVERS_ANSWER
    with step(f"{surface} stream"):
        assert asyncio.run(streamed(used)) == RIVERS_ANSWER
    with step(f"{surface} tools"):
        tools(used)
    with step(f"{surface} typed output"):
        assert Agent(used, output_type=City).run_sync(CITY).output == PARIS
    with step(f"{surface} budget"):
        budget(models(POOR_KEY)[surface])
