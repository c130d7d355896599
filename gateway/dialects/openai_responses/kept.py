"""`responses.kept`: what a provider keeps of a response, read again, cancelled or deleted. Asking costs nothing."""

from __future__ import annotations

from urllib.parse import quote

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.ports import Outgoing
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import Members, open_members, text_of
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_responses import errors
from gateway.dialects.openai_responses.reply import finish_of
from gateway.dialects.openai_responses.sealed import Seal
from gateway.dialects.openai_responses.stream import ResponsesTap

KEPT = "responses.kept"


class KeptResponse(OpenAIEndpoint):
    """One kept response, and what is asked of it: `path` is what stands after its id, with the query."""

    __slots__ = ("_own", "_seal")
    dialect = "openai_responses"
    billed = False
    stream_error = staticmethod(errors.stream_error)

    def __init__(self, upstream_id: str = "", path: str = "", seal: Seal | None = None) -> None:
        super().__init__(KEPT, f"/responses/{quote(upstream_id, safe='')}{path}")
        self._own = upstream_id
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
        return body if self._seal is None else self._seal.sealed_refusal(body, self._own)

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> ResponsesTap:
        return KeptTap(quirks, self._seal, goes_on="starting_after=" in self.upstream_path)


class KeptTap(ResponsesTap):
    """Reads the events of a kept response. That the response failed is what was asked for, and no failure to read it.

    `goes_on`: only events after some number were asked for, of which there may be none.
    """

    def __init__(self, quirks: Quirks = PLAIN, seal: Seal | None = None, *, goes_on: bool = False) -> None:
        super().__init__(quirks, seal)
        self._goes_on = goes_on
        self._nothing_new = False

    def finish(self) -> bytes:
        rest = super().finish()
        if self._goes_on and not (self.events or self.error):
            self._nothing_new = True
            self.events = 1  # the end itself: it is the answer
        return rest

    @property
    def complete(self) -> bool:
        return self._nothing_new or super().complete

    def _note_error(self, said: str) -> None:
        self._said_error = self._said_error or said

    def _learn_response(self, event: bytes, kind: str, response: Members) -> bytes:
        relayed = super()._learn_response(event, kind, response)
        if self.terminal:
            self.error = ""
        return relayed
