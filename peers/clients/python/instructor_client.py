"""instructor on the openai package: tools, JSON schema, streamed partial objects."""

import instructor
import openai
from pydantic import BaseModel
from steps import CHAT_MODEL, CITY, KEY, POOR_KEY, URL, introduce, raised, step


class City(BaseModel):
    name: str
    country: str
    population: int


PARIS = {"name": "Paris", "country": "France", "population": 2102650}


def client(mode: instructor.Mode, key: str = KEY) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=URL + "/v1", api_key=key), mode=mode)


def ask(made: instructor.Instructor) -> City:
    return made.chat.completions.create(
        model=CHAT_MODEL, response_model=City, messages=[{"role": "user", "content": CITY}]
    )


def partial() -> None:
    """By schema: with tools this version yields nothing, with or without a gateway."""
    pieces = client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=CHAT_MODEL, response_model=City, messages=[{"role": "user", "content": CITY}]
    )
    last = list(pieces)[-1]
    assert (last.name, last.country, last.population) == ("Paris", "France", 2102650)


def budget() -> None:
    """instructor asks again by itself when an answer does not validate; a refusal is none."""
    error = raised(lambda: ask(client(instructor.Mode.TOOLS, POOR_KEY)))
    assert "budget_exceeded" in str(error), repr(error)


introduce("instructor", "openai")
with step("tools"):
    assert ask(client(instructor.Mode.TOOLS)).model_dump() == PARIS
with step("json_schema"):
    assert ask(client(instructor.Mode.JSON_SCHEMA)).model_dump() == PARIS
with step("stream"):
    partial()
with step("budget"):
    budget()
