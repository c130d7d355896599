"""What is read of a whole message. A 200 that is no message is told apart from one without usage."""

from __future__ import annotations

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.dialects.anthropic_messages.usage import read_usage
from gateway.dialects.anthropic_messages.usual import REFUSAL, usual_reply
from gateway.dialects.counts import open_usage
from gateway.dialects.json_body import MAX_DEPTH, Members, is_null, is_too_deep, open_members, text_of
from gateway.dialects.openai_chat.provider_errors import in_band_error
from gateway.dialects.openai_chat.reply import open_objects, text_bytes

_COUNT = msgspec.json.Decoder(int)


def read_reply(body: bytes) -> ReplyFacts:
    """Raises UpstreamInvalidReply when the body is not a message."""
    facts = usual_reply(body)
    return read_any_reply(body) if facts is None else facts


def read_any_reply(body: bytes) -> ReplyFacts:
    """As `read_reply`, without the short way."""
    members = _opened(body)
    blocks = open_objects(members.get("content"))
    if blocks is None:
        raise UpstreamInvalidReply("The provider answered 200 without an array of objects named content.")
    usage = members.get("usage")
    reason = text_of(members.get("stop_reason"))
    return ReplyFacts(
        usage=None if usage is None or open_usage(usage) is None else read_usage(usage),
        model_served=text_of(members.get("model")),
        finish_reason=reason,
        refusal=reason == REFUSAL,
        upstream_id=text_of(members.get("id")),
        output_bytes=sum(_block_bytes(block) for block in blocks),
    )


def read_count(body: bytes) -> int:
    """The `input_tokens` of a token count. Raises UpstreamInvalidReply when the body is none."""
    members = _opened(body)
    try:
        return _COUNT.decode(members["input_tokens"])
    except (KeyError, ValueError) as error:
        raise UpstreamInvalidReply("The provider answered 200 without a whole number named input_tokens.") from error


def _opened(body: bytes) -> Members:
    members = open_members(body)
    if members is None:
        raise UpstreamInvalidReply("The provider answered 200 with a body that is not a JSON object.")
    if is_too_deep(body, members):
        raise UpstreamInvalidReply(f"The provider's reply is nested more than {MAX_DEPTH} levels deep.")
    error = in_band_error(members)
    if error:
        raise UpstreamInvalidReply(f"The provider answered 200 with an error: {error}")
    return members


def _block_bytes(block: Members) -> int:
    """UTF-8 bytes of what the model wrote in a block: its text, its thinking, a tool's input as JSON."""
    size = sum(text_bytes(block.get(name)) for name in ("text", "thinking"))
    written = block.get("input")
    return size if written is None or is_null(written) else size + len(written)
