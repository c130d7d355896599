"""A neutral request and reply in the form of the Responses API.

Nothing is kept at the provider (`store` false): what a reasoning model thought comes back sealed, and is sent again
with the next turn. Sources: OpenAI's API reference and migration guide from chat completions, as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

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
from gateway.core.usage import Meter, Usage
from gateway.dialects.openai_chat.from_neutral import effort_of, say_sampling
from gateway.dialects.openai_responses.errors import untold_response
from gateway.dialects.translate.schemas import arguments_schema
from gateway.dialects.translate.seals import RESPONSES, pack
from gateway.dialects.translate.writing import (
    Names,
    OwnNames,
    fitting_id,
    leading_system,
    named_file,
    refuse_choices,
    refuse_essential,
    refuse_media,
    refuse_silence,
    result_text,
    short_user,
    texts_of,
)

DIALECT = "OpenAI's Responses API"
TOOL_NAME_CHARS = 64
_THINKERS = re.compile(r"(?:^|[/:_-])(?:o[1-9]|gpt-(?:[5-9]|\d\d)|gpt-oss|codex|grok-[3-9]|simulated)", re.IGNORECASE)
"""Models that reason here; others answer a wish for it with an error."""
_USUAL_TIERS = frozenset({"", "auto", "default"})
_ENCODER = msgspec.json.Encoder()

UNSAID = {
    "stop": "always",
    "top_k": "always",
    "effort": "by models that do not reason",
    "temperature": "by OpenAI's reasoning models, unless told not to reason",
    "top_p": "as temperature",
}
"""Neutral members that are left out, and when."""
TOKENS_MIN = 16
"""The API refuses a lower limit on the answer: a call that asks for less is sent with this."""
_ANSWERS = frozenset({"message", "function_call", "custom_tool_call"})

Json = dict[str, object]


def write_ask(ask: Ask, model: str, names: Names) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the neutral names of what was left out of it. Raises BadRequest."""
    refuse_essential(ask, DIALECT)
    refuse_choices(ask, DIALECT)
    dropped = list(ask.lost)
    leading = leading_system(ask.turns)
    instructions = "\n\n".join([text for turn in ask.turns[:leading] if (text := texts_of(turn.parts))])
    items = _led([item for turn in ask.turns[leading:] for item in _items(turn, names)])
    refuse_silence(items, DIALECT)
    body: Json = {"model": model, "input": items, "store": False}
    if instructions:
        body["instructions"] = instructions
    if ask.max_output_tokens is not None:
        body["max_output_tokens"] = max(TOKENS_MIN, ask.max_output_tokens)
    say_sampling(ask, model, effort_of(ask), body, dropped)
    if ask.tools:
        body["tools"] = [_tool(tool, names) for tool in ask.tools]
        if ask.tool_choice is not None:
            body["tool_choice"] = _choice(ask.tool_choice, ask.tools, names)
        if ask.parallel_tools is not None:
            body["parallel_tool_calls"] = ask.parallel_tools
    _say_text(ask, body)
    _reason(ask, model, body, dropped)
    if ask.user:
        body["safety_identifier"] = short_user(ask.user)
    if ask.cache_key:
        body["prompt_cache_key"] = ask.cache_key
    if ask.service_tier not in _USUAL_TIERS:
        body["service_tier"] = ask.service_tier
    if ask.stream:
        body["stream"] = True
    if ask.stop:
        dropped.append("stop")
    return _ENCODER.encode(body), tuple(dict.fromkeys(dropped))


def _say_text(ask: Ask, body: Json) -> None:
    text: Json = {}
    if ask.format is not None:
        text["format"] = _format(ask.format)
    if ask.verbosity:
        text["verbosity"] = ask.verbosity
    if text:
        body["text"] = text


def _reason(ask: Ask, model: str, body: Json, dropped: list[str]) -> None:
    """Reasoning comes back sealed from every model that reasons, and in words where thinking was asked for."""
    effort = effort_of(ask)
    if not _THINKERS.search(model):
        if effort not in ("", "none"):
            dropped.append("effort")
        return
    body["include"] = ["reasoning.encrypted_content"]
    if effort:
        body["reasoning"] = {"effort": effort} | ({"summary": "auto"} if effort != "none" else {})


