"""Who is tried: every client, the environment it lives in, and the steps it must get through.

The steps are written down here so that a program which stops early, or leaves one out, fails.
"""

from __future__ import annotations

from dataclasses import dataclass

RETRIED = frozenset({0, 1})
"""The client says which of its requests is a second try."""
OPENAI_STEPS = (
    *("chat", "stream", "async", "tools", "tools streamed", "json_schema", "embeddings"),
    *("models", "errors", "retry", "budget"),
)
ANTHROPIC_STEPS = (
    *("messages", "stream", "async", "beta", "tools", "tools streamed"),
    *("models", "errors", "retry", "budget"),
)


@dataclass(frozen=True, slots=True)
class Client:
    """One program. `retries` are the values of the SDK's retry counter that the ledger must hold; `refused_calls`
    how often the client asks with the key whose budget is used up: once a step where it takes a 402 for final."""

    name: str
    group: str
    program: str
    steps: tuple[str, ...]
    retries: frozenset[int] = frozenset({0})
    refused_calls: int = 1


def each(surfaces: tuple[str, ...], steps: tuple[str, ...]) -> tuple[str, ...]:
    """The same steps on several surfaces."""
    return tuple(f"{surface} {step}" for surface in surfaces for step in steps)


CLIENTS: tuple[Client, ...] = (
    Client("openai-python", "modern", "openai_sdk.py", OPENAI_STEPS, RETRIED),
    Client("openai-python-2", "older", "openai_sdk.py", OPENAI_STEPS, RETRIED),
    Client(
        "openai-js",
        "node",
        "openai_sdk.mjs",
        (
            *("chat", "stream", "tools", "tools streamed", "json_schema", "embeddings"),
            *("models", "errors", "retry", "budget"),
        ),
        retries=RETRIED,
    ),
    Client(
        "vercel-ai-sdk",
        "node",
        "ai_sdk.mjs",
        (
            *each(("chat", "responses", "compatible", "anthropic"), ("text", "stream", "tools", "json_schema")),
            "embeddings",
            *each(("chat", "responses", "anthropic"), ("budget",)),
        ),
        refused_calls=3,
    ),
    Client(
        "openai-python-responses",
        "modern",
        "openai_responses.py",
        ("create", "stream", "stream helper", "tools", "json_schema", "errors", "budget"),
    ),
    Client("anthropic-python", "modern", "anthropic_sdk.py", ANTHROPIC_STEPS, RETRIED),
    Client("anthropic-python-0", "older", "anthropic_sdk.py", ANTHROPIC_STEPS, RETRIED),
    Client(
        "langchain",
        "modern",
        "langchain_client.py",
        (*each(("openai", "anthropic"), ("stream", "tools", "budget")), "schema", "embeddings"),
        refused_calls=2,
    ),
    Client(
        "anthropic-js",
        "node",
        "anthropic_sdk.mjs",
        ("messages", "stream", "tools", "tools streamed", "models", "errors", "retry", "budget"),
        retries=RETRIED,
    ),
    Client(
        "pydantic-ai",
        "modern",
        "pydantic_ai_client.py",
        each(("chat", "responses", "messages"), ("answer", "stream", "tools", "typed output", "budget")),
        refused_calls=3,
    ),
    Client("llm", "modern", "llm_client.py", ("chat", "stream", "json_schema", "budget")),
    Client(
        "llama-index",
        "older",
        "llamaindex_client.py",
        ("chat", "stream", "tools", "json_schema", "embeddings", "budget"),
    ),
    Client("instructor", "older", "instructor_client.py", ("tools", "json_schema", "stream", "budget")),
)
