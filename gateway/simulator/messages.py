"""Anthropic's Messages as the simulator speaks them: text, thinking on request, a tool call where one is demanded.

Cache markers make a prompt's long prefixes be written (for as long as the longest `ttl` says) and read again. Usage is
Anthropic's: what is cached stands beside `input_tokens`, the first event has the input and a placeholder of the output.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gateway.simulator.draft import CACHE_STEP_TOKENS, CACHE_TOKENS_MIN, Choice, Draft, PromptCache, draft_reply
from gateway.simulator.exchange import Refused
from gateway.simulator.shapes import TextRequest, chat_prompt, encode, last_question
from gateway.simulator.text import tokenize, topics_of

_THINKING_MODEL = "sim-reasoning"
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
_TYPES = {404: "not_found_error", 413: "request_too_large"}


class Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]]


class Named(msgspec.Struct):
    type: str = ""
    name: str = ""


class Tool(msgspec.Struct):
    name: str = ""
    input_schema: dict[str, Any] = {}


class MessagesRequest(msgspec.Struct):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    system: str | list[dict[str, Any]] = ""
    stream: bool | None = None
    tools: list[Tool] | None = None
    tool_choice: Named | None = None
    thinking: Named | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    cache_control: dict[str, Any] | None = None


DECODER = msgspec.json.Decoder(MessagesRequest)


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A draft with what Anthropic tells apart. `tool` is the name of the tool whose input the answer is."""

    draft: Draft
    read_tokens: int
    written_tokens: int
    lives_long: bool
    tool: str = ""

    def usage(self, output_tokens: int, thinking_tokens: int | None = None) -> dict[str, object]:
        written, long = self.written_tokens, self.written_tokens if self.lives_long else 0
        usage: dict[str, object] = {
            "input_tokens": self.draft.prompt_tokens - self.read_tokens - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": self.read_tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": written - long, "ephemeral_1h_input_tokens": long},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }
        return usage if not thinking_tokens else usage | {"output_tokens_details": {"thinking_tokens": thinking_tokens}}


def draft_message(request: MessagesRequest, tokens: int | None, seed: int, cache: PromptCache) -> MessageDraft:
    """The reply to a request: the same for the same request, seed and `tokens` (None: its own length)."""
    thinks = request.thinking is not None and request.thinking.type in ("enabled", "adaptive")
    tool = _demanded_tool(request)
    asked = _as_chat(request, _THINKING_MODEL if thinks else request.model)
    draft = dataclasses.replace(draft_reply(asked, tokens, seed, PromptCache()), model=request.model)
    if tool is not None:
        said = tuple(tokenize(encode(_tool_input(tool, topics_of(last_question(asked)))).decode()))
        choice = Choice(draft.choices[0].thoughts, said, "stop")
        draft = dataclasses.replace(draft, choices=(choice,))
    read = written = 0
    marked = encode(request)
    if b'"cache_control"' in marked:
        whole = chat_prompt(asked)
        read = cache.cached_tokens(f"messages/{request.model}", whole)
        steps = (len(whole) - CACHE_TOKENS_MIN) // CACHE_STEP_TOKENS
        written = CACHE_TOKENS_MIN + steps * CACHE_STEP_TOKENS - read if steps >= 0 else 0
    return MessageDraft(
        dataclasses.replace(draft, cached_tokens=read), read, written, b'"1h"' in marked, tool.name if tool else ""
    )


def _as_chat(request: MessagesRequest, model: str) -> TextRequest:
    """The request as the simulator counts and drafts it."""
    told: list[dict[str, Any]] = [{"role": "system", "content": _parts(request.system)}] if request.system else []
    told += [{"role": message.role, "content": _parts(message.content)} for message in request.messages]
    tools = [msgspec.to_builtins(tool) for tool in request.tools or ()]
    return TextRequest(model=model, messages=told, tools=tools, max_tokens=request.max_tokens)


