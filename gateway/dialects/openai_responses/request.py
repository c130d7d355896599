"""What is read of a Responses request. What becomes of it on its way to the provider is in `rewrite.py` of chat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from gateway.core.call import Head
from gateway.core.errors import BadRequest
from gateway.core.usage import Meter
from gateway.dialects.json_body import NULL, Members, is_null, open_object
from gateway.dialects.openai_chat.request import (
    HOSTED_TOOLS_MAX,
    NAME_CHARS_MAX,
    TOKENS_MAX,
    AnyObject,
    ModelName,
    TokenCount,
    has_cache_markers,
    plain_names,
    read_tags,
    read_typed,
    unknown_fields,
)

_CHOSEN_IDS = frozenset({"request_id", "response_id", "id"})
"""Members that may become the id of the response (vLLM takes `request_id` for it). Whoever chose the id of somebody
else's would get a name for that, and with it the conversation."""
TOOL_CALLS_MAX = 10_000
"""More calls of tools than one response ever makes."""

CallCount = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]

KNOWN = frozenset({
    "access_programs", "background", "background_options", "context_management", "conversation", "include", "input",
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls",
    "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice",
    "tools", "top_logprobs", "top_p", "truncation", "user",
})  # fmt: skip
_EXPECTED = {
    "model": f"a non-empty string of at most {NAME_CHARS_MAX} characters",
    "input": "a string, or an array of objects",
    "stream": "true, false or null",
    "background": "true, false or null",
    "max_output_tokens": f"a whole number from 0 to {TOKENS_MAX} or null",
    "max_tool_calls": f"a whole number from 0 to {TOKENS_MAX} or null",
    "previous_response_id": "the id of a response, or null",
    "user": "a string or null",
    "safety_identifier": "a string or null",
    "prompt_cache_key": "a string or null",
    "service_tier": "a string or null",
    "tools": "an array of objects or null",
    "context_management": "an array of objects or null",
}

_OWN_TOOLS = frozenset({
    "function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use", "computer_use_preview",
})  # fmt: skip
"""What the caller runs itself; a namespace holds tools of its own, which are looked at one by one."""
_FEES = (
    ("web_search", Meter.WEB_SEARCH),
    ("file_search", Meter.FILE_SEARCH),
    ("code_interpreter", Meter.CODE_CONTAINER),
)
"""Kinds of tools (as they begin: kinds have dates) and what a call of them is billed by."""
_NO_FEE = frozenset({"mcp", "tool_search"})
"""They cost only the tokens of what they find."""
COMPACTION = "compaction"
"""A run of the model that the provider makes by itself, where the request lets it shorten the conversation."""

_MEDIA_PART = re.compile(rb'"type"\s*+:\s*+"(?:input_image|input_file|input_audio|input_video|computer_screenshot)"')
_MEDIA_KEY = re.compile(rb'"(?:image_url|file_url|file_data|file_id|input_audio)"\s*+:')


class _Tool(msgspec.Struct, gc=False):
    """A tool; of its members only the kind matters: what is not the caller's own runs at the provider."""

    type: str = "function"
    tools: msgspec.Raw = NULL


class _Item(msgspec.Struct, gc=False):
    """An item of the input. The result of a search for tools brings tools of its own into the call."""

    type: str = "message"
    tools: msgspec.Raw = NULL


class _Head(msgspec.Struct):
    model: ModelName
    input: str | list[_Item] | None = None
    stream: bool | None = None
    background: bool | None = None
    max_output_tokens: TokenCount | None = None
    max_tool_calls: CallCount | None = None
    previous_response_id: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    tools: list[_Tool] | None = None
    context_management: list[AnyObject] | None = None


_HEAD = msgspec.json.Decoder(_Head)
_NESTED = msgspec.json.Decoder(list[_Tool])


