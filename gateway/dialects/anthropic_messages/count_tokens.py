"""`messages.count_tokens`: how many tokens a request would have. Asking costs nothing.

Providers that serve it are asked. For a model of another provider the answer is core's estimate of the body's text,
which says so nowhere: the dialect has no place for it, and its clients treat the number as an estimate anyway.
"""

from __future__ import annotations

from gateway.core.call import Head, ReplyFacts
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.tokens import estimate_tokens
from gateway.dialects.anthropic_messages import reply, request
from gateway.dialects.anthropic_messages.surface import MessagesEndpoint


class CountTokens(MessagesEndpoint):
    """POST /messages/count_tokens."""

    __slots__ = ()
    billed = False

    def read_head(self, body: bytes) -> Head:
        return request.read_head(body, output_expected=False)

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        reply.read_count(body)
        return ReplyFacts(usage=None)

    def own_reply(self, head: Head) -> bytes | None:
        return b'{"input_tokens":%d}' % estimate_tokens(head.text_bytes)


MEMBER = CountTokens("messages.count_tokens", "/messages/count_tokens")
