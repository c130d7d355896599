"""What is read of a whole response object."""

from __future__ import annotations

import msgspec

from gateway.core.call import ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.usage import Usage
from gateway.dialects.counts import open_usage
from gateway.dialects.json_body import MAX_DEPTH, Members, is_null, is_too_deep, open_members, text_of
from gateway.dialects.openai_chat.provider_errors import in_band_error
from gateway.dialects.openai_chat.reply import cost_of, open_objects, text_bytes
from gateway.dialects.openai_responses.usage import read_usage, reply_usage
from gateway.dialects.openai_responses.usual import usual_response

_TOOLS_SEEN = (b'_call"', b'"tool_usage"')
"""Without these bytes nothing is billed besides tokens: kinds of items of tools end so, function calls too."""
_VALUE = msgspec.json.Decoder()


def read_response(body: bytes, quirks: Quirks = PLAIN, kind: str = "response") -> ReplyFacts:
    """Raises UpstreamInvalidReply when the body is no object of this kind. One that failed is a response too."""
    if quirks.reported_cost is None and kind == "response":
        facts = usual_response(body)
        if facts is not None:
            return facts
    return read_any_response(body, quirks, kind)


def read_any_response(body: bytes, quirks: Quirks = PLAIN, kind: str = "response") -> ReplyFacts:
    """As `read_response`, without the short way."""
    members = open_members(body)
    if members is None:
        raise UpstreamInvalidReply("The provider answered 200 with a body that is not a JSON object.")
    if is_too_deep(body, members):
        raise UpstreamInvalidReply(f"The provider's reply is nested more than {MAX_DEPTH} levels deep.")
    output = open_objects(members.get("output"))
    if output is None or text_of(members.get("object")) not in (kind, ""):
        error = in_band_error(members)
        if error:
            raise UpstreamInvalidReply(f"The provider answered 200 with an error: {error}")
        raise UpstreamInvalidReply("The provider answered 200 without an array of objects named output.")
    return ReplyFacts(
        usage=usage_of(members),
        model_served=text_of(members.get("model")),
        finish_reason=finish_of(members),
        refusal=refuses(output),
        upstream_id=text_of(members.get("id")),
        output_bytes=sum(_item_bytes(item) for item in output),
        reported_nusd=cost_of(members, quirks),
    )


def usage_of(response: Members) -> Usage | None:
    """The usage of a response, with its tools. Most have none, and only their usage is decoded."""
    usage = response.get("usage")
    if usage is None or is_null(usage):
        return None
    output = bytes(response.get("output", b"[]"))
    told = response.get("tool_usage")
    if is_null(told) and not any(word in output for word in _TOOLS_SEEN):
        return None if open_usage(usage) is None else read_usage(usage, text_of(response.get("service_tier")))
    names = ("usage", "tool_usage", "output", "tools", "service_tier")
    try:
        return reply_usage({name: _VALUE.decode(response[name]) for name in names if name in response})
    except ValueError as error:  # text that is no UTF-8, in a member that nobody had opened
        raise UpstreamInvalidReply("The provider's reply cannot be read.") from error


def finish_of(response: Members) -> str:
    """Why it ended: what made it incomplete, else its status (`completed`, `failed`, `queued` …)."""
    details = response.get("incomplete_details")
    if not is_null(details) and details is not None:
        reason = text_of((open_members(details) or {}).get("reason"))
        if reason:
            return reason
    return text_of(response.get("status"))


def refuses(output: list[Members]) -> bool:
    for item in output:
        content = item.get("content")
        if content is not None and b'"refusal"' in bytes(content):
            parts = open_objects(content) or ()
            if any(text_of(part.get("type")) == "refusal" for part in parts):
                return True
    return False


def _item_bytes(item: Members) -> int:
    """Bytes of what an item puts out: the texts of its parts, or what a tool is called with."""
    size = sum(text_bytes(item.get(name)) for name in ("arguments", "input"))
    for name in ("content", "summary"):
        for part in open_objects(item.get(name)) or ():
            size += sum(text_bytes(part.get(text)) for text in ("text", "refusal"))
    return size
