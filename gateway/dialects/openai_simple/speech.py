"""`audio.speech`: a text read aloud, whole. Its reply is sound and says nothing of usage: the characters of the request
are counted here, which is what older models are billed by. A model that is billed by tokens is then unpriced, not free.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import BadRequest, UpstreamInvalidReply
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_object
from gateway.dialects.openai_chat.provider_errors import event_error_text
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX, ModelName, read_typed, unknown_fields
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_simple.media_usage import spoken_characters

_KNOWN = frozenset({"input", "instructions", "model", "response_format", "speed", "stream_format", "voice"})
_EXPECTED = {
    "model": f"a non-empty string of at most {NAME_CHARS_MAX} characters",
    "input": "a non-empty string",
    "stream_format": "audio or null",
}
_PAGE = (b"<html", b"<!doc")
_DECODER = msgspec.json.Decoder()


class _Head(msgspec.Struct):
    model: ModelName
    input: Annotated[str, msgspec.Meta(min_length=1)]
    stream_format: str | None = None


_HEAD = msgspec.json.Decoder(_Head)


class Speech(OpenAIEndpoint):
    """POST /audio/speech."""

    __slots__ = ()

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """None: nothing in such a request limits its tokens."""
        return None

    def read_head(self, body: bytes) -> Head:
        members = open_object(body)
        head = read_typed(_HEAD, body, _EXPECTED)
        if head.stream_format not in (None, "audio"):
            raise BadRequest("stream_format is wrong: it must be audio or null here.", param="stream_format")
        return Head(
            model=head.model,
            messages=1,
            text_bytes=len(body),
            unknown_fields=unknown_fields(members, _KNOWN),
            own_usage=spoken_characters(head.input),
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        """Sound of any kind, raw samples too: so only what is surely none is refused, an error page or JSON."""
        if not body or body[:5].lower() in _PAGE or _is_json(body):
            raise UpstreamInvalidReply(f"The provider answered 200 without sound: {event_error_text(body[:500])}")
        return ReplyFacts(usage=None, output_bytes=len(body))


def _is_json(body: bytes) -> bool:
    if body[:1] not in b'{["ntf-0123456789':
        return False
    try:
        _DECODER.decode(body)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


MEMBER = Speech("audio.speech", "/audio/speech")
