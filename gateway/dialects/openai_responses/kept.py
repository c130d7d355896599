"""`responses.kept`: what a provider keeps of a response, read again, cancelled or deleted. Asking costs nothing."""

from __future__ import annotations

from urllib.parse import quote

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.ports import Outgoing
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_members, text_of
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_responses import errors
from gateway.dialects.openai_responses.reply import finish_of
from gateway.dialects.openai_responses.sealed import Seal
from gateway.dialects.openai_responses.stream import ResponsesTap

KEPT = "responses.kept"


class KeptResponse(OpenAIEndpoint):
    """One kept response, and what is asked of it: `path` is what stands after its id, with the query."""

    __slots__ = ("_names", "_seal")
    dialect = "openai_responses"
    billed = False
    stream_error = staticmethod(errors.stream_error)

    def __init__(self, upstream_id: str = "", path: str = "", name: str = "", seal: Seal | None = None) -> None:
        super().__init__(KEPT, f"/responses/{quote(upstream_id, safe='')}{path}")
        self._names = (upstream_id.encode(), name.encode())
        self._seal = seal

    def read_head(self, body: bytes) -> Head:
        """There is nothing to read: it has no body of its own."""
        return Head(model="", output_expected=False)

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        return body, ()

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members = open_members(body)
        if members is None:
            raise UpstreamInvalidReply("The provider answered 200 with a body that is not a JSON object.")
        return ReplyFacts(
            usage=None,
            model_served=text_of(members.get("model")),
            finish_reason=finish_of(members),
            upstream_id=text_of(members.get("id")),
        )

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        return body if self._seal is None else self._seal.sealed_reply(body)

    def caller_error(self, status: int, body: bytes) -> bytes:
        """A provider's refusal names the response by its own id: the caller knows it by another."""
        own, name = self._names
        return body.replace(own, name) if own and own in body else body

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> ResponsesTap:
        return ResponsesTap(quirks, self._seal)
