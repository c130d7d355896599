"""What is read of a Messages request, and the two members of it that may be rewritten.

Nothing inside `messages`, `system` and `tools` is ever written anew: cache markers, thinking's signatures and redacted
thinking go up as they came. What is read there is found by byte searches that may see too much, never too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from gateway.core.call import Head
from gateway.dialects.anthropic_messages.betas import BETA_HEADER, unknown_betas
from gateway.dialects.anthropic_messages.client_ids import read_user_id
from gateway.dialects.json_body import Members, is_null, open_members, open_object, raw_json, write_members
from gateway.dialects.openai_chat.request import (
    HOSTED_TOOLS_MAX,
    NAME_CHARS_MAX,
    TOKENS_MAX,
    AnyObject,
    ModelName,
    plain_names,
    read_typed,
    unknown_fields,
)

TokenLimit = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
"""0 fills the prompt cache and writes nothing."""

KNOWN = frozenset({
    "model", "messages", "max_tokens", "cache_control", "compaction", "container", "context_management", "diagnostics",
    "fallbacks", "inference_geo", "mcp_servers", "metadata", "output_config", "output_format", "service_tier", "speed",
    "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
    "user_profile_id", "workspace_id",
})  # fmt: skip
EXPECTED = {
    "model": f"a non-empty string of at most {NAME_CHARS_MAX} characters",
    "messages": "a non-empty array of objects",
    "max_tokens": f"a whole number from 0 to {TOKENS_MAX} or null",
    "stream": "true, false or null",
    "tools": "an array of objects or null",
    "metadata": "an object with user_id a string or null, or null",
    "service_tier": "a string or null",
    "speed": "a string or null",
    "thinking": "an object with budget_tokens a whole number, or null",
}
_STANDARD_TIERS = frozenset({"", "auto", "standard_only"})
"""`auto` is what holds without the member: the account's own priority capacity, at the same rates."""
_STANDARD_SPEEDS = frozenset({"", "standard"})
_OWN_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")
"""Kinds of tools that the caller runs; the versioned ones by how their names begin."""
HIDDEN_PROMPT_TOKENS = 1024
"""Each at most: the prompt for tools has 346 tokens with current models and 530 with an older one, the largest of its
own tools 735 (docs.claude.com, tool use pricing)."""
_MEDIA_PART = re.compile(rb'"type"\s*+:\s*+"(?:image|document|file|container_upload|video)"')
_CACHE_WORD = b'"cache_control"'
_TTL_WORD = b'"ttl"'
_SHORT_TTL = re.compile(rb'"ttl"\s*+:\s*+"5m"')
_COMPACTION = b"compact"


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class MessagesHead(msgspec.Struct):
    """The checked members; the rest stays raw."""

    model: ModelName
    messages: Annotated[list[AnyObject], msgspec.Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    metadata: _Metadata | None = None
    service_tier: str | None = None
    speed: str | None = None


_HEAD = msgspec.json.Decoder(MessagesHead)


class _Thinking(msgspec.Struct):
    budget_tokens: int | None = None


class _Limits(msgspec.Struct):
    thinking: _Thinking | None = None
    max_tokens: int | None = None


_LIMITS = msgspec.json.Decoder(_Limits)


def read_head(body: bytes, *, output_expected: bool = True) -> Head:
    """The head of a request. Raises BadRequest naming the member and what it must be."""
    members = open_object(body)
    head = read_typed(_HEAD, body, EXPECTED)
    names = plain_names(body)
    marked = _CACHE_WORD in names
    user, session = "", ""
    if head.metadata is not None and head.metadata.user_id:
        user, session = read_user_id(head.metadata.user_id[:NAME_CHARS_MAX])
    return Head(
        model=head.model,
        stream=bool(head.stream),
        usage_asked=True,
        max_output_tokens=head.max_tokens,
        user=user,
        service_tier=_tier(head.service_tier or "", head.speed or ""),
        messages=len(head.messages),
        tools=len(head.tools or ()),
        media=len(_MEDIA_PART.findall(names)) if b'"type"' in names else 0,
        cache_markers=marked,
        cache_hours=marked and _may_live_long(names),
        text_bytes=len(body),
        unknown_fields=unknown_fields(members, KNOWN),
        output_expected=output_expected,
        hosted_tools=_hosted(head.tools, members),
        hidden_tokens=_hidden(head.tools, members),
        session=session,
    )


def with_betas(head: Head, headers: Mapping[str, str]) -> Head:
    """The head with the betas that the request's headers switch on and that may change what it costs."""
    unknown = unknown_betas(headers.get(BETA_HEADER, ""))
    return msgspec.structs.replace(head, unknown_fields=head.unknown_fields + unknown) if unknown else head


def with_model(body: bytes, model: str) -> bytes:
    """The body asking for another model; every other member as the bytes it came as."""
    members = open_members(body) or {}
    members["model"] = raw_json(model)
    return write_members(members)


def thinks_beyond(body: bytes, tokens: int) -> bool:
    """Whether the request's thinking budget does not fit below `tokens` of output: such a request is refused."""
    try:
        limits = _LIMITS.decode(body)
    except (ValueError, RecursionError):
        return True
    budget = limits.thinking.budget_tokens if limits.thinking is not None else None
    return budget is not None and budget >= tokens


def _tier(asked: str, speed: str) -> str:
    """The dearest tier the request can be billed at beside standard; a speed other than the standard one is one."""
    if speed not in _STANDARD_SPEEDS:
        return speed[:64]
    return "" if asked in _STANDARD_TIERS else asked[:64]


def _may_live_long(names: bytes) -> bool:
    """Whether a cache marker may ask for a write that lives longer than five minutes."""
    return _TTL_WORD in names and len(_SHORT_TTL.findall(names)) != names.count(_TTL_WORD)


def _hidden(tools: list[_Tool] | None, members: Members) -> int:
    """What Anthropic adds to the prompt by itself: a prompt about tools, one for each tool of its own making, and one
    about the format of the answer. A small request may be less than that."""
    prompts = 0
    if tools:
        prompts = 1 + sum([tool.type is not None and tool.type != "custom" for tool in tools])
    if not is_null(members.get("output_config")) or not is_null(members.get("output_format")):
        prompts += 1
    return prompts * HIDDEN_PROMPT_TOKENS


def _hosted(tools: list[_Tool] | None, members: Members) -> tuple[str, ...]:
    """Kinds of tools and runs at the provider. A compaction or a fallback is another run of a model, billed besides."""
    hosted = [kind[:64] for tool in tools or () if (kind := tool.type) is not None and not kind.startswith(_OWN_TOOLS)]
    if not is_null(members.get("mcp_servers")):
        hosted.append("mcp")
    if not is_null(members.get("fallbacks")):
        hosted.append("fallback")
    managed = members.get("context_management")
    if not is_null(members.get("compaction")) or (managed is not None and _COMPACTION in plain_names(bytes(managed))):
        hosted.append("compaction")
    return tuple(dict.fromkeys(hosted))[:HOSTED_TOOLS_MAX] if hosted else ()