def _parts(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Blocks as the counter of chat prompts knows them."""
    return content if isinstance(content, str) else _listed(content)


def _listed(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for block in content:
        match block:
            case {"type": "image"}:
                parts.append({"type": "image_url"})
            case {"type": "document"}:
                parts.append({"type": "file"})
            case {"text": str(text)} | {"thinking": str(text)}:
                parts.append({"text": text})
            case {"type": "tool_result", "content": list(inner)}:
                parts += _listed(inner)
            case {"type": "tool_result", "content": str(text)}:
                parts.append({"text": text})
            case {"type": "tool_use"}:
                parts.append({"text": encode(block.get("input")).decode()})
    return parts


def _demanded_tool(request: MessagesRequest) -> Tool | None:
    """The tool that the request insists on."""
    choice, tools = request.tool_choice, request.tools or []
    if choice is None or choice.type not in ("any", "tool") or not tools:
        return None
    return next((tool for tool in tools if tool.name == choice.name), tools[0])


def _tool_input(tool: Tool, topics: list[str]) -> dict[str, object]:
    """A value for each property of the tool's schema."""
    samples: dict[object, object] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = tool.input_schema.get("properties", {})
    return {
        name: samples.get(schema.get("type"), topics[at % len(topics)])
        for at, (name, schema) in enumerate(properties.items())
    }


def error_body(kind: str, message: str) -> bytes:
    return encode({"type": "error", "error": {"type": kind, "message": message}})


def in_own_words(refused: Refused) -> Refused:
    """A refusal in Anthropic's shape."""
    refused.body = error_body(_TYPES.get(refused.status, refused.kind), refused.message)
    return refused


_OVERLOADED = error_body("overloaded_error", "The simulated provider failed on request (x-sim-fault).")


def _event(body: Mapping[str, object]) -> bytes:
    return f"event: {body['type']}\n".encode() + b"data: " + encode(body) + b"\n\n"


class MessageVoice:
    """The draft as a message, whole or as events. `usage` None leaves usage out where the reply would have it."""

    refusals: Mapping[str, tuple[int, bytes]] = {
        "refuse-429": (429, error_body("rate_limit_error", "Simulated rate limit.")),
        "500": (500, error_body("api_error", "The simulated provider failed on request (x-sim-fault).")),
        "401": (401, error_body("authentication_error", "Simulated refusal of the key.")),
    }
    error_event = b"event: error\ndata: " + _OVERLOADED + b"\n\n"
    done = _event({"type": "message_stop"})

    def __init__(self, draft: MessageDraft, streams: bool, reply_id: str, usage: dict[str, object] | None) -> None:
        self.streams = streams
        self._draft = draft
        self._choice = draft.draft.choices[0]
        self._id = reply_id
        self._usage = usage
        self._blocks = 0

    @staticmethod
    def of(draft: MessageDraft, request: MessagesRequest, fault: str) -> MessageVoice:
        choice = draft.draft.choices[0]
        usage: dict[str, object] | None = draft.usage(choice.tokens, len(choice.thoughts))
        if fault == "no-usage":
            usage = None
        elif fault == "bad-usage":
            usage = draft.usage(choice.tokens) | {"output_tokens_details": {"thinking_tokens": choice.tokens + 7}}
        return MessageVoice(draft, bool(request.stream), f"msg_sim{os.urandom(9).hex()}", usage)

    @property
    def _stop_reason(self) -> str:
        return "tool_use" if self._draft.tool else _STOP_REASONS[self._choice.finish_reason]

    def _message(self, content: list[dict[str, object]], stop_reason: str | None) -> dict[str, object]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._draft.draft.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
        }

    def whole(self) -> bytes:
        content: list[dict[str, object]] = []
        if self._choice.thoughts:
            content.append(_thinking("".join(self._choice.thoughts)) | {"signature": self._signature})
        said = "".join(self._choice.answer)
        if self._draft.tool:
            content.append(self._tool_use(msgspec.json.decode(said)))
        elif said:
            content.append({"type": "text", "text": said})
        message = self._message(content, self._stop_reason)
        return encode(message if self._usage is None else message | {"usage": self._usage})

    @property
    def _signature(self) -> str:
        return f"sim+{self._id}/=="

    def _tool_use(self, given: object) -> dict[str, object]:
        return {"type": "tool_use", "id": f"toolu_{self._id[7:]}", "name": self._draft.tool, "input": given}

    def openings(self) -> bytes:
        message = self._message([], None)
        if self._usage is not None:
            message["usage"] = self._draft.usage(1)
        return _event({"type": "message_start", "message": message}) + _event({"type": "ping"})

    def tokens(self) -> Iterator[bytes]:
        """One delta for each token, the first of a block behind the block's begin."""
        for token in self._choice.thoughts:
            yield self._begun(_thinking("")) + self._delta("thinking_delta", "thinking", token)
        closing = self._closed_thinking() if self._choice.thoughts else b""
        written = len(self._choice.thoughts) > 0
        for token in self._choice.answer:
            begin = b""
            if self._blocks == written:
                empty: dict[str, object] = self._tool_use({}) if self._draft.tool else {"type": "text", "text": ""}
                begin, closing = closing + self._begun(empty, at=int(written)), b""
            kind = ("input_json_delta", "partial_json") if self._draft.tool else ("text_delta", "text")
            yield begin + self._delta(*kind, token)

    def _begun(self, block: dict[str, object], at: int = 0) -> bytes:
        if self._blocks > at:
            return b""
        self._blocks += 1
        return _event({"type": "content_block_start", "index": at, "content_block": block})

    def _delta(self, kind: str, name: str, token: str) -> bytes:
        delta = {"type": kind, name: token}
        return _event({"type": "content_block_delta", "index": self._blocks - 1, "delta": delta})

    def _closed_thinking(self) -> bytes:
        delta = {"type": "signature_delta", "signature": self._signature}
        signed = _event({"type": "content_block_delta", "index": 0, "delta": delta})
        return signed + _event({"type": "content_block_stop", "index": 0})

    def endings(self) -> bytes:
        closed = _event({"type": "content_block_stop", "index": self._blocks - 1}) if self._blocks else b""
        delta = {"stop_reason": self._stop_reason, "stop_sequence": None}
        body: dict[str, object] = {"type": "message_delta", "delta": delta}
        return closed + _event(body if self._usage is None else body | {"usage": self._usage})

    def usage_chunk(self) -> bytes:
        return b""


def _thinking(text: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": text}
