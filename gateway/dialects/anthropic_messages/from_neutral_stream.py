"""Neutral events as the stream of a message."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.core.errors import FaregateError
from gateway.core.neutral import (
    Began,
    Event,
    Finish,
    Finished,
    PartBegan,
    PartEnded,
    PartGrew,
    PartSealed,
    Thinking,
)
from gateway.core.usage import Usage
from gateway.dialects.anthropic_messages.from_neutral import FINISHES, message_id, usage_members
from gateway.dialects.translate.seals import signature_of
from gateway.dialects.translate.writing import fitting_id

_ENCODER = msgspec.json.Encoder()
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_TEXT_AFTER = b"}}\n\n"
_DELTAS = {
    "text": ("text_delta", "text"),
    "refusal": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}


def event_bytes(name: str, members: dict[str, object]) -> bytes:
    """`event:` has to be there: SDKs drop events without it."""
    return b"event: " + name.encode() + b"\ndata: " + _ENCODER.encode({"type": name, **members}) + b"\n\n"


class MessagesWriter:
    """Blocks in their order; stop reason and usage come at the end, together."""

    def __init__(self, say_error: Callable[[FaregateError], bytes]) -> None:
        self._say_error = say_error
        self._kind = ""
        self._custom = False
        self._grew = False
        self._thought: list[str] = []
        self._text_before = b""
        self._finish = Finish.STOP
        self._stop_sequence = ""

    def write(self, event: Event) -> bytes:
        match event:
            case PartGrew():
                return self._grow(event.text)
            case Began():
                return self._begin(event)
            case PartBegan():
                return self._begin_part(event)
            case PartSealed():
                thinking = Thinking("".join(self._thought), event.seal, event.sealed_by, event.whole)
                delta = {"type": "signature_delta", "signature": signature_of(thinking)}
                return event_bytes("content_block_delta", {"index": event.index, "delta": delta})
            case PartEnded():
                return self._end_part(event)
            case Finished():
                self._finish, self._stop_sequence = event.finish, event.stop_sequence
        return b""

    def end(self, usage: Usage | None) -> tuple[bytes, bytes]:
        delta = {"stop_reason": FINISHES[self._finish], "stop_sequence": self._stop_sequence or None}
        return event_bytes("message_delta", {"delta": delta, "usage": usage_members(usage)}), _STOP

    def failed(self, error: FaregateError) -> bytes:
        return self._say_error(error)

    def _begin(self, event: Began) -> bytes:
        message: dict[str, object] = {
            "id": message_id(event.id),
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return event_bytes("message_start", {"message": message})

    def _begin_part(self, event: PartBegan) -> bytes:
        self._kind, self._custom, self._grew, self._thought = event.kind, event.custom, False, []
        match event.kind:
            case "tool":
                block: dict[str, object] = {"type": "tool_use", "id": fitting_id(event.tool_id), "name": event.name}
                block["input"] = {}
            case "thinking":
                block = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                block = {"type": "text", "text": ""}
        kind, member = _DELTAS[event.kind]
        delta = event_bytes("content_block_delta", {"index": event.index, "delta": {"type": kind, member: ""}})
        self._text_before = delta.removesuffix(b'""' + _TEXT_AFTER)
        started = event_bytes("content_block_start", {"index": event.index, "content_block": block})
        return started + self._write('{"input":"') if event.custom else started

    def _grow(self, text: str) -> bytes:
        """More of the open block: what is around its text is written once a block."""
        self._grew = True
        if self._kind == "thinking":
            self._thought.append(text)
        return self._write(_ENCODER.encode(text)[1:-1].decode() if self._custom else text)

    def _write(self, text: str) -> bytes:
        """The text of a custom tool goes into an object piece by piece, as there is none such here."""
        return self._text_before + _ENCODER.encode(text) + _TEXT_AFTER

    def _end_part(self, event: PartEnded) -> bytes:
        before = b""
        if self._custom:
            before = self._write('"}')
        elif self._kind == "tool" and not self._grew:
            before = self._write("")
        return before + event_bytes("content_block_stop", {"index": event.index})
