"""LlamaIndex (OpenAILike), on the openai package before 3 with its older HTTP client."""

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from steps import (
    CHAT_MODEL,
    CITY,
    EMBED_MODEL,
    KEY,
    POOR_KEY,
    RIVERS,
    RIVERS_ANSWER,
    URL,
    WEATHER,
    introduce,
    refused,
    step,
)


class City(BaseModel):
    """A city."""

    name: str
    country: str
    population: int


def model(key: str = KEY) -> OpenAILike:
    return OpenAILike(
        model=CHAT_MODEL,
        api_base=URL + "/v1",
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=128_000,
    )


def get_weather(city: str) -> str:
    """Today's weather in a city."""
    return f"21 degrees in {city}"


def tools() -> None:
    reply = model().chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg=WEATHER)
    calls = model().get_tool_calls_from_response(reply)
    assert [(call.tool_name, call.tool_kwargs) for call in calls] == [("get_weather", {"city": "Paris"})]


introduce("llama-index-core", "llama-index-llms-openai-like", "openai")
with step("chat"):
    assert model().chat([ChatMessage(role="user", content=RIVERS)]).message.content == RIVERS_ANSWER
with step("stream"):
    assert "".join(piece.delta for piece in model().stream_complete(RIVERS)) == RIVERS_ANSWER
with step("tools"):
    tools()
with step("json_schema"):
    found = model().as_structured_llm(City).chat([ChatMessage(role="user", content=CITY)])
    assert found.raw == City(name="Paris", country="France", population=2102650)
with step("embeddings"):
    embedding = OpenAILikeEmbedding(model_name=EMBED_MODEL, api_base=URL + "/v1", api_key=KEY)
    assert embedding.get_text_embedding("A river") == [0.25, -0.5, 1.0, 0.125]
with step("budget"), refused(openai.APIStatusError, status_code=402, code="budget_exceeded"):
    model(POOR_KEY).chat([ChatMessage(role="user", content=RIVERS)])
