"""A Responses request and reply in neutral form, for providers that speak another dialect."""

from __future__ import annotations

from collections.abc import Iterator

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
from gateway.dialects.json_body import NULL, Members, is_null, open_members, open_object, said, text_of
from gateway.dialects.openai_chat.into_neutral import arguments_of, from_url, lost_members
from gateway.dialects.openai_chat.request import NAME_CHARS_MAX
from gateway.dialects.translate.reading import misread, number
from gateway.dialects.translate.seals import RESPONSES, unpack
from gateway.dialects.translate.writing import lost_parts

SAID_ELSEWHERE = frozenset({
    "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "temperature", "top_p", "tools",
    "tool_choice", "parallel_tool_calls", "text", "reasoning", "include", "user", "safety_identifier",
    "prompt_cache_key", "service_tier", "store", "truncation", "context_management", "max_tool_calls",
})  # fmt: skip
"""`max_tool_calls` counts tools at the provider, of which there are none; `store` asks that the provider keeps the
answer, `truncation` and `context_management` what it may do when there is no room: no answer changes by them."""
ESSENTIAL = frozenset({"previous_response_id", "conversation", "background", "prompt"})
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_HARMLESS = frozenset({"compaction", "reasoning"})
_STATE = frozenset({"input.item_reference"})
"""What stands for something that the provider keeps."""
_KNOWN = frozenset({
    "message", "function_call", "custom_tool_call", "function_call_output", "custom_tool_call_output", "reasoning",
})  # fmt: skip

Content = str | list[msgspec.Raw]


class _Tool(msgspec.Struct):
    type: str = ""
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None
    format: msgspec.Raw = NULL
    tools: list[_Tool] | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    name: str = ""
    description: str | None = None
    schema: msgspec.Raw = NULL
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Body(msgspec.Struct):
    model: str
    input: Content | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: msgspec.Raw = NULL
    top_p: msgspec.Raw = NULL
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


class _Item(msgspec.Struct):
    """An item of input or output; of each type only its own members are there, or null: SDKs send answers back so."""

    role: str | None = None
    content: Content | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: Content | None = None
    summary: list[msgspec.Raw] | None = None
    encrypted_content: str | None = None


_BODY = msgspec.json.Decoder(_Body)
_ITEM = msgspec.json.Decoder(_Item)


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
    text = given.text or _Text()
    return Ask(
        model=given.model,
        turns=turns,
        stream=bool(given.stream),
        max_output_tokens=given.max_output_tokens or None,
        temperature=number(given.temperature, "temperature"),
        top_p=number(given.top_p, "top_p"),
        tools=tools,
        tool_choice=_choice(given.tool_choice),
        parallel_tools=given.parallel_tool_calls,
        format=_format(text.format),
        effort=(given.reasoning.effort if given.reasoning is not None else None) or "",
        verbosity=text.verbosity or "",
        user=(given.safety_identifier or given.user or "")[:NAME_CHARS_MAX],
        cache_key=given.prompt_cache_key or "",
        service_tier=given.service_tier or "",
        lost=(*lost, *hosted),
        essential=(*[name for name in lost if name in ESSENTIAL or name in _STATE], *lost_parts(lost), *hosted),
    )


def _turns(given: _Body, lost: list[str]) -> Iterator[Turn]:
    """Items of the same side that follow each other are one turn: thinking, text and tool calls; or results."""
    if given.instructions:
        yield Turn("system", (Text(given.instructions),))
    if isinstance(given.input, str):
        yield Turn("user", (Text(given.input),))
        return
    role: Role = "user"
    gathered: list[Part] = []
    for at, raw in enumerate(given.input or ()):
        theirs, parts = _read_item(raw, f"input[{at}]", lost)
        if gathered and (theirs != role or theirs == "system"):
            yield Turn(role, tuple(gathered))
            gathered = []
        role = theirs
        gathered.extend(parts)
    if gathered:
        yield Turn(role, tuple(gathered))


def _read_item(raw: msgspec.Raw, place: str, lost: list[str]) -> tuple[Role, tuple[Part, ...]]:
    """An item's side and parts. One of a kind that is not known here is opened no further: its members may be any."""
    members = open_members(raw)
    if members is None:
        raise BadRequest(f"{place} must be an object.", param=place)
    kind = text_of(members.get("type")) or "message"
    if kind not in _KNOWN:
        if kind not in _HARMLESS:
            lost.append(f"input.{kind[:40]}")
        return ("user" if kind.endswith("_output") else "assistant"), ()
    try:
        item = _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        raise misread(error, place) from error
    if kind == "message":
        said_role = item.role or ""
        role = _ROLES.get(said_role)
        if role is None:
            raise BadRequest(
                f"{place}.role is {said_role[:40]!r}: it must be user, assistant, system or developer.",
                param=f"{place}.role",
            )
        return role, tuple(_content(item.content, f"{place}.content", lost))
    return ("user" if kind.endswith("_output") else "assistant"), tuple(_item_parts(kind, item, place, lost))


def _item_parts(kind: str, item: _Item, place: str, lost: list[str]) -> Iterator[Part]:
    ident, space = item.call_id or item.id or "", item.namespace or ""
    name = within(space, item.name or "")
    match kind:
        case "function_call":
            yield ToolUse(ident, name, arguments_of(item.arguments), namespace=space)
        case "custom_tool_call":
            yield ToolUse(ident, name, item.input or "", custom=True, namespace=space)
        case "function_call_output" | "custom_tool_call_output":
            parts = tuple(_content(item.output, f"{place}.output", lost))
            kept = tuple([part for part in parts if isinstance(part, Text | Media)])
            yield ToolResult(item.call_id or "", kept, custom=kind.startswith("custom"))
        case "reasoning":
            yield from _reasoning(item)


