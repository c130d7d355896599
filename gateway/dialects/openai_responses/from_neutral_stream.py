"""Neutral events as the stream of a response: every item announced, filled and closed, every event numbered."""

from __future__ import annotations

import msgspec

from gateway.core.errors import FaregateError
from gateway.core.neutral import (
    Ask,
    Began,
    Event,
    Finish,
    Finished,
    Part,
    PartBegan,
    PartEnded,
    PartGrew,
    PartSealed,
    Refusal,
    Text,
    Thinking,
    ToolUse,
)
from gateway.core.usage import Usage
from gateway.dialects.json_body import Members, raw_json
from gateway.dialects.openai_responses.errors import error_event, failed_event, untold_response
from gateway.dialects.openai_responses.from_neutral import Response, conclude, item_of, response_of, text_part

_ENCODER = msgspec.json.Encoder()

Json = dict[str, object]

_IN_TEXT: Json = {"content_index": 0}
_DELTAS: dict[str, tuple[str, Json]] = {
    "text": ("response.output_text.delta", _IN_TEXT | {"logprobs": []}),
    "refusal": ("response.refusal.delta", _IN_TEXT),
    "thinking": ("response.reasoning_summary_text.delta", {"summary_index": 0}),
    "tool": ("response.function_call_arguments.delta", {}),
    "custom": ("response.custom_tool_call_input.delta", {}),
}


class ResponsesWriter:
    """One part is open at a time; its item's place in the output is its number."""

    def __init__(self, ask: Ask, created_s: int) -> None:
        self._ask = ask
        self._created_s = created_s
        self._number = 0
        self._response: Response = {}
        self._items: list[Json] = []
        self._open: PartBegan | None = None
        self._texts: list[str] = []
        self._seal: PartSealed | None = None
        self._text_before = b""
        self._text_between = b""
        self._text_after = b""
        self._finish = Finish.STOP
        self._refused = False

    def write(self, event: Event) -> bytes:
        match event:
            case PartGrew():
                return self._grow(event.text)
            case Began():
                return self._begin(event)
            case PartBegan():
                return self._begin_part(event)
            case PartSealed():
                self._seal = event
            case PartEnded():
                return self._end_part()
            case Finished():
                self._finish = event.finish
        return b""

    def end(self, usage: Usage | None) -> tuple[bytes, bytes]:
        response = self._response
        response["output"] = self._items
        conclude(response, self._finish, usage, self._refused)
        return b"", self._say(f"response.{response['status']}", {"response": response})

    def failed(self, error: FaregateError) -> bytes:
        """What was told of the response stays; nothing is announced that is not there."""
        told: Members = untold_response()
        if self._response:
            told = {name: raw_json(value) for name, value in (self._response | {"output": self._items}).items()}
        return error_event(error, self._number) + failed_event(error, self._number + 1, told)

    def _say(self, kind: str, members: Json) -> bytes:
        said = _ENCODER.encode({"type": kind, "sequence_number": self._number, **members})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + said + b"\n\n"

    def _begin(self, event: Began) -> bytes:
        self._response = response_of(event.id, event.model, self._ask, self._created_s)
        begun: Json = {"response": self._response | {"output": []}}
        return self._say("response.created", begun) + self._say("response.in_progress", begun)

    @property
    def _place(self) -> Json:
        return {"output_index": len(self._items)}

    @property
    def _item(self) -> Json:
        return {"item_id": self._made("in_progress")["id"], **self._place}

    def _made(self, status: str) -> Json:
        """The open part's item as it stands."""
        return item_of(self._part(), f"{self._response['id']}_{len(self._items)}", status)

    def _part(self) -> Part:
        text, opened = "".join(self._texts), self._open
        if opened is None:
            return Text(text)
        match opened.kind:
            case "thinking":
                seal = self._seal
                return Thinking(text) if seal is None else Thinking(text, seal.seal, seal.sealed_by, seal.whole)
            case "tool":
                return ToolUse(opened.tool_id, opened.name, text, opened.custom, namespace=opened.namespace)
            case "refusal":
                return Refusal(text)
        return Text(text)

    def _begin_part(self, event: PartBegan) -> bytes:
        self._open, self._texts, self._seal = event, [], None
        self._refused = self._refused or event.kind == "refusal"
        announced = self._made("in_progress")
        if event.kind in ("text", "refusal"):
            announced["content"] = []
        said = self._say("response.output_item.added", {**self._place, "item": announced})
        self._surround("custom" if event.custom else event.kind)
        match event.kind:
            case "text":
                part = {**self._item, "content_index": 0, "part": text_part("")}
                return said + self._say("response.content_part.added", part)
            case "refusal":
                part = {**self._item, "content_index": 0, "part": {"type": "refusal", "refusal": ""}}
                return said + self._say("response.content_part.added", part)
        return said

    def _grow(self, text: str) -> bytes:
        """More of the open part: what is around its text is written once a part, its number each time."""
        opened = self._open
        if opened is None:
            return b""
        said = b""
        if opened.kind == "thinking" and not self._texts:
            part = {"type": "summary_text", "text": ""}
            said = self._say("response.reasoning_summary_part.added", {**self._item, "summary_index": 0, "part": part})
        self._texts.append(text)
        said += self._text_before + str(self._number).encode() + self._text_between + _ENCODER.encode(text)
        self._number += 1
        return said + self._text_after

    def _surround(self, kind: str) -> None:
        """Prepares the bytes around the texts of the part that begins."""
        name, members = _DELTAS[kind]
        head = b"event: " + name.encode() + b'\ndata: {"type":"' + name.encode() + b'","sequence_number":'
        around = _ENCODER.encode({**self._item, **members, "delta": ""})
        before, _, after = around.rpartition(b'""')
        self._text_before, self._text_between = head, b"," + before.removeprefix(b"{")
        self._text_after = after + b"\n\n"

    def _end_part(self) -> bytes:
        opened = self._open
        if opened is None:
            return b""
        whole = self._made("completed")
        said = b"".join([self._say(kind, self._item | members) for kind, members in self._done(opened, whole)])
        said += self._say("response.output_item.done", {**self._place, "item": whole})
        self._items.append(whole)
        self._open = None
        return said

    def _done(self, opened: PartBegan, whole: Json) -> list[tuple[str, Json]]:
        text = "".join(self._texts)
        match opened.kind:
            case "thinking" if self._texts:
                part = {"type": "summary_text", "text": text}
                return [
                    ("response.reasoning_summary_text.done", {"summary_index": 0, "text": text}),
                    ("response.reasoning_summary_part.done", {"summary_index": 0, "part": part}),
                ]
            case "thinking":
                return []
            case "tool" if opened.custom:
                return [("response.custom_tool_call_input.done", {"input": text})]
            case "tool":
                arguments = {"arguments": whole["arguments"], "name": whole["name"]}
                return [("response.function_call_arguments.done", arguments)]
            case "refusal":
                part = {"type": "refusal", "refusal": text}
                return [
                    ("response.refusal.done", {"content_index": 0, "refusal": text}),
                    ("response.content_part.done", {"content_index": 0, "part": part}),
                ]
        return [
            ("response.output_text.done", {"content_index": 0, "text": text, "logprobs": []}),
            ("response.content_part.done", {"content_index": 0, "part": text_part(text)}),
        ]
