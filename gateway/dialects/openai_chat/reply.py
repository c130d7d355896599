"""What is read of a whole OpenAI reply. A 200 that is no reply of this kind is told apart from one without usage."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.usage import Usage
from gateway.dialects.json_body import MAX_DEPTH, Members, is_null, is_too_deep, open_members, text_of
from gateway.dialects.openai_chat.provider_errors import in_band_error
from gateway.dialects.openai_chat.usage import BREAKDOWN, open_usage, read_breakdown, read_usage, reported_nusd
from gateway.dialects.openai_chat.usual import usual_reply

_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_STRING = msgspec.json.Decoder(str)


def open_reply(body: bytes, list_member: str) -> tuple[Members, list[Members]]:
    """The members of a reply and the objects of its main array. Raises UpstreamInvalidReply."""
    members = open_members(body)
    if members is None:
        raise UpstreamInvalidReply("The provider answered 200 with a body that is not a JSON object.")
    if is_too_deep(body, members):
        raise UpstreamInvalidReply(f"The provider's reply is nested more than {MAX_DEPTH} levels deep.")
    error = in_band_error(members)
    if error:
        raise UpstreamInvalidReply(f"The provider answered 200 with an error: {error}")
    objects = open_objects(members.get(list_member))
    if objects is None:
        raise UpstreamInvalidReply(f"The provider answered 200 without an array of objects named {list_member}.")
    return members, objects


def open_objects(raw: msgspec.Raw | None) -> list[Members] | None:
    """The objects of a JSON array, or None when it is no such array."""
    if raw is None:
        return None
    try:
        return _OBJECTS.decode(raw)
    except (ValueError, RecursionError):
        return None


def usage_of(members: Members, quirks: Quirks = PLAIN, *, has_output: bool = True) -> Usage | None:
    """The reply's usage with the tier it says was served; None when it carries none."""
    raw = members.get("usage")
    if raw is None or open_usage(raw) is None:
        return None
    tier = text_of(members.get("service_tier"))
    usage = read_usage(raw, tier, has_output=has_output, reasoning_outside=quirks.reasoning_outside)
    runs = members.get(BREAKDOWN)
    return usage if is_null(runs) else read_breakdown(usage, runs, quirks.reasoning_outside)


def cost_of(members: Members, quirks: Quirks) -> int | None:
    """The cost that the reply's usage reports, nano-USD; None when it reports none."""
    raw = members.get("usage")
    return None if raw is None or quirks.reported_cost is None else reported_nusd(raw, quirks.reported_cost)


def read_chat_reply(body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
    """Raises UpstreamInvalidReply when the body is not a chat completion."""
    if quirks.reported_cost is None and not quirks.reasoning_outside:
        facts = usual_reply(body)
        if facts is not None:
            return facts
    return read_any_chat_reply(body, quirks)


def read_any_chat_reply(body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
    """As `read_chat_reply`, without the short way."""
    members, choices = open_reply(body, "choices")
    messages = [open_members(choice["message"]) or {} for choice in choices if "message" in choice]
    return ReplyFacts(
        usage=usage_of(members, quirks),
        model_served=text_of(members.get("model")),
        finish_reason=first_finish(choices),
        refusal=any(text_of(message.get("refusal")) for message in messages),
        upstream_id=text_of(members.get("id")),
        output_bytes=sum(_message_bytes(message) for message in messages),
        reported_nusd=cost_of(members, quirks),
    )


def first_finish(choices: Sequence[Members]) -> str:
    return next((reason for choice in choices if (reason := text_of(choice.get("finish_reason")))), "")


def _message_bytes(message: Members) -> int:
    size = sum(text_bytes(message.get(name)) for name in ("content", "reasoning_content", "reasoning", "refusal"))
    for call in open_objects(message.get("tool_calls")) or ():
        function = open_members(call["function"]) if "function" in call else None
        size += text_bytes((function or {}).get("arguments"))
    return size


def text_bytes(raw: msgspec.Raw | None) -> int:
    """UTF-8 bytes of a JSON string's text; of anything else but null the length of its JSON."""
    if raw is None or is_null(raw):
        return 0
    text = bytes(raw)
    if not text.startswith(b'"'):
        return len(text)
    if b"\\" not in text:
        return len(text) - 2
    try:
        return len(_STRING.decode(text).encode("utf-8", "replace"))
    except ValueError:
        return len(text) - 2
