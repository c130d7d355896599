"""The events of a chat completion's stream in neutral form. Parts begin and end by what the deltas hold."""

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
from gateway.dialects.openai_chat.into_neutral import FINISHES
from gateway.dialects.sse import data_of
from gateway.dialects.translate.seals import open_blocks


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    thinking_blocks: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str = ""
    model: str = ""
    choices: list[_Choice] = []


_CHUNK = msgspec.json.Decoder(_Chunk)


class ChatReader:
    """Reads the first choice. A tool call ends where another part begins: one that goes on afterwards (no provider is
    known to mix them) is a new part that no caller could put together, so its rest is left out and told by `mixed`."""

    def __init__(self) -> None:
        self._began = False
        self._next = 0
        self._open: PartKind | None = None
        self._tool = -1
        self._ended: set[int] = set()
        self._refused = False
        self._finished = False
        self.mixed = False

    def read(self, event: bytes) -> list[Event]:
        data = data_of(event)
        if data is None:
            return []
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return []
        said: list[Event] = []
        for choice in chunk.choices:
            if choice.index:
                continue
            if not self._began:
                self._began = True
                said.append(Began(chunk.id, chunk.model))
            if choice.delta is not None:
                self._read_delta(choice.delta, said)
            if choice.finish_reason and not self._finished:
                self._finish(choice.finish_reason, said)
        return said

    def end(self) -> list[Event]:
        said: list[Event] = []
        if not self._finished:
            self._finish("stop", said)
        return said

    def _finish(self, reason: str, said: list[Event]) -> None:
        self._close(said)
        self._finished = True
        finish = FINISHES.get(reason, Finish.STOP)
        said.append(Finished(Finish.REFUSED if self._refused and finish is Finish.STOP else finish))

    def _read_delta(self, delta: _Delta, said: list[Event]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._grow("thinking", thought, said)
        for block in open_blocks(delta.thinking_blocks or ()):
            if block.seal:
                self._be("thinking", said)
                said.append(PartSealed(self._next - 1, block.seal, block.sealed_by, block.whole))
        if delta.content:
            self._grow("text", delta.content, said)
        if delta.refusal:
            self._refused = True
            self._grow("refusal", delta.refusal, said)
        for call in delta.tool_calls or ():
            self._read_call(call, said)

    def _grow(self, kind: PartKind, text: str, said: list[Event]) -> None:
        self._be(kind, said)
        said.append(PartGrew(self._next - 1, text))

    def _be(self, kind: PartKind, said: list[Event]) -> None:
        """The part that is open is of this kind from here on."""
        if self._open != kind:
            self._close(said)
            said.append(PartBegan(self._next, kind))
            self._open = kind
            self._next += 1

    def _close(self, said: list[Event]) -> None:
        if self._open is not None:
            said.append(PartEnded(self._next - 1))
            if self._open == "tool":
                self._ended.add(self._tool)
            self._open = None

    def _read_call(self, call: _Call, said: list[Event]) -> None:
        function = call.function or call.custom or _Function()
        if call.index in self._ended:
            self.mixed = True
            return
        if self._open != "tool" or self._tool != call.index:
            self._close(said)
            custom = call.custom is not None
            said.append(PartBegan(self._next, "tool", call.id or "", function.name or "", custom))
            self._open, self._tool = "tool", call.index
            self._next += 1
        text = function.arguments or function.input
        if text:
            said.append(PartGrew(self._next - 1, text))