def _led(items: Sequence[Json]) -> list[Json]:
    """The items without reasoning that led to nothing: the API refuses it without the item that came of it."""
    kept: list[Json] = []
    followed = False
    for item in reversed(items):
        if item["type"] != "reasoning":
            followed = item["type"] in _ANSWERS and item.get("role", "assistant") == "assistant"
        if followed or item["type"] != "reasoning":
            kept.append(item)
    return kept[::-1]


def _items(turn: Turn, names: Names) -> Iterator[Json]:
    """A turn's parts in their order: each tool call, result and thought is an item, texts between them a message."""
    said: list[Json] = []
    for part in turn.parts:
        content = _content(part, turn.role)
        if content is not None:
            said.append(content)
            continue
        item = _item(part, names)
        if item is None:
            continue
        if said:
            yield _message(turn, said)
            said = []
        yield item
        if isinstance(part, ToolResult):
            said.extend(
                [shown for inner in part.parts if isinstance(inner, Media) and (shown := _content(inner, "user"))]
            )
    if said:
        yield _message(turn, said)


def _message(turn: Turn, content: list[Json]) -> Json:
    role = "developer" if turn.role == "system" else turn.role
    return {"type": "message", "role": role, "content": content}


def _content(part: Part, role: str) -> Json | None:
    match part:
        case Text(text=text) if text:
            return {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        case Refusal(text=text):
            return {"type": "refusal", "refusal": text}
        case Media(kind="image"):
            image: Json = {"type": "input_image", "detail": part.detail or "auto"}
            if part.file_id:
                return image | {"file_id": part.file_id}
            return image | {"image_url": part.url or f"data:{part.media_type};base64,{part.data}"}
        case Media(kind="file"):
            file: Json = {"type": "input_file"}
            if part.file_id:
                return file | {"file_id": part.file_id}
            if part.url:
                return file | {"file_url": part.url}
            data = f"data:{part.media_type};base64,{part.data}"
            return file | {"filename": named_file(part), "file_data": data}
        case Media():
            raise refuse_media(part, DIALECT)
    return None


def _item(part: Part, names: Names) -> Json | None:
    match part:
        case Thinking() if part.seal and part.sealed_by == RESPONSES:
            item_id, _, sealed = part.seal.rpartition(":")
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return {"type": "reasoning", "id": item_id, "summary": summary, "encrypted_content": sealed}
        case ToolUse(custom=True):
            call = {"call_id": fitting_id(part.id), "name": names.sent(part.name), "input": part.arguments}
            return {"type": "custom_tool_call", **call}
        case ToolUse():
            arguments = part.arguments or "{}"
            call = {"call_id": fitting_id(part.id), "name": names.sent(part.name), "arguments": arguments}
            return {"type": "function_call", **call}
        case ToolResult():
            kind = "custom_tool_call_output" if part.custom else "function_call_output"
            return {"type": kind, "call_id": fitting_id(part.tool_use_id), "output": result_text(part)}
    return None


def _tool(tool: Tool, names: Names) -> Json:
    """Functions are strict here unless it is said that they are not: chat and Messages have it the other way round."""
    made: Json = {"type": "custom" if tool.custom else "function", "name": names.sent(tool.name)}
    if tool.description:
        made["description"] = tool.description
    if not tool.custom:
        made |= {"parameters": arguments_schema(tool), "strict": bool(tool.strict)}
    elif tool.schema is not None:
        made["format"] = tool.schema
    return made


def _choice(choice: ToolChoice, tools: Sequence[Tool], names: Names) -> object:
    if choice.mode != "named":
        return choice.mode
    custom = any(tool.custom and tool.name == choice.name for tool in tools)
    return {"type": "custom" if custom else "function", "name": names.sent(choice.name)}


def _format(form: Format) -> Json:
    if form.schema is None:
        return {"type": "json_object"}
    made: Json = {"type": "json_schema", "name": form.name or "answer", "schema": form.schema}
    if form.description:
        made["description"] = form.description
    return made | {"strict": bool(form.strict)}


# ---------------------------------------------------------------- the reply

Response = dict[str, object]


def write_reply(reply: Reply, ask: Ask, created_s: int) -> bytes:
    """A whole reply as a response object."""
    response = response_of(reply.id, reply.model, ask, created_s)
    response["output"] = [item_of(part, f"{response['id']}_{at}") for at, part in enumerate(reply.parts)]
    conclude(response, reply.finish, reply.usage, any(isinstance(part, Refusal) for part in reply.parts))
    return _ENCODER.encode(response)


def response_of(upstream_id: str, model: str, ask: Ask, created_s: int) -> Response:
    """A response that has just begun, with every member that the schema requires."""
    response: Response = dict(untold_response())
    response |= {
        "id": upstream_id if upstream_id.startswith("resp_") else f"resp_{upstream_id}",
        "created_at": created_s,
        "status": "in_progress",
        "model": model,
        "parallel_tool_calls": ask.parallel_tools is not False,
        "max_output_tokens": ask.max_output_tokens,
        "tools": [_tool(tool, OwnNames()) for tool in ask.tools],
        "tool_choice": _choice(ask.tool_choice, ask.tools, OwnNames()) if ask.tool_choice else "auto",
        "reasoning": {"effort": ask.effort or None, "summary": None},
        "safety_identifier": ask.user or None,
        "prompt_cache_key": ask.cache_key or None,
    }
    if ask.turns and ask.turns[0].role == "system":
        response["instructions"] = texts_of(ask.turns[0].parts)
    for name in ("temperature", "top_p"):
        text = getattr(ask, name)
        if text:
            response[name] = msgspec.Raw(text.encode())
    if ask.format is not None:
        response["text"] = {"format": _format(ask.format)}
    return response


def conclude(response: Response, finish: Finish, usage: Usage | None, refused: bool) -> None:
    """Gives a response its end; `refused`: its output holds a refusal in words."""
    reason = {
        Finish.LENGTH: "max_output_tokens",
        Finish.CONTEXT: "max_output_tokens",
        Finish.FILTERED: "content_filter",
    }
    if finish is Finish.REFUSED and not refused:  # no words of a refusal tell it
        finish = Finish.FILTERED
    response["status"] = "incomplete" if finish in reason else "completed"
    response["incomplete_details"] = {"reason": reason[finish]} if finish in reason else None
    response["completed_at"] = response["created_at"]
    response["usage"] = None if usage is None else usage_members(usage)


def item_of(part: Part, item_id: str, status: str = "completed") -> Json:
    """An item of output."""
    match part:
        case Thinking():
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            made: Json = {"id": f"rs_{item_id}", "type": "reasoning", "summary": summary}
            sealed = pack(part)
            return made | ({"encrypted_content": sealed} if sealed else {}) | {"status": status}
        case ToolUse():
            kind, member = ("custom_tool_call", "input") if part.custom else ("function_call", "arguments")
            call: Json = {"id": f"fc_{item_id}", "type": kind, "status": status, "call_id": fitting_id(part.id)}
            written = part.arguments if part.custom or status != "completed" else part.arguments or "{}"
            if part.namespace:
                call |= {"namespace": part.namespace}
            return call | {"name": part.name.removeprefix(f"{part.namespace}."), member: written}
        case Refusal(text=text):
            content: list[Json] = [{"type": "refusal", "refusal": text}]
        case Text(text=text):
            content = [text_part(text)]
        case _:
            content = []
    return {"id": f"msg_{item_id}", "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage_members(usage: Usage) -> Json:
    """OpenAI's usage, with both details: clients read them without asking whether they are there."""
    meters = usage.meters
    written = sum(meters.get(meter, 0) for meter in (Meter.CACHE_WRITE, Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H))
    asked, answered = usage.input_tokens(), usage.output_tokens()
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": meters.get(Meter.CACHE_READ, 0), "cache_write_tokens": written},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": asked + answered,
    }
