"""`embeddings`: input tokens only, never a stream."""

from __future__ import annotations

import re
from base64 import b64encode
from struct import pack

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import BadRequest
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_members, open_object, raw_json, text_of, write_members
from gateway.dialects.openai_chat.reply import cost_of, open_objects, open_reply, usage_of
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
_VECTOR = msgspec.json.Decoder(list[float])
_NUMBERS = re.compile(rb'"embedding"\s*+:\s*+\[')


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
            base64=head.encoding_format == "base64",
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members, _ = open_reply(body, "data")
        return ReplyFacts(
            usage=usage_of(members, quirks, has_output=False),
            model_served=text_of(members.get("model")),
            upstream_id=text_of(members.get("id")),
            reported_nusd=cost_of(members, quirks),
        )

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        """As it came, unless base64 was asked for and arrays of numbers came: some servers know nothing else."""
        return as_base64(body) if head.base64 and _NUMBERS.search(body) else body


def as_base64(body: bytes) -> bytes:
    """The reply with each array of numbers as base64 of little-endian float32, as OpenAI writes it; what is no such
    array stays, and the whole body where a number is none."""
    members = open_members(body)
    rows = open_objects(members.get("data")) if members is not None else None
    if members is None or rows is None:
        return body
    for row in rows:
        vector = row.get("embedding")
        if vector is None or not bytes(vector).startswith(b"["):
            continue
        try:
            numbers = _VECTOR.decode(vector)
            row["embedding"] = raw_json(b64encode(pack(f"<{len(numbers)}f", *numbers)).decode())
        except (msgspec.DecodeError, OverflowError):
            return body
    members["data"] = raw_json(rows)
    return write_members(members)


MEMBER = Embeddings("embeddings", "/embeddings")
