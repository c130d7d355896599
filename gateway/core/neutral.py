"""A model call in no vendor's words: the request, the reply and the events of a stream that dialects translate through.

N dialects need N codecs and not N². What a codec cannot put into these forms it names in `Ask.lost`; what another one
cannot say in its own words it names when it writes. JSON that nobody here has to understand (schemas, arguments of
tools) stays the raw bytes or the text it came as.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from gateway.core.usage import Usage


class Text(msgspec.Struct, frozen=True):
    """`marker` is a prompt-cache marker as it came (`{"type":"ephemeral"}`), which only some dialects can carry."""

    text: str
    marker: msgspec.Raw | None = None


MediaKind = Literal["image", "file", "audio"]


class Media(msgspec.Struct, frozen=True):
    """A part that is no text, in exactly one of three ways: `data` (base64) with its `media_type`, `url`, or the
    provider's own `file_id`. `name` is a file's name, `detail` OpenAI's image detail."""

    kind: MediaKind
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    name: str = ""
    detail: str = ""
    marker: msgspec.Raw | None = None


class Thinking(msgspec.Struct, frozen=True):
    """What a model thought. `seal` is what its provider wants back unchanged with it (a signature, encrypted content,
    redacted data), empty where there is none; `sealed_by` names the dialect that made it: no other can read it. `whole`
    is False for thinking whose words the provider keeps to itself: the seal is all of it."""

    text: str = ""
    seal: str = ""
    sealed_by: str = ""
    whole: bool = True


class ToolUse(msgspec.Struct, frozen=True):
    """A call of a tool. `arguments` is the JSON text the model wrote, empty for none; of a `custom` tool plain text.
    `namespace` is that of the tool, whose name then begins with it."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    marker: msgspec.Raw | None = None
    namespace: str = ""


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool call gave."""

    tool_use_id: str
    parts: tuple[Text | Media, ...] = ()
    is_error: bool = False
    custom: bool = False
    marker: msgspec.Raw | None = None


class Refusal(msgspec.Struct, frozen=True):
    """The model's words for why it does not answer."""

    text: str


Part = Text | Media | Thinking | ToolUse | ToolResult | Refusal
Role = Literal["system", "user", "assistant"]
"""`developer` is OpenAI's word for system, `tool` a user turn with a tool's result."""


class Turn(msgspec.Struct, frozen=True):
    """One message, in the order in which they were said. Results of tools stand in user turns."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A tool of the caller's own. `schema` is the JSON Schema of its arguments (None: it takes none); of a `custom`
    tool `schema` is the format of its input. One of a `namespace` is named `namespace.name`."""

    name: str
    description: str = ""
    schema: msgspec.Raw | None = None
    strict: bool | None = None
    custom: bool = False
    marker: msgspec.Raw | None = None
    namespace: str = ""


class ToolChoice(msgspec.Struct, frozen=True):
    """`named` with the tool's name; the others without."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class Format(msgspec.Struct, frozen=True):
    """What the text must be: any JSON object (`schema` None), or one that fits a schema."""

    schema: msgspec.Raw | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


class Ask(msgspec.Struct, frozen=True):
    """A request. None and empty mean that the caller did not say; numbers of sampling are JSON text, never floats.

    `effort` is how much to think (`none`, `minimal`, `low` … `max`), `thinking_tokens` the same as a number of tokens.
    `lost` names the caller's members that have no neutral form (`messages.…` inside messages); `essential` those of
    them that must not be left out, as the answer would be another one: a dialect that lacks them refuses the call.
    """

    model: str
    turns: tuple[Turn, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    choices: int = 1
    temperature: str = ""
    top_p: str = ""
    top_k: str = ""
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    format: Format | None = None
    effort: str = ""
    thinking_tokens: int | None = None
    verbosity: str = ""
    user: str = ""
    cache_key: str = ""
    service_tier: str = ""
    lost: tuple[str, ...] = ()
    essential: tuple[str, ...] = ()


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    CONTEXT = "context"
    TOOLS = "tools"
    FILTERED = "filtered"
    REFUSED = "refused"
    PAUSED = "paused"


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. `id` is the provider's, `model` what it says it served. `stop_sequence` ended it, if one did."""

    id: str
    model: str
    parts: tuple[Part, ...]
    finish: Finish
    usage: Usage | None = None
    stop_sequence: str = ""


# ---------------------------------------------------------------- the events of a stream

PartKind = Literal["text", "thinking", "tool", "refusal"]


class Began(msgspec.Struct, frozen=True):
    """The first event."""

    id: str
    model: str


class PartBegan(msgspec.Struct, frozen=True):
    """A part of the answer begins; parts are numbered from 0 without gaps, and never overlap. Of a tool `tool_id` and
    `name` are known from here on."""

    index: int
    kind: PartKind
    tool_id: str = ""
    name: str = ""
    custom: bool = False
    namespace: str = ""


class PartGrew(msgspec.Struct, frozen=True):
    """More of the part that is open: text, thought, refusal, or JSON text of a tool's arguments."""

    index: int
    text: str


class PartSealed(msgspec.Struct, frozen=True):
    """What the provider wants back with the thinking that is open (`Thinking.seal`)."""

    index: int
    seal: str
    sealed_by: str
    whole: bool = True


class PartEnded(msgspec.Struct, frozen=True):
    index: int


class Finished(msgspec.Struct, frozen=True):
    """All parts have ended. What may still follow is usage, which is read beside the events."""

    finish: Finish
    stop_sequence: str = ""


class Failed(msgspec.Struct, frozen=True):
    """The provider reports an error in its stream, which ends with it."""

    message: str
    code: str


Event = Began | PartBegan | PartGrew | PartSealed | PartEnded | Finished | Failed
