"""A Messages request and reply in neutral form, for providers that speak another dialect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.neutral import (
    Ask,
    Finish,
    Format,
    Media,
    MediaKind,
    Part,
    Reply,
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from gateway.core.usage import Usage
from gateway.dialects.anthropic_messages.from_neutral import JSON_TOOL
from gateway.dialects.json_body import NULL, is_null, open_members, open_object, said, text_of
from gateway.dialects.openai_chat.into_neutral import arguments_of, lost_members
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX
from gateway.dialects.translate.reading import misread, number
from gateway.dialects.translate.schemas import fits_strict
from gateway.dialects.translate.seals import ANTHROPIC, from_signature
from gateway.dialects.translate.writing import lost_parts

SAID_ELSEWHERE = frozenset({
    "model", "messages", "max_tokens", "stream", "system", "temperature", "top_p", "top_k", "stop_sequences", "tools",
    "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier", "cache_control",
})  # fmt: skip
"""`cache_control` at the top asks for a cache of Anthropic's; other providers cache by themselves."""
ESSENTIAL = frozenset({"mcp_servers", "container", "inference_geo"})
_STANDARD_TIERS = frozenset({"auto", "standard_only"})
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
FINISHES = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.CONTEXT,
    "tool_use": Finish.TOOLS,
    "pause_turn": Finish.PAUSED,
    "refusal": Finish.REFUSED,
}
_KINDS: dict[str, MediaKind] = {"image": "image", "document": "file"}
_KNOWN = frozenset({
    "text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "document", "search_result",
})  # fmt: skip

_OTHERS_WORK = frozenset({"server_tool_use", "mcp_tool_use", "fallback"})
"""Blocks of what ran at the provider, whose answer stands beside them."""

Content = str | list[msgspec.Raw]


class _Message(msgspec.Struct):
    role: str
    content: Content


class _Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = NULL
    strict: bool | None = None
    cache_control: msgspec.Raw = NULL


class _Choice(msgspec.Struct):
    type: str = "auto"
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str = ""
    budget_tokens: int | None = None


class _OutputFormat(msgspec.Struct):
    type: str = ""
    schema: msgspec.Raw = NULL


class _Output(msgspec.Struct):
    effort: str | None = None
    format: _OutputFormat | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    stream: bool | None = None
    system: Content | None = None
    temperature: msgspec.Raw = NULL
    top_p: msgspec.Raw = NULL
    top_k: msgspec.Raw = NULL
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    output_format: _OutputFormat | None = None
    metadata: _Metadata | None = None
    service_tier: str | None = None


