"""A neutral request and reply as a chat completion.

Written for OpenAI's own API; what another vendor's differs in, its quirks change afterwards, as for any chat body.
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
from gateway.dialects.translate.schemas import arguments_schema
from gateway.dialects.translate.seals import block_of
from gateway.dialects.translate.writing import (
    Names,
    OwnNames,
    fitting_id,
    named_file,
    refuse_essential,
    refuse_media,
    refuse_silence,
    result_text,
    short_user,
)

DIALECT = "OpenAI's chat completions"
TOOL_NAME_CHARS = 64
_ENCODER = msgspec.json.Encoder()
_THINKERS = re.compile(
    r"(?:^|[/:_-])(?:o[1-9]|gpt-(?:[5-9]|\d\d)|gpt-oss|grok-[3-9]|deepseek-(?:r\d|reasoner|v[3-9])|qwen-?3|glm-|kimi-|"
    r"magistral|gemini-|claude-|simulated)",
    re.IGNORECASE,
)
"""Models that know `reasoning_effort`; others answer it with an error."""
_UNSAMPLED = re.compile(r"(?:^|[/:])(?:o[1-9]|gpt-(?:[5-9]|\d\d)(?!.*chat))", re.IGNORECASE)
"""OpenAI's reasoning models: they refuse a temperature unless told not to reason, and stop sequences."""
_MARKED = re.compile(r"claude|gemini|qwen", re.IGNORECASE)
"""Models whose sellers know cache markers in chat completions; OpenAI answers them with an error, caching unasked."""
STOPS_MAX = 4
_EFFORTS_BY_TOKENS = ((2048, "low"), (12_000, "medium"))
_USUAL_TIERS = frozenset({"", "auto", "default"})

UNSAID = {
    "top_k": "always",
    "effort": "by models that do not reason",
    "temperature": "by OpenAI's reasoning models, unless told not to reason",
    "top_p": "as temperature",
    "stop": "by OpenAI's reasoning models; of more than four the rest",
}
"""Neutral members that are left out, and when."""

FINISHES = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.TOOLS: "tool_calls",
    Finish.PAUSED: "stop",
    Finish.FILTERED: "content_filter",
    Finish.REFUSED: "content_filter",
}

Json = dict[str, object]


def write_ask(ask: Ask, model: str, names: Names) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the neutral names of what was left out of it. Raises BadRequest."""
    refuse_essential(ask, DIALECT)
    dropped = list(ask.lost)
    marked = _MARKED.search(model) is not None
    messages = [message for turn in ask.turns for message in _messages(turn, names, marked)]
    refuse_silence(messages, DIALECT)
    body: Json = {"model": model, "messages": messages}
    if ask.max_output_tokens is not None:
        body["max_completion_tokens"] = ask.max_output_tokens
    if ask.choices > 1:
        body["n"] = ask.choices
    effort = effort_of(ask)
    say_sampling(ask, model, effort, body, dropped)
    if ask.stop and not _UNSAMPLED.search(model):
        body["stop"] = list(ask.stop[:STOPS_MAX])
    if ask.stop and len(ask.stop) != len(body.get("stop", ())):  # type: ignore[arg-type]
        dropped.append("stop")
    if ask.tools:
        body["tools"] = [_tool(tool, names) for tool in ask.tools]
        if ask.tool_choice is not None:
            body["tool_choice"] = _choice(ask.tool_choice, ask.tools, names)
        if ask.parallel_tools is not None:
            body["parallel_tool_calls"] = ask.parallel_tools
    if ask.format is not None:
        body["response_format"] = _format(ask.format)
    if effort and _THINKERS.search(model):
        body["reasoning_effort"] = effort
    elif effort not in ("", "none"):
        dropped.append("effort")
    for name, given in (
        ("verbosity", ask.verbosity),
        ("user", short_user(ask.user)),
        ("prompt_cache_key", ask.cache_key),
    ):
        if given:
            body[name] = given
    if ask.service_tier not in _USUAL_TIERS:
        body["service_tier"] = ask.service_tier
    if ask.stream:
        body["stream"] = True
    return _ENCODER.encode(body), tuple(dict.fromkeys(dropped))


def say_sampling(ask: Ask, model: str, effort: str, body: Json, dropped: list[str]) -> None:
    """Temperature and top_p where the model takes them."""
    sampled = effort == "none" or not _UNSAMPLED.search(model)
    for name in ("temperature", "top_p"):
        text = getattr(ask, name)
        if text and sampled:
            body[name] = msgspec.Raw(text.encode())
        elif text:
            dropped.append(name)
    if ask.top_k:
        dropped.append("top_k")


def effort_of(ask: Ask) -> str:
    """How much to think, in words; a number of tokens becomes the word that is nearest."""
    if ask.effort or ask.thinking_tokens is None:
        return ask.effort
    tokens = ask.thinking_tokens
    return next((effort for most, effort in _EFFORTS_BY_TOKENS if tokens <= most), "high")


def _messages(turn: Turn, names: Names, marked: bool) -> Iterator[Json]:
    """The results of tools are messages of their own, and come before what the user says with them."""
    match turn.role:
        case "system":
            yield _named({"role": "system", "content": _content(turn.parts, marked)}, turn.name)
        case "assistant":
            yield from _assistant(turn, names)
        case "user":
            results = [part for part in turn.parts if isinstance(part, ToolResult)]
            for result in results:
                yield {"role": "tool", "tool_call_id": fitting_id(result.tool_use_id), "content": result_text(result)}
            shown = [part for result in results for part in result.parts if isinstance(part, Media)]
            said = [*shown, *[part for part in turn.parts if not isinstance(part, ToolResult)]]
            if said:
                yield _named({"role": "user", "content": _content(said, marked)}, turn.name)


def _named(message: Json, name: str) -> Json:
    return message | {"name": name} if name else message


def _assistant(turn: Turn, names: Names) -> Iterator[Json]:
    """Other vendors' thinking is not sent: no chat provider can read it."""
    text = "".join([part.text for part in turn.parts if isinstance(part, Text)])
    refused = "".join([part.text for part in turn.parts if isinstance(part, Refusal)])
    calls = [_call(part, names) for part in turn.parts if isinstance(part, ToolUse)]
    if not (text or refused or calls):
        return
    message: Json = {"role": "assistant", "content": text or None}
    if refused:
        message["refusal"] = refused
    if calls:
        message["tool_calls"] = calls
    yield _named(message, turn.name)


