"""The events of a response's stream in neutral form. Items are known by their place, as some providers change ids."""

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
from gateway.dialects.json_body import open_members, text_of
from gateway.dialects.sse import data_of
from gateway.dialects.translate.seals import RESPONSES, unpack

_DELTAS: dict[str, PartKind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "thinking",
    "response.reasoning_text.delta": "thinking",
    "response.function_call_arguments.delta": "tool",
    "response.custom_tool_call_input.delta": "tool",
}
_BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete"})
_TOOLS = frozenset({"function_call", "custom_tool_call"})


class _Details(msgspec.Struct):
    reason: str = ""


class _Response(msgspec.Struct):
    id: str = ""
    model: str = ""
    status: str = ""
    incomplete_details: _Details | None = None


class _Item(msgspec.Struct):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    encrypted_content: str | None = None
    content: list[msgspec.Raw] | None = None


class _Said(msgspec.Struct):
    type: str = ""
    response: _Response | None = None
    item: _Item | None = None
    output_index: int = 0
    summary_index: int = 0
    delta: str = ""


_SAID = msgspec.json.Decoder(_Said)


class ResponsesReader:
    """Text begins with its first delta, tools and thinking with their item. Parallel items of one stream that mix their
    deltas are told one after the other: what comes for an item that is not open waits until that ends."""

    def __init__(self) -> None:
        self._began = False
        self._next = 0
        self._open: PartKind | None = None
        self._item = -1
        self._summary = 0
        self._grew = False
        self._waiting: list[_Said] = []
        self._tools = False
        self._refused = False
        self._finished = False

    def read(self, event: bytes) -> list[Event]:
        data = data_of(event)
        if data is None:
            return []
        try:
            said = _SAID.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return []
        told: list[Event] = []
        self._read(said, told)
        return told

    def end(self) -> list[Event]:
        return [] if self._finished else self._finish(_Response())

    def _read(self, said: _Said, told: list[Event]) -> None:
        kind = said.type
        if kind in _DELTAS:
            if self._open is not None and self._item != said.output_index:
                self._waiting.append(said)
            else:
                self._grow(_DELTAS[kind], said, told)
        elif kind == "response.output_item.added" and said.item is not None:
            self._add(said, told)
        elif kind == "response.output_item.done" and said.item is not None:
            self._done(said, told)
        elif said.response is not None and kind in _BEGINNINGS and not self._began:
            self._began = True
            told.append(Began(said.response.id, said.response.model))
        elif said.response is not None and kind in _ENDS and not self._finished:
            told.extend(self._finish(said.response))

    def _add(self, said: _Said, told: list[Event]) -> None:
        if self._open is not None:
            self._waiting.append(said)
            return
        item = said.item or _Item()
        if item.type in _TOOLS:
            self._begin("tool", said, told)
        elif item.type == "reasoning":
            self._begin("thinking", said, told)

    def _begin(self, kind: PartKind, said: _Said, told: list[Event]) -> None:
        item = said.item or _Item()
        self._open, self._item, self._summary, self._grew = kind, said.output_index, 0, False
        self._tools = self._tools or kind == "tool"
        self._refused = self._refused or kind == "refusal"
        if kind == "tool":
            told.append(
                PartBegan(
                    self._next, kind, item.call_id or item.id or "", item.name or "", item.type == "custom_tool_call"
                )
            )
        else:
            told.append(PartBegan(self._next, kind))
        self._next += 1

    def _grow(self, kind: PartKind, said: _Said, told: list[Event]) -> None:
        if not said.delta:
            return
        if self._open != kind:
            self._close(told)
            self._begin(kind, said, told)
        text = said.delta
        if kind == "thinking" and said.summary_index != self._summary:
            self._summary, text = said.summary_index, f"\n\n{text}"
        self._grew = True
        told.append(PartGrew(self._next - 1, text))

    def _done(self, said: _Said, told: list[Event]) -> None:
        item = said.item or _Item()
        if self._open is None or self._item != said.output_index:
            if self._open is not None:
                self._waiting.append(said)
            elif item.type == "message" and said.output_index != self._item:
                self._tell_whole(item, said.output_index, told)
            return
        whole = item.arguments or item.input
        if self._open == "tool" and not self._grew and whole:
            told.append(PartGrew(self._next - 1, whole))
        if self._open == "thinking" and item.encrypted_content:
            packed = unpack(item.encrypted_content)
            if packed is not None:
                told.append(PartSealed(self._next - 1, packed.seal, packed.sealed_by, packed.whole))
            else:
                told.append(PartSealed(self._next - 1, f"{item.id or ''}:{item.encrypted_content}", RESPONSES))
        self._close(told)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._read(one, told)

    def _tell_whole(self, item: _Item, output_index: int, told: list[Event]) -> None:
        """A message of which no delta came."""
        for raw in item.content or ():
            part = open_members(raw) or {}
            for kind, member in (("response.output_text.delta", "text"), ("response.refusal.delta", "refusal")):
                text = text_of(part.get(member))
                if text:
                    self._grow(_DELTAS[kind], _Said(kind, output_index=output_index, delta=text), told)
        self._close(told)

    def _close(self, told: list[Event]) -> None:
        if self._open is not None:
            self._open = None
            told.append(PartEnded(self._next - 1))

    def _finish(self, response: _Response) -> list[Event]:
        self._finished = True
        told: list[Event] = []
        self._close(told)
        while self._waiting:  # items that were never said to be done
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self._read(one, told)
            self._close(told)
        reason = response.incomplete_details.reason if response.incomplete_details is not None else ""
        if response.status == "incomplete":
            finish = Finish.FILTERED if reason == "content_filter" else Finish.LENGTH
        elif self._tools:
            finish = Finish.TOOLS
        else:
            finish = Finish.REFUSED if self._refused else Finish.STOP
        told.append(Finished(finish))
        return told
