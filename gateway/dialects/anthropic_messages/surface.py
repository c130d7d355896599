"""`messages`: Anthropic's Messages API, and the part of a surface that its endpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import FaregateError
from gateway.core.ports import Outgoing
from gateway.core.quirks import PLAIN, ErrorFacts, Quirks
from gateway.dialects.anthropic_messages import errors, reply, request
from gateway.dialects.anthropic_messages.stream import MessagesTap
from gateway.dialects.openai_chat.errors import usage_comment
from gateway.dialects.openai_chat.rewrite import output_limited

DIALECT = "anthropic_messages"
DEFAULT_VERSION = ("anthropic-version", "2023-06-01")
"""For a caller that names no version: the one that takes what every model so far has taken."""


class MessagesEndpoint:
    """An endpoint of the Anthropic dialect: name and path, and all that does not depend on the endpoint.

    Quirks of a provider are those of its OpenAI-shaped API; of them only `error_field` is heeded here.
    """

    __slots__ = ("name", "upstream_path")
    dialect = DIALECT
    upstream_headers: tuple[tuple[str, str], ...] = (DEFAULT_VERSION,)
    id_headers: tuple[bytes, ...] = (b"x-request-id", b"request-id")
    billed = True

    def __init__(self, name: str, upstream_path: str) -> None:
        self.name = name
        self.upstream_path = upstream_path

    def for_attempt(self, max_output_tokens: int, now_ms: int) -> Self:
        return self

    def joined(self, head: Head, headers: Mapping[str, str]) -> Head:
        return request.with_betas(head, headers)

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        """Only the model's name is replaced; the very same object where it need not be."""
        return (body if model == head.model else request.with_model(body, model)), ()

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """None where the request's thinking budget does not fit below the limit: that is refused."""
        return None if request.thinks_beyond(body, tokens) else output_limited(body, tokens, ("max_tokens",))

    def with_tool_limit(self, body: bytes, calls: int) -> bytes | None:
        """Each tool has a limit of its own there (`max_uses`), which is not written for it."""
        return None

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        return body

    def caller_error(self, status: int, body: bytes) -> bytes:
        """As it came: clients look for Anthropic's very words in it."""
        return body

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> MessagesTap:
        return MessagesTap(quirks)

    def read_error(self, status: int, body: bytes) -> ErrorFacts:
        return errors.read_error(status, body)

    def error_body(self, error: FaregateError) -> bytes:
        return errors.error_body(error)

    def stream_error(self, error: FaregateError) -> bytes:
        return errors.stream_error(error)

    def heartbeat(self) -> bytes:
        return errors.heartbeat()

    def usage_comment(self, cost_usd: str | None, cost_state: str, call_id: str) -> bytes:
        return usage_comment(cost_usd, cost_state, call_id)


class Messages(MessagesEndpoint):
    """POST /messages."""

    __slots__ = ()

    def read_head(self, body: bytes) -> Head:
        return request.read_head(body)

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        return reply.read_reply(body)

    def own_reply(self, head: Head) -> bytes | None:
        return None


MEMBER = Messages("messages", "/messages")
