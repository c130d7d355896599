"""What is read of an OpenAI request. What becomes of it on its way to the provider is in `rewrite.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec

from gateway.core.call import Head
from gateway.core.errors import BadRequest
from gateway.dialects.json_body import Members, is_null, open_object

TOKENS_MAX = 2**31 - 1
CHOICES_MAX = 128
NAME_CHARS_MAX = 512
UNKNOWN_FIELDS_MAX = 16
TAGS_MAX = 16

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
"""Of a limit 0 is the provider's to judge; for a bound it says nothing."""
ChoiceCount = Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)]
TriesCount = Annotated[int, msgspec.Meta(ge=0, le=CHOICES_MAX)]

H = TypeVar("H")

KNOWN = frozenset({
    "messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip
_EXPECTED = {
    "model": f"a non-empty string of at most {NAME_CHARS_MAX} characters",
    "messages": "a non-empty array of objects",
    "stream": "true, false or null",
    "max_tokens": f"a whole number from 0 to {TOKENS_MAX} or null",
    "max_completion_tokens": f"a whole number from 0 to {TOKENS_MAX} or null",
    "n": f"a whole number from 1 to {CHOICES_MAX} or null",
    "best_of": f"a whole number from 0 to {CHOICES_MAX} or null",
    "stream_options": "an object with include_usage true or false, or null",
    "user": "a string or null",
    "safety_identifier": "a string or null",
    "service_tier": "a string or null",
    "reasoning_effort": "a string or null",
    "tools": "an array of objects or null",
    "functions": "an array of objects or null",
    "modalities": "an array of strings or null",
    "dimensions": f"a whole number from 0 to {TOKENS_MAX} or null",
    "encoding_format": "a string or null",
    "input": "a string, an array of strings, an array of token numbers, or an array of such arrays",
    "prompt": "a string, an array of strings, an array of token numbers, or an array of such arrays",
}
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")
_GOT = re.compile(r", got `([a-z]+)`")
_KINDS = {"str": "a string", "int": "a whole number", "float": "a number with a fraction", "bool": "true or false"}

_MEDIA_PART = re.compile(rb'"type"\s*+:\s*+"(?:image_url|input_audio|file|video_url|audio_url)"')
_MEDIA_KEY = re.compile(rb'"(?:image_url|input_audio|video_url|audio_url)"\s*+:')
_CACHE_WORDS = (
    b'"cache_control"',
    b'"prompt_cache_breakpoint"',
    b'"prompt_cache_options"',
    b'"prompt_cache_retention"',
)
_TAG_SEPARATOR = re.compile("[:=]")
_ASCII_ESCAPE = re.compile(rb"\\u00([2-7][0-9a-fA-F])")


class AnyObject(msgspec.Struct, gc=False):
    """An object whose members are nobody's business here."""


class _Tool(msgspec.Struct, gc=False):
    """A tool; of its members only the kind matters: what is not the caller's own runs at the provider."""

    type: str = "function"


_OWN_TOOLS = frozenset({"function", "custom"})
HOSTED_TOOLS_MAX = 16


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ChatHead(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[AnyObject], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    n: ChoiceCount | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    tools: list[_Tool] | None = None
    functions: list[AnyObject] | None = None
    modalities: list[str] | None = None


_CHAT_HEAD = msgspec.json.Decoder(_ChatHead)


def read_chat_head(body: bytes) -> Head:
    """The head of a chat completion. Raises BadRequest."""
    members = open_object(body)
    head = read_typed(_CHAT_HEAD, body)
    names = plain_names(body)
    media = count_media(names)
    audio = "audio" in (head.modalities or ()) or not is_null(members.get("audio"))
    # Providers refuse both limits together; the larger one keeps the bound true if one does not.
    limits = [limit for limit in (head.max_tokens, head.max_completion_tokens) if limit]
    return Head(
        model=head.model,
        stream=bool(head.stream),
        usage_asked=asks_usage(head.stream_options),
        max_output_tokens=max(limits, default=None),
        choices=head.n or 1,
        user=(head.user or head.safety_identifier or "")[:NAME_CHARS_MAX],
        service_tier=(head.service_tier or "")[:64],
        messages=len(head.messages),
        tools=len(head.tools or ()) + len(head.functions or ()),
        media=media,
        audio=audio or (media > 0 and (b'"input_audio"' in names or b'"audio_url"' in names)),
        cache_markers=has_cache_markers(names),
        text_bytes=len(body),
        unknown_fields=unknown_fields(members, KNOWN),
        hosted_tools=_hosted(head.tools or (), members),
        thinks=head.reasoning_effort not in (None, "", "none"),
        tags=read_tags(members.get("metadata")),
    )


class _Metadata(msgspec.Struct):
    tags: list[str] = []


_METADATA = msgspec.json.Decoder(_Metadata)


def read_tags(metadata: msgspec.Raw | None) -> tuple[tuple[str, str], ...]:
    """LiteLLM's `metadata.tags`: an array of `name:value`, `name=value`, or words alone, which are then `true`.
    OpenAI's own metadata have texts as values, so a member of that name which is no array of texts is none."""
    if metadata is None or b'"tags"' not in bytes(metadata):
        return ()
    try:
        said = _METADATA.decode(metadata).tags[:TAGS_MAX]
    except (ValueError, RecursionError):
        return ()
    pairs = [_TAG_SEPARATOR.split(tag, maxsplit=1) for tag in said]
    return tuple([(pair[0], pair[1] if len(pair) > 1 else "true") for pair in pairs])


def _hosted(tools: Sequence[_Tool], members: Members) -> tuple[str, ...]:
    hosted = [tool.type[:64] for tool in tools if tool.type not in _OWN_TOOLS]
    if not is_null(members.get("web_search_options")):
        hosted.append("web_search")
    return tuple(dict.fromkeys(hosted))[:HOSTED_TOOLS_MAX] if hosted else ()


def read_typed(decoder: msgspec.json.Decoder[H], body: bytes, expected: Mapping[str, str] = _EXPECTED) -> H:
    """The checked members of a body that `open_object` accepted. Raises BadRequest naming member and expectation."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise bad_member(str(error), expected) from error


def bad_member(complaint: str, expected: Mapping[str, str] = _EXPECTED) -> BadRequest:
    """msgspec's complaint in the caller's terms: the member as `param`, and what it must be (by top-level member)."""
    missing = _MISSING.match(complaint)
    place = _PLACE.search(complaint)
    param = place.group(1) if place else ""
    if missing:
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
        return BadRequest(f"{param} is missing: it must be {_expected(param, expected)}.", param=param)
    got = _GOT.search(complaint)
    seen = f", not {_KINDS.get(got.group(1), got.group(1))}" if got else ""
    return BadRequest(f"{param} is wrong: {_top(param)} must be {_expected(param, expected)}{seen}.", param=param)


def _top(param: str) -> str:
    return re.split(r"[.\[]", param, maxsplit=1)[0]


def _expected(param: str, expected: Mapping[str, str]) -> str:
    return expected.get(_top(param), "of another type")


def asks_usage(options: StreamOptions | None) -> bool:
    return options is not None and bool(options.include_usage)


def plain_names(body: bytes) -> bytes:
    """The body with letters written as `\\u00XX` undone, so that no escape hides a name from the searches below."""
    if b"\\u00" not in body:
        return body
    return _ASCII_ESCAPE.sub(_unescaped, body)


def _unescaped(match: re.Match[bytes]) -> bytes:
    character = bytes((int(match.group(1), 16),))
    return match.group(0) if character in b'"\\' else character


def count_media(body: bytes) -> int:
    """How many content parts are no text. May count too many (a hold is then larger), never too few."""
    if b'_url"' in body or b'"input_audio"' in body or b'"file"' in body:
        return max(len(_MEDIA_PART.findall(body)), len(_MEDIA_KEY.findall(body)))
    return 0


def has_cache_markers(body: bytes) -> bool:
    return b"cache_" in body and any(word in body for word in _CACHE_WORDS)


def unknown_fields(members: Members, known: frozenset[str]) -> tuple[str, ...]:
    if members.keys() <= known:
        return ()
    return tuple(name[:64] for name in members if name not in known)[:UNKNOWN_FIELDS_MAX]
