"""LangChain as an application uses it; its standard tests run besides."""

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from steps import (
    CHAT_MODEL,
    CITY,
    CLAUDE_MODEL,
    EMBED_MODEL,
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
    """A city."""

    name: str
    country: str
    population: int


@tool
def get_weather(city: str) -> str:
    """Today's weather in a city."""
    return f"21 degrees in {city}"


def models(key: str = KEY) -> dict:
    return {
        "openai": ChatOpenAI(model=CHAT_MODEL, base_url=URL + "/v1", api_key=key, stream_usage=True),
        "anthropic": ChatAnthropic(model=CLAUDE_MODEL, base_url=URL, api_key=key),
    }


def stream(model) -> None:
    whole = None
    for piece in model.stream(RIVERS):
        whole = piece if whole is None else whole + piece
    assert whole.text == RIVERS_ANSWER
    assert whole.usage_metadata["output_tokens"] == 9


def tools(model) -> None:
    bound = model.bind_tools([get_weather])
    messages = [{"role": "user", "content": WEATHER}, bound.invoke(WEATHER)]
    messages += [get_weather.invoke(call) for call in messages[1].tool_calls]
    assert bound.invoke(messages).text == WEATHER_ANSWER


def budget(model) -> None:
    error = raised(lambda: model.invoke(RIVERS))
    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError), repr(error)
    assert error.status_code == 402
    assert "budget_exceeded" in str(error.body)


introduce("langchain-openai", "langchain-anthropic", "openai", "anthropic")
for name, used in models().items():
    with step(f"{name} stream"):
        stream(used)
    with step(f"{name} tools"):
        tools(used)
    with step(f"{name} budget"):
        budget(models(POOR_KEY)[name])
with step("schema"):
    found = models()["openai"].with_structured_output(City).invoke(CITY)
    assert found == City(name="Paris", country="France", population=2102650)
with step("embeddings"):
    # it counts tokens with a vocabulary from the network unless told not to
    made = OpenAIEmbeddings(model=EMBED_MODEL, base_url=URL + "/v1", api_key=KEY, check_embedding_ctx_length=False)
    assert made.embed_query("A river") == [0.25, -0.5, 1.0, 0.125]
