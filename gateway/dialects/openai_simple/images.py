"""`images.generations`: pictures from words, whole replies only. Billed by tokens where the reply counts them, else by
the picture (`media_usage.py`).

A stream of pictures is refused: its events are pictures, longer than an event may be here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import BadRequest
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.usage import Usage, UsageSource
from gateway.dialects.json_body import open_object, text_of
from gateway.dialects.openai_chat.reply import open_reply
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX, ModelName, read_typed, unknown_fields
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_simple.media_usage import image_usage

IMAGES_MAX = 10
_KNOWN = frozenset({
    "background", "model", "moderation", "n", "output_compression", "output_format", "partial_images", "prompt",
    "quality", "response_format", "size", "stream", "style", "user",
})  # fmt: skip
_EXPECTED = {
    "model": f"a non-empty string of at most {NAME_CHARS_MAX} characters",
    "prompt": "a non-empty string",
    "n": f"a whole number from 1 to {IMAGES_MAX} or null",
    "stream": "false or null",
    "user": "a string or null",
}

_UNSEEN = Usage({}, UsageSource.ESTIMATED, fault="pictures that nobody has seen")
"""What a reply that was lost has cost cannot be told: it is unpriced, not free."""


class _Head(msgspec.Struct):
    model: ModelName
    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    n: Annotated[int, msgspec.Meta(ge=1, le=IMAGES_MAX)] | None = None
    stream: bool | None = None
    user: str | None = None


_HEAD = msgspec.json.Decoder(_Head)


class ImageGenerations(OpenAIEndpoint):
    """POST /images/generations."""

    __slots__ = ()

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """None: nothing in such a request limits its tokens."""
        return None

    def read_head(self, body: bytes) -> Head:
        members = open_object(body)
        head = read_typed(_HEAD, body, _EXPECTED)
        if head.stream:
            raise BadRequest("stream is wrong: pictures are only sent whole here. Leave it out.", param="stream")
        return Head(
            model=head.model,
            choices=head.n or 1,
            user=(head.user or "")[:NAME_CHARS_MAX],
            messages=1,
            text_bytes=len(body),
            unknown_fields=unknown_fields(members, _KNOWN),
            own_usage=_UNSEEN,
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members, _ = open_reply(body, "data")
        return ReplyFacts(usage=image_usage(body), model_served=text_of(members.get("model")))


MEMBER = ImageGenerations("images.generations", "/images/generations")
