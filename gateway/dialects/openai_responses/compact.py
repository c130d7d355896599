"""`responses.compact`: a conversation made shorter by the model. It is billed as any other run of it."""

from __future__ import annotations

from gateway.core.call import ReplyFacts
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.openai_responses import reply
from gateway.dialects.openai_responses.surface import Responses


class Compact(Responses):
    """POST /responses/compact. Never a stream."""

    __slots__ = ()

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        return reply.read_response(body, quirks, "response.compaction")


MEMBER = Compact("responses.compact", "/responses/compact")
