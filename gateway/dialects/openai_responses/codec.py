"""Responses to be translated from and into."""

from __future__ import annotations

from gateway.core.neutral import Ask, Reply
from gateway.core.usage import Usage
from gateway.dialects.openai_responses import from_neutral, into_neutral
from gateway.dialects.openai_responses.from_neutral_stream import ResponsesWriter
from gateway.dialects.openai_responses.into_neutral_stream import ResponsesReader
from gateway.dialects.translate.writing import Names


class ResponsesCodec:
    """translate's Codec."""

    surface = "responses"
    upstream_headers: tuple[tuple[str, str], ...] = ()
    tool_name_chars = from_neutral.TOOL_NAME_CHARS
    names = {
        "effort": "reasoning",
        "cache_key": "prompt_cache_key",
        "format": "text.format",
        "verbosity": "text.verbosity",
    }

    def read_ask(self, body: bytes) -> Ask:
        return into_neutral.read_ask(body)

    def write_ask(self, ask: Ask, model: str, max_output_tokens: int, names: Names) -> tuple[bytes, tuple[str, ...]]:
        return from_neutral.write_ask(ask, model, names)

    def read_reply(self, body: bytes, usage: Usage | None) -> Reply:
        return into_neutral.read_reply(body, usage)

    def write_reply(self, reply: Reply, ask: Ask, created_s: int) -> bytes:
        return from_neutral.write_reply(reply, ask, created_s)

    def reader(self) -> ResponsesReader:
        return ResponsesReader()

    def writer(self, ask: Ask, usage_asked: bool, created_s: int) -> ResponsesWriter:
        return ResponsesWriter(ask, created_s)


CODEC = ResponsesCodec()
