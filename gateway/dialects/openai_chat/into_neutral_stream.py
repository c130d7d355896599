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
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | list[msgspec.Raw] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    thinking_blocks: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None


class _Thought(msgspec.Struct):
    text: str = ""


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: list[_Thought] = []


_CHUNK = msgspec.json.Decoder(_Chunk)
_PART = msgspec.json.Decoder(_Part)
_NOTHING = _Function()

Key = int | str


class ChatReader:
    """Reads the first choice. Calls of tools whose deltas are mixed are told one after the other: what comes for
    another one waits until the arguments of the open one are whole."""

    def __init__(self) -> None:
        self._id = ""
        self._began = False
        self._next = 0
        self._open: PartKind | None = None
        self._tool: Key = -1
        self._custom = False
        self._arguments: list[str] = []
        self._whole: bool | None = None
        self._ids: dict[int, str] = {}
        self._ended: set[Key] = set()
        self._waiting: list[tuple[Key, _Call]] = []
        self._refused = False
        self._finished = False

    def read(self, event: bytes) -> list[Event]:
        data = data_of(event)
        if data is None:
            return []
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return []
        said: list[Event] = []
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if not self._began:
                self._began, self._id = True, chunk.id or ""
                said.append(Began(self._id, chunk.model or ""))
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
        self._close_all(said)
        self._finished = True
        finish = FINISHES.get(reason, Finish.STOP)
        if finish is Finish.STOP and self._ended:
            finish = Finish.TOOLS  # OpenAI says stop where it was told which tool to call
        said.append(Finished(Finish.REFUSED if self._refused and finish is Finish.STOP else finish))

    def _read_delta(self, delta: _Delta, said: list[Event]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._grow("thinking", thought, said)
        if delta.thinking_blocks:
            self._seal(delta.thinking_blocks, said)
        content = delta.content
        if isinstance(content, str):
            if content:
                self._grow("text", content, said)
        elif content:
            self._read_parts(content, said)
        if delta.refusal:
            self._refused = True
            self._grow("refusal", delta.refusal, said)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._read_call(self._key(call), call, said)

    def _seal(self, blocks: list[msgspec.Raw], said: list[Event]) -> None:
        for block in open_blocks(blocks):
            if block.seal:
                self._be("thinking", said)
                said.append(PartSealed(self._next - 1, block.seal, block.sealed_by, block.whole))
                self._close(said)

    def _read_parts(self, parts: list[msgspec.Raw], said: list[Event]) -> None:
        """Content in parts, as Mistral's reasoning models send it: thinking is itself a list of texts."""
        for raw in parts:
            try:
                part = _PART.decode(raw)
            except msgspec.ValidationError:
                continue
            thought = "".join([inner.text for inner in part.thinking])
            if part.type == "thinking" and thought:
                self._grow("thinking", thought, said)
            elif part.type == "text" and part.text:
                self._grow("text", part.text, said)

    def _grow(self, kind: PartKind, text: str, said: list[Event]) -> None:
        if self._open != kind:
            self._be(kind, said)
        said.append(PartGrew(self._next - 1, text))

    def _be(self, kind: PartKind, said: list[Event]) -> None:
        """The part that is open is of this kind from here on."""
        if self._open != kind:
            self._close_all(said)
            said.append(PartBegan(self._next, kind))
            self._open = kind
            self._next += 1

    def _close_all(self, said: list[Event]) -> None:
        while self._open is not None:
            self._close(said)

    def _close(self, said: list[Event]) -> None:
        """Ends the open part; calls that waited for it come next, of which one may stay open."""
        if self._open is None:
            return
        said.append(PartEnded(self._next - 1))
        if self._open == "tool":
            self._ended.add(self._tool)
        self._open = None
        waiting, self._waiting = self._waiting, []
        for key, call in waiting:
            self._read_call(key, call, said)

    def _key(self, call: _Call) -> Key:
        """Which call a delta belongs to: by its index, by its id where a provider gives all calls one index or none."""
        if call.index is None:
            return call.id or self._tool
        known = self._ids.setdefault(call.index, call.id or "")
        named = call.function is not None and call.function.name
        return call.id if call.id and known and call.id != known and named else call.index

    def _read_call(self, key: Key, call: _Call, said: list[Event]) -> None:
        if key in self._ended:
            return
        while self._open == "tool" and self._tool != key:
            if not self._is_whole():
                self._waiting.append((key, call))
                return
            self._close(said)
        function = call.function or call.custom or _NOTHING
        if self._open != "tool":
            self._close_all(said)
            self._custom = call.custom is not None
            ident = call.id or f"call_{self._id}_{self._next}"
            said.append(PartBegan(self._next, "tool", ident, function.name or "", self._custom))
            self._open, self._tool, self._arguments, self._whole = "tool", key, [], None
            self._next += 1
        text = function.arguments or function.input
        if text:
            said.append(PartGrew(self._next - 1, text))
            self._arguments.append(text)
            self._whole = None
            if self._waiting and text.endswith("}") and self._is_whole():
                self._close(said)

    def _is_whole(self) -> bool:
        """Whether the arguments of the open call are; of a custom tool's text nobody can tell."""
        if self._whole is None:
            try:
                msgspec.json.decode("".join(self._arguments))
            except (ValueError, RecursionError):
                self._whole = False
            else:
                self._whole = not self._custom
        return self._whole
