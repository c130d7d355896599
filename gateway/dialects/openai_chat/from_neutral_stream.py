"""Neutral events as the chunks of a chat completion."""

from __future__ import annotations

import msgspec

from gateway.core.errors import FaregateError
from gateway.core.neutral import (
    Began,
    Event,
    Finished,
    PartBegan,
    PartEnded,
    PartGrew,
    PartSealed,
    Thinking,
)
from gateway.core.usage import Usage
from gateway.dialects.openai_chat.errors import stream_error
from gateway.dialects.openai_chat.from_neutral import FINISHES, completion_id, usage_members
from gateway.dialects.translate.seals import block_of
from gateway.dialects.translate.writing import fitting_id

_ENCODER = msgspec.json.Encoder()
_DONE = b"data: [DONE]\n\n"
_CHOICE = b'{"index":0,"delta":'
_GOES_ON = b',"logprobs":null,"finish_reason":null}'

Json = dict[str, object]


class ChatWriter:
    """Every chunk has the same id, time and model. `usage` is null in all of them if it was asked for, and comes in a
    chunk of its own at the end."""

    def __init__(self, usage_asked: bool, created_s: int) -> None:
        self._usage_asked = usage_asked
        self._created_s = created_s
        self._before = b""
        self._after = b""
        self._tools = -1
        self._kind = ""
        self._custom = False
        self._grew = False
        self._thought: list[str] = []
        self._blocks = 0
        self._text_before = b""
        self._text_after = b""

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
                block = {"index": self._blocks, **block_of(thinking)}  # OpenAI's SDKs gather lists by it
                self._blocks += 1
                return self._chunk({"thinking_blocks": [block]})
            case PartEnded():
                return self._grow("{}") if self._lacks_arguments() else b""
            case Finished():
                return self._write(b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}' % (
                    FINISHES[event.finish].encode()
                ))  # fmt: skip
        return b""

    def end(self, usage: Usage | None) -> tuple[bytes, bytes]:
        if not self._usage_asked or usage is None:
            return b"", _DONE
        said = (
            self._before
            + b"]"
            + self._after.replace(b'"usage":null', b'"usage":' + _ENCODER.encode(usage_members(usage)))
        )
        return said, _DONE

    def failed(self, error: FaregateError) -> bytes:
        return stream_error(error)

    def _begin(self, event: Began) -> bytes:
        head = {
            "id": completion_id(event.id),
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": event.model,
        }
        self._before = b"data: " + _ENCODER.encode(head)[:-1] + b',"choices":['
        self._after = (b',"usage":null}' if self._usage_asked else b"}") + b"\n\n"
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _begin_part(self, event: PartBegan) -> bytes:
        self._kind, self._custom, self._grew, self._thought = event.kind, event.custom, False, []
        if event.kind != "tool":
            self._surround()
            return b""
        self._tools += 1
        self._surround()
        call: Json = {"index": self._tools, "id": fitting_id(event.tool_id)}
        if event.custom:
            call |= {"type": "custom", "custom": {"name": event.name, "input": ""}}
        else:
            call |= {"type": "function", "function": {"name": event.name, "arguments": ""}}
        return self._chunk({"tool_calls": [call]})

    def _lacks_arguments(self) -> bool:
        return self._kind == "tool" and not self._custom and not self._grew

    def _grow(self, text: str) -> bytes:
        """More of the open part: what is around its text is written once a part."""
        self._grew = True
        if self._kind == "thinking":
            self._thought.append(text)
        return self._text_before + _ENCODER.encode(text) + self._text_after

    def _surround(self) -> None:
        delta: Json
        match self._kind:
            case "thinking":
                delta = {"reasoning_content": ""}
            case "refusal":
                delta = {"refusal": ""}
            case "tool" if self._custom:
                delta = {"tool_calls": [{"index": self._tools, "custom": {"input": ""}}]}
            case "tool":
                delta = {"tool_calls": [{"index": self._tools, "function": {"arguments": ""}}]}
            case _:
                delta = {"content": ""}
        before, _, after = _ENCODER.encode(delta).rpartition(b'""')
        self._text_before = self._before + _CHOICE + before
        self._text_after = after + _GOES_ON + b"]" + self._after

    def _chunk(self, delta: Json) -> bytes:
        return self._write(_CHOICE + _ENCODER.encode(delta) + _GOES_ON)

    def _write(self, choice: bytes) -> bytes:
        return self._before + choice + b"]" + self._after