def _reasoning(item: _Item) -> Iterator[Thinking]:
    seal = item.encrypted_content or ""
    packed = unpack(seal)
    if packed is not None:
        yield packed
        return
    text = "\n\n".join([text_of((open_members(raw) or {}).get("text")) for raw in item.summary or ()])
    if text or seal:
        yield Thinking(text, f"{item.id or ''}:{seal}" if seal else "", RESPONSES if seal else "")


def _content(content: Content | None, place: str, lost: list[str]) -> Iterator[Part]:
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
            lost.append(f"input.content.{text_of(part.get('type'))[:40]}")
        else:
            yield read


def _part(part: Members, place: str) -> Part | None:
    file_id = text_of(part.get("file_id"))
    match text_of(part.get("type")):
        case "input_text" | "output_text" | "text":
            return Text(text_of(part.get("text")))
        case "refusal":
            return Refusal(text_of(part.get("refusal")))
        case "input_image" if file_id:
            return Media("image", file_id=file_id)
        case "input_image":
            return from_url("image", text_of(part.get("image_url")), place, text_of(part.get("detail")))
        case "input_file":
            name = text_of(part.get("filename"))
            if file_id:
                return Media("file", file_id=file_id, name=name)
            url = text_of(part.get("file_url")) or text_of(part.get("file_data"))
            return msgspec.structs.replace(from_url("file", url, place), name=name)
        case "input_audio":
            audio = open_members(part.get("input_audio", msgspec.Raw(b"{}"))) or {}
            return Media("audio", f"audio/{text_of(audio.get('format')) or 'wav'}", data=text_of(audio.get("data")))
    return None


def _tools(given: _Body) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The caller's own tools, and the kinds of those that run at the provider or are known to it alone."""
    own: list[Tool] = []
    hosted: list[str] = []
    for tool in given.tools or ():
        if tool.type == "namespace":
            own.extend([made for inner in tool.tools or () if (made := _tool(inner, tool.name))])
            continue
        made = _tool(tool, "")
        if made is None:
            hosted.append(f"tools.{tool.type[:40]}")
        else:
            own.append(made)
    return tuple(own), tuple(hosted)


def _tool(tool: _Tool, namespace: str) -> Tool | None:
    """A tool of the caller's own; None for another kind."""
    name, description = within(namespace, tool.name), tool.description or ""
    if tool.type == "function":
        return Tool(name, description, said(tool.parameters), tool.strict, namespace=namespace)
    if tool.type == "custom":
        return Tool(name, description, said(tool.format), custom=True, namespace=namespace)
    return None


def within(namespace: str, name: str) -> str:
    """The name of a tool among all tools of a request."""
    return f"{namespace}.{name}" if namespace else name


def _choice(asked: str | _Tool | None) -> ToolChoice | None:
    match asked:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(asked)
        case _Tool(type="function" | "custom", name=name) if name:
            return ToolChoice("named", name)
    raise BadRequest(
        "tool_choice must be none, auto, required or an object that names a function for this model.",
        param="tool_choice",
    )


def _format(given: _Format | None) -> Format | None:
    match given:
        case None | _Format(type="text"):
            return None
        case _Format(type="json_object"):
            return Format()
        case _Format(type="json_schema") if not is_null(given.schema):
            return Format(given.schema, given.name, given.description or "", given.strict)
    raise BadRequest("text.format must be text, json_object, or json_schema with a schema.", param="text")


# ---------------------------------------------------------------- the reply


class _Details(msgspec.Struct):
    reason: str = ""


class _Response(msgspec.Struct):
    output: list[msgspec.Raw]
    id: str = ""
    model: str = ""
    status: str = "completed"
    incomplete_details: _Details | None = None


_RESPONSE = msgspec.json.Decoder(_Response)


def read_reply(body: bytes, usage: Usage | None) -> Reply:
    """A whole response that was accepted as one before, with its usage."""
    given = _RESPONSE.decode(body)
    parts: list[Part] = []
    for at, raw in enumerate(given.output):
        parts.extend([_unplaced(part) for part in _read_item(raw, f"output[{at}]", [])[1]])
    reason = given.incomplete_details.reason if given.incomplete_details is not None else ""
    return Reply(given.id, given.model, tuple(parts), finish_of(given.status, reason, parts), usage)


def _unplaced(part: Part) -> Part:
    """A tool's call under the name that was sent: namespaces were never sent."""
    if isinstance(part, ToolUse) and part.namespace:
        return msgspec.structs.replace(part, name=part.name.removeprefix(f"{part.namespace}."), namespace="")
    return part


def finish_of(status: str, reason: str, parts: list[Part]) -> Finish:
    """Why a response ended: said for incomplete ones, seen of what it holds for the others."""
    if status == "incomplete":
        return Finish.FILTERED if reason == "content_filter" else Finish.LENGTH
    if any(isinstance(part, ToolUse) for part in parts):
        return Finish.TOOLS
    return Finish.REFUSED if any(isinstance(part, Refusal) for part in parts) else Finish.STOP
