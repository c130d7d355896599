"""Thinking on its way through a caller who speaks another dialect, and back.

A provider wants what a model thought back unchanged in the next turn, with its seal: Anthropic a signature, OpenAI's
Responses encrypted content. The caller's dialect has a place for an opaque text beside its own thinking; what another
dialect sealed travels there, packed with its words, so that nothing has to be remembered here between two calls.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

import msgspec

from gateway.core.neutral import Part, Thinking
from gateway.dialects.json_body import open_members, text_of

ANTHROPIC = "anthropic_messages"
RESPONSES = "openai_responses"
_PREFIX = "fg1."


class _Packed(msgspec.Struct, array_like=True):
    sealed_by: str
    seal: str
    text: str
    whole: bool = True


_PACKED = msgspec.json.Decoder(_Packed)
_ENCODER = msgspec.json.Encoder()


def pack(thinking: Thinking) -> str:
    """The thinking as one opaque text, empty without a seal: unsealed thinking is of no use to its provider."""
    if not thinking.seal:
        return ""
    said = _Packed(thinking.sealed_by, thinking.seal, thinking.text, thinking.whole)
    return _PREFIX + base64.urlsafe_b64encode(_ENCODER.encode(said)).decode()


def unpack(text: str) -> Thinking | None:
    """What `pack` made; None for any other text."""
    if not text.startswith(_PREFIX):
        return None
    try:
        said = _PACKED.decode(base64.b64decode(text.removeprefix(_PREFIX), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return Thinking(said.text, said.seal, said.sealed_by, said.whole)


def from_signature(text: str, signature: str) -> Thinking:
    """Thinking that stands in Anthropic's form: its own, or another dialect's behind a packed signature."""
    packed = unpack(signature)
    return packed if packed is not None else Thinking(text, signature, ANTHROPIC)


def signature_of(thinking: Thinking) -> str:
    """What stands in the place of a signature in Anthropic's form."""
    return thinking.seal if thinking.sealed_by == ANTHROPIC else pack(thinking)


def open_blocks(raws: Sequence[msgspec.Raw]) -> tuple[Thinking, ...]:
    """`thinking_blocks` of a chat message, as clients of several gateways know them."""
    found = []
    for raw in raws:
        block = open_members(raw) or {}
        if text_of(block.get("type")) == "redacted_thinking":
            found.append(Thinking("", text_of(block.get("data")), ANTHROPIC, whole=False))
        elif text_of(block.get("type")) == "thinking":
            found.append(from_signature(text_of(block.get("thinking")), text_of(block.get("signature"))))
    return tuple(found)


def block_of(thinking: Thinking) -> dict[str, object]:
    """One of `thinking_blocks`; also Anthropic's own block."""
    if not thinking.whole and thinking.sealed_by == ANTHROPIC:
        return {"type": "redacted_thinking", "data": thinking.seal}
    return {"type": "thinking", "thinking": thinking.text, "signature": signature_of(thinking)}


def sealed_for(dialect: str, parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts without thinking that `dialect` could not read: it would refuse the call."""
    return tuple(
        [part for part in parts if not isinstance(part, Thinking) or (part.seal and part.sealed_by == dialect)]
    )
