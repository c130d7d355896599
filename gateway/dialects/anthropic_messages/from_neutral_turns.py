"""The turns of a neutral request as messages, in the order and shape that the Messages API takes.

It refuses blocks of blanks, results of tools that do not come first in the turn after their calls, an answer that ends
in thinking, one that begins the conversation, and one to be gone on with that ends in blanks.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.core.neutral import Media, Part, Refusal, Text, Thinking, ToolResult, ToolUse, Turn
from gateway.dialects.translate.seals import ANTHROPIC, block_of
from gateway.dialects.translate.writing import Names, arguments_object, fitting_id, refuse_media, texts_of

DIALECT = "Anthropic Messages"
BEGINNING = "(The conversation begins with your words.)"
"""What the user is taken to have said where a conversation begins with the assistant's turn."""
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_OTHER_NAMES = {"image/jpg": "image/jpeg"}

Json = dict[str, object]


def messages_of(turns: Sequence[Turn], names: Names) -> list[Json]:
    """Raises BadRequest for what cannot be sent."""
    said = [turn for turn in _answered_first([_shown(turn) for turn in turns]) if _says(turn)]
    if said and said[0].role == "assistant":
        said.insert(0, Turn("user", (Text(BEGINNING),)))
    if said and said[-1].role == "assistant":
        said[-1] = _unblanked(said[-1])
    return [_message(turn, names) for turn in said if turn.parts]


def _shown(turn: Turn) -> Turn:
    """A turn of the user or the assistant; what the system says on the way stands in one of the user."""
    if turn.role != "system":
        return turn
    text = texts_of(turn.parts)
    return Turn("user", (Text(f"<system>\n{text}\n</system>"),) if text.strip() else ())


def _answered_first(turns: Iterable[Turn]) -> list[Turn]:
    """Turns of the user that follow each other are one where a later one brings results of tools."""
    kept: list[Turn] = []
    for turn in turns:
        brings = any(isinstance(part, ToolResult) for part in turn.parts)
        if kept and brings and kept[-1].role == turn.role == "user":
            kept[-1] = Turn("user", (*kept[-1].parts, *turn.parts))
        else:
            kept.append(turn)
    return kept


def _says(turn: Turn) -> bool:
    """Whether there is anything in it that can be sent; an answer of thinking alone cannot."""
    spoken = [part for part in turn.parts if not isinstance(part, Thinking)]
    return any(not isinstance(part, Text | Refusal) or part.text.strip() for part in spoken)


def _unblanked(turn: Turn) -> Turn:
    last = turn.parts[-1]
    if not isinstance(last, Text):
        return turn
    return msgspec.structs.replace(
        turn, parts=(*turn.parts[:-1], msgspec.structs.replace(last, text=last.text.rstrip()))
    )


def _message(turn: Turn, names: Names) -> Json:
    only = turn.parts[0] if len(turn.parts) == 1 else None
    if isinstance(only, Text) and only.marker is None:
        return {"role": turn.role, "content": only.text}
    return {"role": turn.role, "content": [block for part in _ordered(turn) for block in _blocks(part, names)]}


def _ordered(turn: Turn) -> Sequence[Part]:
    """Thinking first, as it was thought before; in a user turn results of tools first, as Anthropic wants them."""
    first = Thinking if turn.role == "assistant" else ToolResult
    return sorted(turn.parts, key=lambda part: not isinstance(part, first))


def _blocks(part: Part, names: Names) -> Iterator[Json]:
    match part:
        case Text() if part.text.strip():
            yield text_block(part)
        case Refusal() if part.text.strip():
            yield {"type": "text", "text": part.text}
        case Thinking() if part.seal and part.sealed_by == ANTHROPIC:
            yield block_of(part)
        case Media():
            yield marked(_media(part), part.marker)
        case ToolUse():
            use: Json = {"type": "tool_use", "id": fitting_id(part.id), "name": names.sent(part.name)}
            yield marked(use | {"input": arguments_object(part)}, part.marker)
        case ToolResult():
            result: Json = {"type": "tool_result", "tool_use_id": fitting_id(part.tool_use_id)}
            content = [block for inner in part.parts for block in _blocks(inner, names)]
            if content:
                result["content"] = content
            if part.is_error:
                result["is_error"] = True
            yield marked(result, part.marker)


def text_block(part: Text) -> Json:
    return marked({"type": "text", "text": part.text}, part.marker)


def marked(block: Json, marker: msgspec.Raw | None) -> Json:
    return block if marker is None else block | {"cache_control": marker}


def _media(media: Media) -> Json:
    if media.file_id or media.kind == "audio":
        raise refuse_media(media, DIALECT)
    media_type = _OTHER_NAMES.get(media.media_type, media.media_type)
    kind = "image" if media.kind == "image" or media_type in _IMAGES else "document"
    block: Json = {"type": kind}
    if kind == "document" and media.name:
        block["title"] = media.name
    if media.url:
        block["source"] = {"type": "url", "url": media.url}
    elif media_type.startswith("text/"):
        block["source"] = {"type": "text", "media_type": "text/plain", "data": _decoded(media)}
    elif media_type in _IMAGES or media_type == "application/pdf":
        block["source"] = {"type": "base64", "media_type": media_type, "data": media.data}
    else:
        raise refuse_media(media, DIALECT)
    return block


def _decoded(media: Media) -> str:
    try:
        return base64.b64decode(media.data, validate=True).decode("utf-8", "replace")
    except ValueError as error:
        raise refuse_media(media, DIALECT) from error
