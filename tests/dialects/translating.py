"""What the cases of translation are asked and told with: a request as sent, a stream as the caller gets it."""

from __future__ import annotations

import json
from typing import Any

from dialects.examples_messages import event
from gateway.core.ports import StreamTap, Wire
from gateway.dialects.discover import discover, discover_translations

SURFACES = discover()
WIRES = {(own, wire.name): wire for own, wires in discover_translations(SURFACES).items() for wire in wires}
CHAT, MESSAGES, RESPONSES = "chat.completions", "messages", "responses"
CLAUDE, OLD_CLAUDE, GPT = "claude-opus-4-8", "claude-3-7-sonnet-20250219", "gpt-6"
USER = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
STOP = event({"type": "message_stop"})


def began(
    own: str, theirs: str, asked: dict[str, Any], model: str, most: int = 8000
) -> tuple[Wire, Any, tuple[str, ...]]:
    """The attempt's wire, the body as sent, and what was left out."""
    body = json.dumps({"model": "m", **asked}).encode()
    wire = WIRES[own, theirs].for_attempt(most, 1_790_000_000_000)
    sent, dropped = wire.outgoing(body, SURFACES[own].read_head(body), model)
    return wire, json.loads(sent), dropped


def sent(own: str, theirs: str, asked: dict[str, Any], model: str = CLAUDE, most: int = 8000) -> Any:
    return began(own, theirs, asked, model, most)[1]


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages) or [USER], **more}


def asked_of_claude(*messages: Any, model: str = CLAUDE, **more: Any) -> Any:
    return sent(CHAT, MESSAGES, chat(*messages, **more), model)


def dropped_by_claude(model: str = CLAUDE, **more: Any) -> tuple[str, ...]:
    return began(CHAT, MESSAGES, chat(**more), model)[2]


def tapped(own: str, theirs: str, asked: dict[str, Any], model: str = CLAUDE) -> StreamTap:
    body = json.dumps({"model": "m", "stream": True, **asked}).encode()
    wire = WIRES[own, theirs].for_attempt(8000, 1_790_000_000_000)
    head = SURFACES[own].read_head(body)
    wire.outgoing(body, head, model)
    return wire.tap(head)


def events_of(stream: bytes) -> list[Any]:
    """The data of a stream's events, `[DONE]` as that text."""
    lines = [line[6:] for line in stream.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
