"""From the caller's body to the provider's: the model's name, the request for usage, and what its quirks say.

Every member that is not named in the code leaves as the raw bytes it came as, in its place.
"""

from __future__ import annotations

import hashlib
import re
import string

import msgspec

from gateway.core.call import Head
from gateway.core.errors import BadRequest
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import Members, is_null, open_members, raw_json, text_of, write_members

_STREAM_OPTIONS = "stream_options"
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()
_DIGITS = string.digits + string.ascii_letters
_ALPHANUMERIC = re.compile(r"[0-9A-Za-z]+")


def rewritten(body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> tuple[bytes, tuple[str, ...]]:
    """The body as sent, and the members left out of it that the caller has to be told of (`Quirks.dropped`).

    The very same object when nothing has to change.
    """
    ask = head.stream and quirks.stream_usage and not head.usage_asked
    if model == head.model and not ask and quirks is PLAIN and not head.tags:
        return body, ()
    members = _open_again(body)
    dropped: tuple[str, ...] = ()
    changed = False
    if quirks is not PLAIN:
        members, dropped, changed = _fitted(members, quirks)
    if head.tags and not quirks.takes_tags and "metadata" in members:
        _take_tags(members)
        changed = True
    if model != head.model:
        members["model"] = raw_json(model)
        changed = True
    if ask:
        members[_STREAM_OPTIONS] = _asking(members.get(_STREAM_OPTIONS))
        changed = True
    return (write_members(members) if changed else body), dropped


def output_limited(body: bytes, tokens: int, names: tuple[str, ...], quirks: Quirks = PLAIN) -> bytes | None:
    """The body with `tokens` at most under every one of `names` that has a limit, or under the first where none has.
    None when the provider takes none of those names, so that it would not be told."""
    members = _open_again(body)
    given = [name for name in names if not is_null(members.get(name))] or [names[0]]
    if any(name in quirks.refused for name in given):
        return None
    for name in given:
        own = members.get(name)
        if own is None or is_null(own) or not 0 < int(bytes(own)) <= tokens:  # the caller's smaller one stays
            members[name] = raw_json(tokens)
    return write_members(members)


def _open_again(body: bytes) -> Members:
    """The members of a body that was accepted before; checked no further."""
    members = open_members(body)
    if members is None:
        raise BadRequest("The request body must be a JSON object.")
    return members


def _take_tags(members: Members) -> None:
    """Takes LiteLLM's tags out of the metadata, where they were meant for the gateway: providers refuse an array."""
    metadata = open_members(members["metadata"]) or {}
    metadata.pop("tags", None)
    if metadata:
        members["metadata"] = msgspec.Raw(write_members(metadata))
    else:
        del members["metadata"]


def _asking(options: msgspec.Raw | None) -> msgspec.Raw:
    members = {} if options is None else open_members(options) or {}
    members["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(write_members(members))


def _fitted(members: Members, quirks: Quirks) -> tuple[Members, tuple[str, ...], bool]:
    """The members as this provider takes them, what was left out, and whether anything is different."""
    renamed = dict(quirks.renamed)
    fitted: Members = {}
    skipped: list[str] = []
    changed = False
    for name, raw in members.items():
        own = renamed.get(name, name)
        if name in quirks.refused or (name == _STREAM_OPTIONS and not quirks.stream_usage):
            skipped.append(name)
        elif own != name:
            changed = True
            if is_null(members.get(own)):
                fitted[own] = raw
            elif not is_null(raw):
                skipped.append(name)  # both were given: the provider's own name counts
        elif is_null(raw) and _has_stand_in(name, members, quirks):
            changed = True
        else:
            fitted[name] = raw
    inner: set[str] = set()
    messages = members.get("messages")
    if messages is not None and _concern(quirks, bytes(messages)):
        fitted["messages"] = _fitted_messages(messages, quirks, inner)
        changed = changed or fitted["messages"] is not messages
    both = tuple(name for name in skipped if name in renamed)
    return fitted, (*quirks.dropped(skipped, inner), *both), changed or bool(skipped)


def _concern(quirks: Quirks, messages: bytes) -> bool:
    """Whether a name that the quirks speak of occurs in the messages: most of them need not be opened."""
    if quirks.tool_id_chars and b'"tool_call' in messages:
        return True
    return any(f'"{name}"'.encode() in messages for name in quirks.refused_in_messages)


def _has_stand_in(name: str, members: Members, quirks: Quirks) -> bool:
    """Whether a member under OpenAI's name takes the place of this null one."""
    return any(own == name and theirs in members for theirs, own in quirks.renamed)


def _fitted_messages(raw: msgspec.Raw, quirks: Quirks, dropped: set[str]) -> msgspec.Raw:
    """The messages without refused members, with fitting tool ids; the same object when that changes nothing."""
    items = _ITEMS.decode(raw)
    fitted = [_fitted_message(item, quirks, dropped) for item in items]
    if all(old is new for old, new in zip(items, fitted, strict=True)):
        return raw
    return msgspec.Raw(_ENCODER.encode(fitted))


def _fitted_message(raw: msgspec.Raw, quirks: Quirks, dropped: set[str]) -> msgspec.Raw:
    members = open_members(raw)
    if members is None:
        return raw
    fitted = {name: value for name, value in members.items() if name not in quirks.refused_in_messages}
    dropped.update(members.keys() - fitted.keys())
    changed = len(fitted) < len(members)
    if quirks.tool_id_chars:
        changed = _fit_tool_ids(fitted, quirks.tool_id_chars) or changed
    return msgspec.Raw(write_members(fitted)) if changed else raw


def _fit_tool_ids(message: Members, chars: int) -> bool:
    """Replaces the ids of a message's tool calls, and the one it answers. True when one did not fit."""
    changed = _fit_id(message, "tool_call_id", chars)
    calls = message.get("tool_calls")
    if calls is None or not bytes(calls).startswith(b"["):
        return changed
    items = _ITEMS.decode(calls)
    fitted = [_with_fitting_id(item, chars) for item in items]
    if any(old is not new for old, new in zip(items, fitted, strict=True)):
        message["tool_calls"] = msgspec.Raw(_ENCODER.encode(fitted))
        changed = True
    return changed


def _with_fitting_id(call: msgspec.Raw, chars: int) -> msgspec.Raw:
    members = open_members(call)
    return msgspec.Raw(write_members(members)) if members is not None and _fit_id(members, "id", chars) else call


def _fit_id(members: Members, name: str, chars: int) -> bool:
    own = text_of(members.get(name))
    if not own or (len(own) == chars and _ALPHANUMERIC.fullmatch(own)):
        return False
    members[name] = raw_json(tool_id(own, chars))
    return True


def tool_id(own: str, chars: int) -> str:
    """Letters and digits made of an id: the same for the call and its answer, in this request and the next."""
    number = int.from_bytes(hashlib.sha256(own.encode("utf-8", "surrogatepass")).digest())
    made = ""
    for _ in range(chars):
        number, digit = divmod(number, len(_DIGITS))
        made += _DIGITS[digit]
    return made