class _Block(msgspec.Struct):
    """A content block; of each type only its own members are there. `content` is a result's, text or blocks."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: str = ""
    content: msgspec.Raw = NULL
    is_error: bool | None = None
    source: msgspec.Raw = NULL
    title: str | None = None
    cache_control: msgspec.Raw = NULL


_BODY = msgspec.json.Decoder(_Body)
_BLOCK = msgspec.json.Decoder(_Block)
_CONTENT = msgspec.json.Decoder(str | list[msgspec.Raw])


def read_ask(body: bytes) -> Ask:
    """Raises BadRequest naming the member that is at fault."""
    members = open_object(body)
    try:
        given = _BODY.decode(body)
    except msgspec.ValidationError as error:
        raise misread(error) from error
    lost = list(lost_members(members, SAID_ELSEWHERE))
    turns = tuple(_turns(given, lost))
    tools, hosted = _tools(given)
    choice, thinking, output = given.tool_choice, given.thinking, given.output_config
    tier = given.service_tier or ""
    parallel = (
        None if choice is None or choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    )
    return Ask(
        model=given.model,
        turns=turns,
        stream=bool(given.stream),
        max_output_tokens=given.max_tokens,
        temperature=number(given.temperature, "temperature"),
        top_p=number(given.top_p, "top_p"),
        top_k=number(given.top_k, "top_k"),
        stop=tuple(given.stop_sequences or ()),
        tools=tools,
        tool_choice=_choice(choice),
        parallel_tools=parallel,
        format=_format(output.format if output is not None and output.format is not None else given.output_format),
        effort="none" if thinking is not None and thinking.type == "disabled" else _effort(output),
        thinking_tokens=thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None,
        user=((given.metadata.user_id if given.metadata else None) or "")[:NAME_CHARS_MAX],
        service_tier="" if tier in _STANDARD_TIERS else tier,
        lost=(*lost, *hosted),
        essential=(*[name for name in lost if name in ESSENTIAL], *lost_parts(lost), *hosted),
    )


def _effort(output: _Output | None) -> str:
    return (output.effort if output is not None else None) or ""


def _turns(given: _Body, lost: list[str]) -> Iterator[Turn]:
    if given.system:
        yield Turn("system", tuple(_parts(given.system, "system", lost)))
    for at, message in enumerate(given.messages):
        role = _ROLES.get(message.role)
        if role is None:
            raise BadRequest(
                f"messages[{at}].role is {message.role[:40]!r}: it must be user, assistant or system.",
                param=f"messages[{at}].role",
            )
        yield Turn(role, tuple(_parts(message.content, f"messages[{at}].content", lost)))


def _parts(content: Content, place: str, lost: list[str]) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    for at, raw in enumerate(content):
        inner = f"{place}[{at}]"
        members = open_members(raw)
        if members is None:
            raise BadRequest(f"{inner} must be an object.", param=inner)
        kind = text_of(members.get("type"))
        if kind not in _KNOWN:  # its members may be any
            shown = kind not in _OTHERS_WORK and not kind.endswith("_tool_result")
            lost.append(f"messages.content.{kind[:40]}" if shown else f"messages.{kind[:40]}")
            continue
        try:
            block = _BLOCK.decode(raw)
        except msgspec.ValidationError as error:
            raise misread(error, inner) from error
        yield from _part(block, inner, lost)


def _part(block: _Block, place: str, lost: list[str]) -> Iterator[Part]:
    marker = said(block.cache_control)
    match block.type:
        case "text":
            if block.text:
                yield Text(block.text, marker)
        case "thinking":
            yield from_signature(block.thinking, block.signature)
        case "redacted_thinking":
            yield Thinking("", block.data, ANTHROPIC, whole=False)
        case "tool_use":
            yield ToolUse(block.id, block.name, arguments_of(bytes(block.input).decode()), marker=marker)
        case "tool_result":
            inner = _inner(block.content, place, lost)
            kept = tuple([part for part in inner if isinstance(part, Text | Media)])
            yield ToolResult(block.tool_use_id, kept, bool(block.is_error), marker=marker)
        case "image" | "document":
            yield from _source(block, place, lost)
        case "search_result":
            yield from _inner(block.content, place, lost)


def _inner(content: msgspec.Raw | None, place: str, lost: list[str]) -> Iterable[Part]:
    if is_null(content):
        return ()
    try:
        inner = _CONTENT.decode(content or b"null")
    except msgspec.ValidationError as error:
        raise misread(error, f"{place}.content") from error
    return tuple(_parts(inner, f"{place}.content", lost))


def _source(block: _Block, place: str, lost: list[str]) -> Iterator[Part]:
    source = open_members(block.source) or {}
    kind, marker, name = _KINDS[block.type], said(block.cache_control), block.title or ""
    match text_of(source.get("type")):
        case "base64":
            media_type = text_of(source.get("media_type"))
            yield Media(kind, media_type, text_of(source.get("data")), name=name, marker=marker)
        case "url":
            yield Media(kind, url=text_of(source.get("url")), name=name, marker=marker)
        case "file":
            yield Media(kind, file_id=text_of(source.get("file_id")), name=name, marker=marker)
        case "text":
            yield Text(text_of(source.get("data")), marker)
        case "content":
            yield from _inner(source.get("content"), place, lost)
        case _:
            raise BadRequest(
                f"{place}.source.type must be base64, url, file, text or content.", param=f"{place}.source"
            )


def _tools(given: _Body) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The caller's own tools, and the types of those that run at the provider."""
    own: list[Tool] = []
    hosted: list[str] = []
    for at, tool in enumerate(given.tools or ()):
        if tool.type in (None, "custom"):
            if not tool.name:
                raise BadRequest(f"tools[{at}].name is missing.", param=f"tools[{at}].name")
            schema, marker = said(tool.input_schema), said(tool.cache_control)
            strict = tool.strict and fits_strict(schema)  # OpenAI demands more of a strict schema than Anthropic
            own.append(Tool(tool.name, tool.description or "", schema, strict or None, marker=marker))
        else:
            hosted.append(f"tools.{(tool.type or '')[:40]}")
    return tuple(own), tuple(hosted)


def _choice(given: _Choice | None) -> ToolChoice | None:
    match given:
        case None:
            return None
        case _Choice(type="any"):
            return ToolChoice("required")
        case _Choice(type="tool", name=name):
            return ToolChoice("named", name)
        case _Choice(type="none"):
            return ToolChoice("none")
        case _Choice(type="auto"):
            return ToolChoice("auto")
    raise BadRequest("tool_choice.type must be auto, any, tool or none.", param="tool_choice")


def _format(asked: _OutputFormat | None) -> Format | None:
    """`output_format` is the beta's name of what is `output_config.format` now."""
    if asked is None or is_null(asked.schema):
        return None
    return Format(asked.schema, "answer", strict=fits_strict(asked.schema))


class _Reply(msgspec.Struct):
    content: list[msgspec.Raw]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


_REPLY = msgspec.json.Decoder(_Reply)


def read_reply(body: bytes, usage: Usage | None) -> Reply:
    """A whole reply that was accepted as one before, with its usage."""
    given = _REPLY.decode(body)
    parts = tuple([_spoken(part) for part in _parts(given.content, "content", [])])
    finish = FINISHES.get(given.stop_reason or "", Finish.STOP)
    if finish is Finish.TOOLS and not any(isinstance(part, ToolUse) for part in parts):
        finish = Finish.STOP
    return Reply(given.id, given.model, parts, finish, usage, given.stop_sequence or "")


def _spoken(part: Part) -> Part:
    """An answer that a model without schemas for its text gave as a tool's arguments is text."""
    if isinstance(part, ToolUse) and part.name == JSON_TOOL:
        return Text(part.arguments or "{}")
    return part
