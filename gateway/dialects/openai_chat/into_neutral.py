"""A chat completion's request and reply in neutral form, for providers that speak another dialect.

Only members that mean something are looked at: null, false, 0 and empty ones say what leaving them out says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.neutral import (
    Ask,
    Finish,
    Format,
    Media,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from gateway.core.usage import Usage
from gateway.dialects.json_body import NULL, Members, is_null, open_members, open_object, said, text_of
from gateway.dialects.openai_chat.reply import open_reply
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX
from gateway.dialects.translate.reading import misread, number
from gateway.dialects.translate.seals import open_blocks
from gateway.dialects.translate.writing import lost_parts

SAID_ELSEWHERE = frozenset({
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p",
    "stop", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls", "response_format",
    "reasoning_effort", "verbosity", "user", "safety_identifier", "prompt_cache_key", "service_tier",
})  # fmt: skip
ESSENTIAL = frozenset({"audio", "web_search_options"})
"""Without these the answer would be another one than asked for. Of the rest an answer says the same, or nearly."""
_NOTHING = frozenset({b"null", b"false", b"0", b"0.0", b"{}", b"[]", b'""'})
_PDF = "JVBER"
"""How base64 of a PDF begins."""
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*);base64,", re.ASCII)
_SYSTEM = frozenset({"system", "developer"})
FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.TOOLS,
    "function_call": Finish.TOOLS,
    "content_filter": Finish.FILTERED,
}


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: str | None = ""
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None


class _Custom(msgspec.Struct, gc=False):
    name: str = ""
    input: str = ""
    description: str | None = None
    format: msgspec.Raw = NULL


class _Call(msgspec.Struct):
    id: str | None = None
    type: str = "function"
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[msgspec.Raw] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[msgspec.Raw] | None = None
    audio: msgspec.Raw = NULL


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None
    custom: _Custom | None = None
    cache_control: msgspec.Raw = NULL


class _Schema(msgspec.Struct):
    name: str = ""
    description: str | None = None
    schema: msgspec.Raw = NULL
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    json_schema: _Schema | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: msgspec.Raw = NULL
    top_p: msgspec.Raw = NULL
    stop: str | list[str] | None = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    tool_choice: str | _Tool | None = None
    function_call: str | _Function | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


_BODY = msgspec.json.Decoder(_Body)
_MESSAGE = msgspec.json.Decoder(_Message)


def read_ask(body: bytes) -> Ask:
    """Raises BadRequest naming the member that is at fault."""
    members = open_object(body)
    try:
        given = _BODY.decode(body)
    except msgspec.ValidationError as error:
        raise misread(error) from error
    limits = [limit for limit in (given.max_completion_tokens, given.max_tokens) if limit]
    lost = list(lost_members(members, SAID_ELSEWHERE))
    tools, hosted = _tools(given)
    turns = tuple(_turns(given.messages, lost))
    essential = [name for name in lost if name in ESSENTIAL or (name == "modalities" and _speaks(members))]
    return Ask(
        model=given.model,
        turns=turns,
        stream=bool(given.stream),
        max_output_tokens=limits[0] if limits else None,
        choices=given.n or 1,
        temperature=number(given.temperature, "temperature"),
        top_p=number(given.top_p, "top_p"),
        stop=(given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ()),
        tools=tools,
        tool_choice=_choice(given),
        parallel_tools=given.parallel_tool_calls,
        format=_format(given.response_format),
        effort=given.reasoning_effort or "",
        verbosity=given.verbosity or "",
        user=(given.safety_identifier or given.user or "")[:NAME_CHARS_MAX],
        cache_key=given.prompt_cache_key or "",
        service_tier=given.service_tier or "",
        lost=tuple(lost) + hosted,
        essential=(*essential, *lost_parts(lost), *hosted),
    )


def lost_members(members: Members, said_elsewhere: frozenset[str]) -> Iterator[str]:
    """The members that mean something and have no neutral form."""
    for name, raw in members.items():
        if name not in said_elsewhere and bytes(raw) not in _NOTHING:
            yield name[:64]


def arguments_of(text: str | None) -> str:
    """A tool's arguments; an empty object is none."""
    return "" if text is None or text == "{}" else text