def read_responses_head(body: bytes, *, output_expected: bool = True) -> Head:
    """The head of a Responses request. Raises BadRequest.

    What the provider keeps (a previous response, an item that is only referred to) counts as media: it has no length
    here, so that only the model's context window bounds it, and it may be of any kind.
    """
    members = open_object(body)
    head = read_typed(_HEAD, body, _EXPECTED)
    _refuse_what_is_kept_elsewhere(members)
    names = plain_names(body)
    items = head.input if isinstance(head.input, list) else ()
    unseen = bool(head.previous_response_id) or any(item.type == "item_reference" for item in items)
    hosted = tuple(dict.fromkeys(_hosted(head, items)))
    return Head(
        model=head.model,
        stream=bool(head.stream),
        usage_asked=True,
        max_output_tokens=head.max_output_tokens or None,
        user=(head.user or head.safety_identifier or "")[:NAME_CHARS_MAX],
        service_tier=(head.service_tier or "")[:64],
        messages=len(items) or 1,
        tools=len(head.tools or ()),
        media=count_media(names) + unseen,
        audio=b'"input_audio"' in names,
        cache_markers=has_cache_markers(names),
        text_bytes=len(body),
        unknown_fields=unknown_fields(members, KNOWN),
        output_expected=output_expected,
        hosted_tools=hosted[:HOSTED_TOOLS_MAX],
        session=(head.prompt_cache_key or "")[:NAME_CHARS_MAX],
        tags=read_tags(members.get("metadata")),
        tool_calls_max=_calls_max(hosted, head.max_tool_calls),
        tool_meters=_meters(hosted),
        previous_id=head.previous_response_id or "",
        background=bool(head.background),
    )


def _refuse_what_is_kept_elsewhere(members: Members) -> None:
    if not is_null(members.get("prompt")):
        raise BadRequest(
            "prompt is wrong: prompts that the provider keeps are not used through this gateway. Send instructions and "
            "input.",
            param="prompt",
        )
    if not is_null(members.get("conversation")):
        raise BadRequest(
            "conversation is wrong: conversations that the provider keeps are not served here. Send "
            "previous_response_id, or the whole input.",
            param="conversation",
        )
    for name in _CHOSEN_IDS & members.keys():
        if not is_null(members[name]):
            raise BadRequest(
                f"{name} is wrong: ids of responses are made by the provider, and cannot be chosen. Leave it out.",
                param=name,
            )


def _hosted(head: _Head, items: Iterable[_Item]) -> Iterator[str]:
    """Kinds of tools that run at the provider, those inside namespaces and items of the input too."""
    yield from _hosted_of(head.tools or ())
    for item in items:
        if item.tools is not NULL:
            yield from _hosted_inside(item.type, item.tools)
    if head.context_management:
        yield COMPACTION


def _hosted_of(tools: Iterable[_Tool]) -> Iterator[str]:
    for tool in tools:
        if tool.type not in _OWN_TOOLS:
            yield tool.type[:64]
        elif tool.type == "namespace":
            yield from _hosted_inside(tool.type, tool.tools)


def _hosted_inside(holder: str, tools: msgspec.Raw) -> Iterator[str]:
    """The same of tools that something else holds. Of a shape nobody knows it may hold anything: its own kind then."""
    if is_null(tools):
        return
    try:
        inner = _NESTED.decode(tools)
    except msgspec.ValidationError:
        yield holder[:64]
    else:
        yield from _hosted_of(inner)


def _fee_of(kind: str) -> str | None:
    """The meter of a kind's calls, empty where they are free; None for one that nobody knows."""
    if kind in _NO_FEE:
        return ""
    return next((meter.value for start, meter in _FEES if kind.startswith(start)), None)


def _calls_max(hosted: tuple[str, ...], said: int | None) -> int | None:
    """None without a limit (0 is the provider's to judge), or where a tool may cost any amount: an image, a container
    of a shell, a compaction."""
    if not said or said > TOOL_CALLS_MAX or any(_fee_of(kind) is None for kind in hosted):
        return None
    return said


def _meters(hosted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([meter for kind in hosted if (meter := _fee_of(kind))])) if hosted else ()


def count_media(body: bytes) -> int:
    """How many parts are no text. May count too many (a hold is then larger), never too few."""
    if b'"input_' in body or b'_url"' in body or b'"file_' in body or b"screenshot" in body:
        return max(len(_MEDIA_PART.findall(body)), len(_MEDIA_KEY.findall(body)))
    return 0
