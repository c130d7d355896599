"""`moderations`: whether a text may be harmful. OpenAI takes nothing for it, so nothing is held or booked."""

from __future__ import annotations

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import BadRequest
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_object, text_of
from gateway.dialects.openai_chat.reply import open_reply
from gateway.dialects.openai_chat.request import ModelName, read_typed, unknown_fields
from gateway.dialects.openai_chat.surface import OpenAIEndpoint

DEFAULT_MODEL = "omni-moderation-latest"
"""What OpenAI asks where a request names none, as its SDKs let it."""
_KNOWN = frozenset({"model", "input"})
_EXPECTED = {
    "model": "a non-empty string of at most 512 characters or null",
    "input": "a string, an array of strings, or an array of objects",
}


class _Head(msgspec.Struct):
    input: str | list[msgspec.Raw]
    model: ModelName | None = None


_HEAD = msgspec.json.Decoder(_Head)


class Moderations(OpenAIEndpoint):
    """POST /moderations."""

    __slots__ = ()
    billed = False

    def read_head(self, body: bytes) -> Head:
        members = open_object(body)
        head = read_typed(_HEAD, body, _EXPECTED)
        if not head.input:
            raise BadRequest("input is empty: it must hold a text or an image.", param="input")
        return Head(
            model=head.model or DEFAULT_MODEL,
            messages=1 if isinstance(head.input, str) else len(head.input),
            text_bytes=len(body),
            unknown_fields=unknown_fields(members, _KNOWN),
            output_expected=False,
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members, _ = open_reply(body, "results")
        return ReplyFacts(
            usage=None, model_served=text_of(members.get("model")), upstream_id=text_of(members.get("id"))
        )


MEMBER = Moderations("moderations", "/moderations")
