"""An engine whose vendor is a script, and the process that serves it: the annex without litellm.

The model says what happens, `script/NAME`; options of the provider say how long (`chunks`, `interval_ms`) and where the
witness file is, to which one word a line tells how each call began and ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from gateway.annex.engine import Whole
from gateway.annex.failures import OutcomeUnknown, Redactor, Refusal
from gateway.annex.serving import run
from gateway.annex.spec import AnnexSpec, ServedProvider
from gateway.annex.usage import Fields
from gateway.vault.credentials import Credentials

REPORTED: Fields = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 2},
}
ZEROS: Fields = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class ScriptedEngine:
    def __init__(self, spec: AnnexSpec, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._credentials = Credentials(environment)
        self.redactor = Redactor([])

    def reload(self) -> None:
        self._credentials.reload()

    def _refused(self, provider: ServedProvider, model: str) -> None:
        match model:
            case "script/refuse":
                raise Refusal(
                    429, "Slow down.", kind="rate_limit_error", code="throttled", headers={"retry-after": "7"}
                )
            case "script/doubt":
                raise OutcomeUnknown("the vendor went away")
            case "script/crash":
                os._exit(9)

    async def chat(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        self._refused(provider, model)
        text = "scripted"
        if model == "script/environment":
            text = "\n".join(sorted(self._environment))
        if model == "script/secret":
            text = self._credentials.resolve(dict(provider.options)["api_key"]).reveal()
        if model == "script/echo":
            text = repr(sorted(fields.items()))
        if model == "script/slow":
            await self._witnessed(provider, asyncio.sleep(60))
        usage = ZEROS if model == "script/no-usage" else REPORTED
        return Whole(_reply(text, usage), cost=1.5e-05)

    async def _witnessed(self, provider: ServedProvider, work: asyncio.Future[None] | object) -> None:
        witness(provider, "begin")
        try:
            await work  # type: ignore[misc]
        except asyncio.CancelledError:
            witness(provider, "cancelled")
            raise
        witness(provider, "end")

    async def chat_stream(self, provider: ServedProvider, model: str, fields: Fields) -> AsyncGenerator[Fields, None]:
        self._refused(provider, model)
        options = dict(provider.options)
        witness(provider, "begin")
        try:
            for number in range(int(options.get("chunks", "3"))):
                yield _chunk(number, {"content": f"word{number} "})
                if number == 1 and model == "script/doubt-later":
                    raise OutcomeUnknown("the vendor went away")
                if number == 1 and model == "script/refuse-later":
                    raise Refusal(503, "Overloaded.", code="overloaded")
                await asyncio.sleep(int(options.get("interval_ms", "0")) / 1000)
            yield {**_chunk(99, {}), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            yield {**_chunk(99, {}), "choices": [], "usage": ZEROS if model == "script/no-usage" else REPORTED}
            witness(provider, "end")
        except (asyncio.CancelledError, GeneratorExit):
            witness(provider, "cancelled")
            raise

    async def embeddings(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        self._refused(provider, model)
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -1.25]}]
        usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
        return Whole({"object": "list", "model": model, "data": data, "usage": usage})

    async def rerank(self, provider: ServedProvider, model: str, fields: Fields) -> Whole:
        return Whole({"id": "r", "results": [{"index": 0, "relevance_score": 0.9}]})


def witness(provider: ServedProvider, word: str) -> None:
    file = dict(provider.options).get("witness")
    if file:
        with Path(file).open("a") as opened:
            opened.write(f"{word}\n")


def _reply(text: str, usage: Fields) -> Fields:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, "images": []}}
        ],
        "usage": usage,
        "vertex_ai_safety_results": [],
    }


def _chunk(number: int, delta: Fields) -> Fields:
    """Each with another id, as litellm's Gemini chunks have."""
    choices = [{"index": 0, "delta": delta}]
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    }


if __name__ == "__main__":
    sys.exit(run(ScriptedEngine))