def _speaks(members: Members) -> bool:
    return b'"audio"' in bytes(members.get("modalities", b""))


def _turns(messages: Sequence[_Message], lost: list[str]) -> Iterator[Turn]:
    """Results of tools that follow each other are one user turn, together with what the user says next."""
    results: list[Part] = []
    for at, message in enumerate(messages):
        if message.role in ("tool", "function"):
            content = tuple(_content(message.content, f"messages[{at}].content", lost))
            parts = tuple([part for part in content if isinstance(part, Text | Media)])
            results.append(ToolResult(message.tool_call_id or message.name or "", parts))
            continue
        own = list(_parts(message, f"messages[{at}]", lost))
        if results and message.role == "user":
            own = [*results, *own]
            results = []
        elif results:
            yield Turn("user", tuple(results))
            results = []
        if message.role in _SYSTEM:
            yield Turn("system", tuple(own), message.name or "")
        elif message.role in ("user", "assistant"):
            yield Turn("assistant" if message.role == "assistant" else "user", tuple(own), message.name or "")
        else:
            raise BadRequest(
                f"messages[{at}].role is {message.role[:40]!r}: it must be system, developer, user, assistant or tool.",
                param=f"messages[{at}].role",
            )
    if results:
        yield Turn("user", tuple(results))


def _parts(message: _Message, place: str, lost: list[str], made_id: str = "") -> Iterator[Part]:
    """`made_id` begins the ids of calls that have none."""
    blocks = open_blocks(message.thinking_blocks or ())
    yield from blocks
    if message.reasoning_content and not blocks:
        yield Thinking(message.reasoning_content)
    yield from _content(message.content, f"{place}.content", lost)
    if message.refusal:
        yield Refusal(message.refusal)
    for nth, call in enumerate(message.tool_calls or ()):
        ident = call.id or (f"{made_id}_{nth}" if made_id else "")
        if call.custom is not None:
            yield ToolUse(ident, call.custom.name, call.custom.input, custom=True)
        elif call.function is not None:
            yield ToolUse(ident, call.function.name, arguments_of(call.function.arguments))
    if message.function_call is not None:
        named = message.function_call
        yield ToolUse(named.name, named.name, arguments_of(named.arguments))
    if not is_null(message.audio):
        lost.append("messages.audio")


def _content(content: str | list[msgspec.Raw] | None, place: str, lost: list[str]) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    for at, raw in enumerate(content or ()):
        part = open_members(raw)
        if part is None:
            raise BadRequest(f"{place}[{at}] must be an object.", param=f"{place}[{at}]")
        read = _part(part, f"{place}[{at}]")
        if read is None:
            lost.append(f"messages.content.{text_of(part.get('type'))[:40]}")
        else:
            yield read


def _part(part: Members, place: str) -> Part | None:
    marker = said(part.get("cache_control", NULL))
    match text_of(part.get("type")):
        case "text":
            return Text(text_of(part.get("text")), marker)
        case "refusal":
            return Refusal(text_of(part.get("refusal")))
        case "image_url":
            given = part.get("image_url", NULL)
            image = open_members(given) or {"url": given}
            return from_url("image", text_of(image.get("url")), place, text_of(image.get("detail")), marker)
        case "input_audio":
            audio = open_members(part.get("input_audio", msgspec.Raw(b"{}"))) or {}
            kind = text_of(audio.get("format")) or "wav"
            return Media("audio", f"audio/{kind}", data=text_of(audio.get("data")), marker=marker)
        case "file":
            return _file(open_members(part.get("file", msgspec.Raw(b"{}"))) or {}, place, marker)
    return None


