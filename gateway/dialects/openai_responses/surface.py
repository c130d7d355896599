"""`responses`: OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import FaregateError
from gateway.core.ports import StreamTap, Surface, Wire
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import is_null, open_object, raw_json, write_members
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_responses import errors, reply, request
from gateway.dialects.openai_responses.kept import KeptResponse
from gateway.dialects.openai_responses.sealed import Seal
from gateway.dialects.openai_responses.stream import ResponsesTap

DIALECT = "openai_responses"


class Responses(OpenAIEndpoint):
    """POST /responses. `seal` is how its replies name ids to one caller; without it they pass as they are. `previous`
    is the provider's own id of the response that the call goes on from."""

    __slots__ = ("_previous", "_seal")
    dialect = DIALECT
    limit_members = ("max_output_tokens",)

    def __init__(self, name: str, upstream_path: str, seal: Seal | None = None, previous: str = "") -> None:
        super().__init__(name, upstream_path)
        self._seal = seal
        self._previous = previous

    def read_head(self, body: bytes) -> Head:
        return request.read_responses_head(body)

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        return reply.read_response(body, quirks)

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        return body if self._seal is None else self._seal.sealed_reply(body)

    def caller_error(self, status: int, body: bytes) -> bytes:
        """A refusal names the response it goes on from by the provider's id. No other id is named in it: an id in a
        refusal may be one that the caller wrote there."""
        return body if self._seal is None else self._seal.sealed_refusal(body, self._previous)

    def with_tool_limit(self, body: bytes, calls: int) -> bytes | None:
        members = open_object(body)
        if not is_null(members.get("max_tool_calls")):
            return None  # what the caller says of it stands, also none at all
        members["max_tool_calls"] = raw_json(calls)
        return write_members(members)

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> StreamTap:
        return ResponsesTap(quirks, self._seal)

    def stream_error(self, error: FaregateError) -> bytes:
        return errors.stream_error(error)

    # ------------------------------------------------------------ core's StatefulSurface

    def naming(self, name: Callable[[str], str], previous: str = "") -> Wire:
        """This surface as a wire that says ids of responses as `name` does."""
        return type(self)(self.name, self.upstream_path, Seal(name), previous)

    def with_previous(self, body: bytes, upstream_id: str) -> bytes:
        """The body with the id of the response it goes on from, every other member as it came."""
        members = open_object(body)
        members["previous_response_id"] = raw_json(upstream_id)
        return write_members(members)

    def kept(self, upstream_id: str, path: str, named: Callable[[str], str]) -> Surface:
        return KeptResponse(upstream_id, path, Seal(named))


MEMBER = Responses("responses", "/responses")
