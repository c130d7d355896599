"""What every writer of neutral forms shares: what it could not say, tool names and ids that fit, schemas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.neutral import Ask, Media, Tool, ToolUse

_ID = re.compile(r"[^a-zA-Z0-9_-]")
_ENCODER = msgspec.json.Encoder()
EMPTY_OBJECT = msgspec.Raw(b'{"type":"object","properties":{}}')


class Names:
    """The names of an attempt's tools as they are sent, and back. One that fits is sent as it is; another one gets a
    name made of it that fits, the same each time."""

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars
        self._sent: dict[str, str] = {}
        self._own: dict[str, str] = {}

    def sent(self, name: str) -> str:
        """As the provider takes it."""
        known = self._sent.get(name)
        if known is not None:
            return known
        fitting = _ID.sub("_", name)
        if fitting != name or len(name) > self._most_chars or fitting in self._own:
            mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
            fitting = f"{fitting[: self._most_chars - 9]}_{mark}"
        self._sent[name] = fitting
        self._own[fitting] = name
        return fitting

    def own(self, sent: str) -> str:
        """As the caller knows it."""
        return self._own.get(sent, sent)


def fitting_id(text: str, most_chars: int = 64) -> str:
    """A tool call's id of letters, digits, `_` and `-`; the same one always alike."""
    if len(text) <= most_chars and not _ID.search(text) and text:
        return text
    return "call_" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


def refuse_essential(ask: Ask, dialect: str) -> None:
    """Raises BadRequest for what must not be left out and cannot be said."""
    if ask.essential:
        raise BadRequest(
            f"{', '.join(ask.essential)} cannot be translated for the provider of this model, which speaks {dialect}, "
            "and the answer would be another one without it. Leave it out, or use a model of a provider that has it.",
            param=ask.essential[0],
        )


def refuse_choices(ask: Ask, dialect: str) -> None:
    """Raises BadRequest for more than one choice: never silently one."""
    if ask.choices > 1:
        raise BadRequest(
            f"n is {ask.choices}, and the provider of this model, which speaks {dialect}, gives one choice a call. "
            "Leave n out and ask several times.",
            param="n",
        )


def refuse_media(media: Media, dialect: str) -> BadRequest:
    """What is told of a part that the dialect has no words for."""
    what = f"the provider's file {media.file_id}" if media.file_id else f"{media.kind} {media.media_type}".strip()
    return BadRequest(
        f"The messages hold {what}, which cannot be sent to the provider of this model, which speaks {dialect}.",
        param="messages",
    )


def arguments_object(use: ToolUse) -> msgspec.Raw:
    """The arguments as a JSON object; what a model wrote that is none stands in one as text, not lost."""
    text = use.arguments.encode("utf-8", "surrogatepass").strip() or b"{}"
    try:
        if not use.custom and isinstance(msgspec.json.decode(text), dict):
            return msgspec.Raw(text)
    except (ValueError, RecursionError):
        pass
    return msgspec.Raw(_ENCODER.encode({"input": use.arguments}))


def arguments_schema(tool: Tool) -> msgspec.Raw:
    """The schema of a function's arguments; a custom tool takes one text."""
    if tool.custom:
        return msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
    return tool.schema or EMPTY_OBJECT


def custom_input(arguments: str) -> str:
    """What a custom tool is called with, of the arguments that a model wrote for `arguments_schema`."""
    try:
        said: object = msgspec.json.decode(arguments.encode())
    except (ValueError, RecursionError):
        return arguments
    found = said.get("input") if isinstance(said, dict) else None
    return found if isinstance(found, str) else arguments


def closed(schema: msgspec.Raw) -> msgspec.Raw:
    """The schema with `additionalProperties: false` in every object that does not say it: structured outputs demand
    it."""
    return msgspec.Raw(_ENCODER.encode(_closed(msgspec.json.decode(schema))))


def _closed(value: object) -> object:
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: _closed(item) for name, item in value.items()}
    if made.get("type") == "object" or ("properties" in made and "type" not in made):
        made.setdefault("additionalProperties", False)
    return made


def opaque_user(user: str) -> str:
    """An id of the end user that says nothing of the person: what looks like an e-mail address is hashed."""
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32] if "@" in user else user


def text_lines(texts: Iterable[str]) -> str:
    return "\n".join([text for text in texts if text])
