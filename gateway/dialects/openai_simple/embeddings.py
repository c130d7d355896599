"""`embeddings`: input tokens only, never a stream."""

from __future__ import annotations

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import BadRequest
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_object, text_of
from gateway.dialects.openai_chat.reply import cost_of, open_reply, usage_of
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX, ModelName, TokenCount, read_typed, unknown_fields
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_simple.texts import count_texts

_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


class _EmbeddingHead(msgspec.Struct):
    model: ModelName
    dimensions: TokenCount | None = None
    encoding_format: str | None = None
    user: str | None = None


_HEAD = msgspec.json.Decoder(_EmbeddingHead)


class Embeddings(OpenAIEndpoint):
    """POST /embeddings."""

    __slots__ = ()

    def read_head(self, body: bytes) -> Head:
        members = open_object(body)
        head = read_typed(_HEAD, body)
        if "input" not in members:
            raise BadRequest("input is missing: it must be a string or an array.", param="input")
        texts = count_texts(members["input"], "input")
        return Head(
            model=head.model,
            user=(head.user or "")[:NAME_CHARS_MAX],
            messages=texts,
            text_bytes=len(body),
            unknown_fields=unknown_fields(members, _KNOWN),
            output_expected=False,
            inputs=texts,
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members, _ = open_reply(body, "data")
        return ReplyFacts(
            usage=usage_of(members, quirks, has_output=False),
            model_served=text_of(members.get("model")),
            upstream_id=text_of(members.get("id")),
            reported_nusd=cost_of(members, quirks),
        )


MEMBER = Embeddings("embeddings", "/embeddings")