def _call(use: ToolUse, names: Names) -> Json:
    if use.custom:
        custom = {"name": names.sent(use.name), "input": use.arguments}
        return {"id": fitting_id(use.id), "type": "custom", "custom": custom}
    function = {"name": names.sent(use.name), "arguments": use.arguments or "{}"}
    return {"id": fitting_id(use.id), "type": "function", "function": function}


def _content(parts: Sequence[Part], marked: bool) -> str | list[Json]:
    """One text where there is nothing else: every vendor reads that, not every one an array."""
    if all(isinstance(part, Text) and not (marked and part.marker) for part in parts):
        return "\n".join([part.text for part in parts if isinstance(part, Text)])
    return [
        made | {"cache_control": part.marker} if marked and isinstance(part, Text | Media) and part.marker else made
        for part in parts
        for made in _part(part)
    ]


def _part(part: Part) -> Iterator[Json]:
    match part:
        case Text(text=text) if text:
            yield {"type": "text", "text": text}
        case Media(kind="image") if not part.file_id:
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            image = {"url": url, "detail": part.detail} if part.detail else {"url": url}
            yield {"type": "image_url", "image_url": image}
        case Media(kind="audio") if part.data:
            kind = part.media_type.partition("/")[2]
            yield {"type": "input_audio", "input_audio": {"data": part.data, "format": kind}}
        case Media(kind="file") if not part.url:
            yield {"type": "file", "file": _file(part)}
        case Media():
            raise refuse_media(part, DIALECT)
        case Refusal(text=text):
            yield {"type": "text", "text": text}


def _file(media: Media) -> Json:
    if media.file_id:
        return {"file_id": media.file_id}
    return {"filename": named_file(media), "file_data": f"data:{media.media_type};base64,{media.data}"}


def _tool(tool: Tool, names: Names) -> Json:
    if tool.custom:
        custom: Json = {"name": names.sent(tool.name), "description": tool.description}
        return {"type": "custom", "custom": custom | ({"format": tool.schema} if tool.schema is not None else {})}
    function: Json = {"name": names.sent(tool.name)}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = arguments_schema(tool)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice, tools: Sequence[Tool], names: Names) -> object:
    if choice.mode != "named":
        return choice.mode
    kind = "custom" if any(tool.custom and tool.name == choice.name for tool in tools) else "function"
    return {"type": kind, kind: {"name": names.sent(choice.name)}}


def _format(form: Format) -> Json:
    if form.schema is None:
        return {"type": "json_object"}
    schema: Json = {"name": form.name or "answer", "schema": form.schema}
    if form.description:
        schema["description"] = form.description
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}


# ---------------------------------------------------------------- the reply


def write_reply(reply: Reply, created_s: int) -> bytes:
    """A whole reply as a chat completion."""
    texts = "".join([part.text for part in reply.parts if isinstance(part, Text)])
    refused = "".join([part.text for part in reply.parts if isinstance(part, Refusal)])
    thoughts = [part for part in reply.parts if isinstance(part, Thinking)]
    own = OwnNames()
    calls = [_call(part, own) for part in reply.parts if isinstance(part, ToolUse)]
    message: Json = {"role": "assistant", "content": texts or None, "refusal": refused or None}
    if not (texts or refused or calls):
        message["content"] = ""
    if thoughts:
        message["reasoning_content"] = "".join([part.text for part in thoughts])
        message["thinking_blocks"] = [block_of(part) for part in thoughts if part.seal]
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISHES[reply.finish]}
    body: Json = {
        "id": completion_id(reply.id),
        "object": "chat.completion",
        "created": created_s,
        "model": reply.model,
        "choices": [choice],
    }
    if reply.usage is not None:
        body["usage"] = usage_members(reply.usage)
    return _ENCODER.encode(body)


def completion_id(upstream_id: str) -> str:
    return upstream_id if upstream_id.startswith("chatcmpl-") else f"chatcmpl-{upstream_id}"


def usage_members(usage: Usage) -> Json:
    """OpenAI's usage: `prompt_tokens` is all of the prompt, cached or not."""
    meters = usage.meters
    read = meters.get(Meter.CACHE_READ, 0)
    written = sum(meters.get(meter, 0) for meter in (Meter.CACHE_WRITE, Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H))
    prompt, completion = usage.input_tokens(), usage.output_tokens()
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
