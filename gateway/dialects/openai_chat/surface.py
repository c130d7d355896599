"""`chat.completions`, and the part of a surface that all OpenAI endpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import FaregateError
from gateway.core.ports import Outgoing, StreamTap
from gateway.core.quirks import PLAIN, ErrorFacts, Quirks
from gateway.dialects.openai_chat import errors, provider_errors, reply, request
from gateway.dialects.openai_chat.rewrite import output_limited, rewritten
from gateway.dialects.openai_chat.spelling import Spellings
from gateway.dialects.openai_chat.stream import CHAT_SPELLINGS, OpenAITap

DIALECT = "openai_chat"
"""What a provider's row names: an OpenAI-shaped API, whose smaller endpoints come with it."""


class OpenAIEndpoint:
    """An endpoint of the OpenAI dialect: name and path, and all that does not depend on the endpoint."""

    __slots__ = ("name", "upstream_path")
    dialect = DIALECT
    upstream_headers: tuple[tuple[str, str], ...] = ()
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    spellings: Spellings = CHAT_SPELLINGS
    limit_members: tuple[str, ...] = ("max_tokens",)
    """What limits the output, the one to write where the caller wrote none first."""
    billed = True

    def __init__(self, name: str, upstream_path: str) -> None:
        self.name = name
        self.upstream_path = upstream_path

    def for_attempt(self, max_output_tokens: int, now_ms: int) -> Self:
        return self

    def joined(self, head: Head, headers: Mapping[str, str]) -> Head:
        return head

    def own_reply(self, head: Head) -> bytes | None:
        return None

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        return rewritten(body, head, model, quirks)

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """Where the caller gives a limit, its members have the new one; else the endpoint's first name is added."""
        return output_limited(body, tokens, self.limit_members, quirks)

    def with_tool_limit(self, body: bytes, calls: int) -> bytes | None:
        return None

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> StreamTap:
        return OpenAITap(self.spellings, head.choices, head.usage_asked, quirks)

    def read_error(self, status: int, body: bytes) -> ErrorFacts:
        """What a provider's error reply says, whatever its shape. Never raises."""
        return provider_errors.read_error(status, body)

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        return body

    def caller_error(self, status: int, body: bytes) -> bytes:
        return body

    def error_body(self, error: FaregateError) -> bytes:
        return errors.error_body(error)

    def stream_error(self, error: FaregateError) -> bytes:
        return errors.stream_error(error)

    def heartbeat(self) -> bytes:
        return errors.heartbeat()

    def usage_comment(self, cost_usd: str | None, cost_state: str, call_id: str) -> bytes:
        return errors.usage_comment(cost_usd, cost_state, call_id)


class ChatCompletions(OpenAIEndpoint):
    """POST /chat/completions."""

    __slots__ = ()
    limit_members = ("max_completion_tokens", "max_tokens")

    def read_head(self, body: bytes) -> Head:
        return request.read_chat_head(body)

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        return reply.read_chat_reply(body, quirks)


MEMBER = ChatCompletions("chat.completions", "/chat/completions")
