"""Messages to be translated from and into."""

from __future__ import annotations

from gateway.core.neutral import Ask, Reply
from gateway.core.usage import Usage
from gateway.dialects.anthropic_messages import from_neutral, into_neutral
from gateway.dialects.anthropic_messages.errors import stream_error
from gateway.dialects.anthropic_messages.from_neutral_stream import MessagesWriter
from gateway.dialects.anthropic_messages.into_neutral_stream import MessagesReader
from gateway.dialects.translate.writing import Names


class MessagesCodec:
    """translate's Codec."""

    surface = "messages"
    upstream_headers: tuple[tuple[str, str], ...] = ()
    tool_name_chars = from_neutral.TOOL_NAME_CHARS
    names = {
        "effort": "thinking",
        "user": "metadata.user_id",
        "stop": "stop_sequences",
        "format": "output_config.format",
    }

    def read_ask(self, body: bytes) -> Ask:
        return into_neutral.read_ask(body)

    def write_ask(self, ask: Ask, model: str, max_output_tokens: int, names: Names) -> tuple[bytes, tuple[str, ...]]:
        return from_neutral.write_ask(ask, model, max_output_tokens, names)

    def read_reply(self, body: bytes, usage: Usage | None) -> Reply:
        return into_neutral.read_reply(body, usage)

    def write_reply(self, reply: Reply, ask: Ask, created_s: int) -> bytes:
        return from_neutral.write_reply(reply)

    def reader(self) -> MessagesReader:
        return MessagesReader()

    def writer(self, ask: Ask, usage_asked: bool, created_s: int) -> MessagesWriter:
        return MessagesWriter(stream_error)


CODEC = MessagesCodec()
