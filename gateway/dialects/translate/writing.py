"""What every writer of neutral forms shares: what it could not say, tool names and ids that fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.neutral import Ask, Media, Part, Text, ToolResult, ToolUse, Turn

_ID = re.compile(r"[^a-zA-Z0-9_-]")
_ENCODER = msgspec.json.Encoder()
USER_CHARS_MAX = 64


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


class OwnNames(Names):
    """The caller's own names, told back to the caller."""

    def __init__(self) -> None:
        super().__init__(0)

    def sent(self, name: str) -> str:
        return name


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
    if media.file_id:
        what, instead = f"the file {media.file_id} of another provider", " Send what is in it as base64."
    elif media.url:
        what, instead = f"the URL of a{'n' if media.kind[0] in 'ai' else ''} {media.kind}", " Send it as base64."
    else:
        what, instead = f"{media.kind} of the type {media.media_type}", ""
    return BadRequest(
        f"The messages hold {what}, which cannot be sent to the provider of this model, which speaks {dialect}."
        f"{instead}",
        param="messages",
    )


def refuse_silence(messages: Sequence[object], dialect: str) -> None:
    """Raises BadRequest where nothing is left to be said: empty messages are refused by most providers."""
    if not messages:
        raise BadRequest(
            f"The messages say nothing that can be sent to the provider of this model, which speaks {dialect}.",
            param="messages",
        )


def lost_parts(lost: Iterable[str]) -> Iterator[str]:
    """Those of the lost members that the model was to see: an answer without them would be another one."""
    return (name for name in lost if name.startswith(("messages.content.", "input.content.")))


def arguments_object(use: ToolUse) -> msgspec.Raw:
    """The arguments as a JSON object; what a model wrote that is none stands in one as text, not lost."""
    text = use.arguments.encode("utf-8", "surrogatepass").strip() or b"{}"
    try:
        if not use.custom and isinstance(msgspec.json.decode(text), dict):
            return msgspec.Raw(text)
    except (ValueError, RecursionError):
        pass
    return msgspec.Raw(_ENCODER.encode({"input": use.arguments}))


def custom_input(arguments: str) -> str:
    """What a custom tool is called with, of the arguments that a model wrote for `arguments_schema`."""
    try:
        said: object = msgspec.json.decode(arguments.encode())
    except (ValueError, RecursionError):
        return arguments
    found = said.get("input") if isinstance(said, dict) else None
    return found if isinstance(found, str) else arguments


def opaque_user(user: str) -> str:
    """An id of the end user that says nothing of the person: what looks like an e-mail address is hashed."""
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:32] if "@" in user else user


def short_user(user: str) -> str:
    """An id of the end user as OpenAI takes it: at most 64 characters. A longer one (Claude Code's) is hashed."""
    return user if len(user) <= USER_CHARS_MAX else hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()


def leading_system(turns: Sequence[Turn]) -> int:
    """How many turns at the beginning are instructions. Where there is nothing else the last of them is what is asked:
    only chat completions can be without a message."""
    leading = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return max(0, leading - 1) if leading == len(turns) else leading


def texts_of(parts: Iterable[Part]) -> str:
    return "\n".join([part.text for part in parts if isinstance(part, Text)])


def result_text(result: ToolResult) -> str:
    """What a tool gave, as text for dialects that have no mark for a failure."""
    text = texts_of(result.parts)
    if any(isinstance(part, Media) for part in result.parts):
        text = f"{text}\n(The result's images and files follow.)".lstrip()
    return f"The tool failed: {text}" if result.is_error else text


def named_file(media: Media) -> str:
    """A file's name; OpenAI tells its kind by the ending."""
    name = media.name or "file"
    return f"{name}.pdf" if media.media_type == "application/pdf" and "." not in name else name
