"""The events of a Messages stream in neutral form. Blocks of the provider's own tools and unknown ones say nothing."""

from __future__ import annotations

import msgspec

from gateway.core.neutral import (
    Began,
    Event,
    Finish,
    Finished,
    PartBegan,
    PartEnded,
    PartGrew,
    PartKind,
    PartSealed,
)
from gateway.dialects.anthropic_messages.from_neutral import JSON_TOOL
from gateway.dialects.anthropic_messages.into_neutral import FINISHES
from gateway.dialects.sse import data_of
from gateway.dialects.translate.seals import ANTHROPIC, unpack

_KINDS: dict[str, PartKind] = {
    "text": "text",
    "thinking": "thinking",
    "tool_use": "tool",
    "redacted_thinking": "thinking",
}


_NO_INPUT = msgspec.Raw(b"{}")


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    data: str = ""
    input: msgspec.Raw = _NO_INPUT


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Said(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None


_SAID = msgspec.json.Decoder(_Said)


class MessagesReader:
    """One block is open at a time. A second `message_start` (some providers splice streams) begins nothing anew."""

    def __init__(self) -> None:
        self._began = False
        self._next = 0
        self._open: PartKind | None = None
        self._json_tool = False
        self._input = b"{}"
        self._tools = 0
        self._reason = ""
        self._stop_sequence = ""
        self._finished = False

    def read(self, event: bytes) -> list[Event]:
        data = data_of(event)
        if data is None:
            return []
        try:
            said = _SAID.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return []
        kind = said.type
        if kind == "content_block_delta":
            return self._grown(said.delta) if self._open is not None and said.delta is not None else []
        if kind == "content_block_start" and said.content_block is not None:
            return [*self._close(), *self._opened(said.content_block)]
        if kind == "content_block_stop":
            return self._close()
        if kind == "message_start" and said.message is not None and not self._began:
            self._began = True
            return [Began(said.message.id, said.message.model)]
        if kind == "message_delta" and said.delta is not None:
            self._reason = said.delta.stop_reason or self._reason
            self._stop_sequence = said.delta.stop_sequence or self._stop_sequence
        return self.end() if kind == "message_stop" else []

    def end(self) -> list[Event]:
        if self._finished:
            return []
        self._finished = True
        finish = FINISHES.get(self._reason, Finish.STOP)
        if finish is Finish.TOOLS and not self._tools and self._json_tool:
            finish = Finish.STOP
        return [*self._close(), Finished(finish, self._stop_sequence)]

    def _opened(self, block: _Block) -> list[Event]:
        kind = _KINDS.get(block.type)
        if kind is None:
            return []
        at, self._open = self._next, kind
        self._next += 1
        self._input = bytes(block.input)
        if kind == "tool":
            if block.name == JSON_TOOL:
                self._json_tool, self._open = True, "text"
                return [PartBegan(at, "text")]
            self._tools += 1
            return [PartBegan(at, "tool", block.id, block.name)]
        said: list[Event] = [PartBegan(at, kind)]
        if block.type == "redacted_thinking":
            said.append(PartSealed(at, block.data, ANTHROPIC, whole=False))
        elif block.text or block.thinking:
            said.append(PartGrew(at, block.text or block.thinking))
        return said

    def _grown(self, delta: _Delta) -> list[Event]:
        at = self._next - 1
        text = delta.text or delta.thinking or delta.partial_json
        if text:
            self._input = b"{}"
            return [PartGrew(at, text)]
        if delta.signature:
            packed = unpack(delta.signature)
            if packed is not None:
                return [PartSealed(at, packed.seal, packed.sealed_by, packed.whole)]
            return [PartSealed(at, delta.signature, ANTHROPIC)]
        return []

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        ended = PartEnded(self._next - 1)
        if self._input == b"{}":
            return [ended]
        given, self._input = self._input.decode(), b"{}"
        return [PartGrew(ended.index, given), ended]  # a call that came whole with its beginning