def _file(file: Members, place: str, marker: msgspec.Raw | None) -> Media:
    name, file_id = text_of(file.get("filename")), text_of(file.get("file_id"))
    if file_id:
        return Media("file", file_id=file_id, name=name, marker=marker)
    data = text_of(file.get("file_data"))
    media = from_url("file", data, place, "", marker)
    return msgspec.structs.replace(media, name=name)


def from_url(
    kind: Literal["image", "file"], url: str, place: str, detail: str = "", marker: msgspec.Raw | None = None
) -> Media:
    """An image or a file by its URL; the media type is the data URL's own, never guessed. A PDF may be base64 alone, as
    OpenAI takes it."""
    if url.startswith(("https://", "http://")):
        return Media(kind, url=url, detail=detail, marker=marker)
    if kind == "file" and url.startswith(_PDF):
        return Media(kind, "application/pdf", url, marker=marker)
    head = _DATA_URL.match(url)
    if head is None or not head.group(1):
        raise BadRequest(
            f"{place} must hold an http(s) URL, or a data URL that begins like data:image/png;base64, with its media "
            "type.",
            param=place,
        )
    return Media(kind, head.group(1).lower(), url[head.end() :], detail=detail, marker=marker)


def _tools(given: _Body) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The caller's own tools, and the kinds of those that run at the provider."""
    own: list[Tool] = []
    hosted: list[str] = []
    for tool in given.tools or ():
        if tool.type == "function" and tool.function is not None:
            own.append(_function(tool.function, tool.cache_control))
        elif tool.type == "custom" and tool.custom is not None:
            custom = tool.custom
            own.append(Tool(custom.name, custom.description or "", said(custom.format), custom=True))
        else:
            hosted.append(f"tools.{tool.type[:40]}")
    own.extend(_function(function, NULL) for function in given.functions or ())
    return tuple(own), tuple(hosted)


def _function(function: _Function, marker: msgspec.Raw) -> Tool:
    return Tool(
        function.name, function.description or "", said(function.parameters), function.strict, marker=said(marker)
    )


def _choice(given: _Body) -> ToolChoice | None:
    asked = given.tool_choice if given.tool_choice is not None else given.function_call
    match asked:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(asked)
        case _Tool(function=_Function(name=name)) | _Tool(custom=_Custom(name=name)) | _Function(name=name) if name:
            return ToolChoice("named", name)
    raise BadRequest(
        "tool_choice must be none, auto, required or an object that names a tool for this model.", param="tool_choice"
    )


def _format(given: _Format | None) -> Format | None:
    match given:
        case None | _Format(type="text"):
            return None
        case _Format(type="json_object"):
            return Format()
        case _Format(type="json_schema", json_schema=_Schema() as form) if not is_null(form.schema):
            return Format(form.schema, form.name, form.description or "", form.strict)
    raise BadRequest(
        "response_format must be text, json_object, or json_schema with json_schema.schema.", param="response_format"
    )


def read_reply(body: bytes, usage: Usage | None) -> Reply:
    """The first choice of a whole chat completion, with the usage that was read of it already."""
    members, choices = open_reply(body, "choices")
    choice = choices[0] if choices else {}
    message = _MESSAGE.decode(choice.get("message", msgspec.Raw(b'{"role":"assistant"}')))
    reason = text_of(choice.get("finish_reason"))
    reply_id = text_of(members.get("id"))
    parts = tuple(_parts(message, "message", [], made_id=f"call_{reply_id}"))
    finish = FINISHES.get(reason, Finish.STOP)
    if finish is Finish.STOP and any(isinstance(part, ToolUse) for part in parts):
        finish = Finish.TOOLS  # OpenAI says stop where it was told which tool to call
    if finish is Finish.STOP and any(isinstance(part, Refusal) for part in parts):
        finish = Finish.REFUSED
    return Reply(reply_id, text_of(members.get("model")), parts, finish, usage)
