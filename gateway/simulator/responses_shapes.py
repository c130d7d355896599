"""What the simulator reads of Responses requests, and how it turns them into the chat it drafts replies to."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gateway.simulator.shapes import TIERS, TextRequest, encode

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_PARTS = {"input_image": "image_url", "input_audio": "input_audio", "input_file": "file"}
_TOOL_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})


class ResponseRequest(msgspec.Struct):
    """A request to create a response, to count its input, or to compact it."""

    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    max_output_tokens: _Positive | None = None
    max_tool_calls: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    service_tier: str | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    text: dict[str, Any] | None = None

    @property
    def tier(self) -> str:
        return TIERS.get(self.service_tier or "", "default")

    def items(self) -> list[dict[str, Any]]:
        """The input as items."""
        if isinstance(self.input, str):
            part = {"type": "input_text", "text": self.input}
            return [{"type": "message", "role": "user", "content": [part]}]
        return list(self.input or ())

    def called(self) -> str:
        """The function that the request makes the model call; empty where it may answer in words."""
        named = [str(tool.get("name")) for tool in self.tools or () if tool.get("type") == "function"]
        match self.tool_choice:
            case {"type": "function", "name": str(name)}:
                return name
            case "required" if named:
                return named[0]
        return ""


def as_chat(request: ResponseRequest, before: list[dict[str, Any]]) -> TextRequest:
    """The chat that says the same: instructions, the items `before` it, its own items."""
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    messages += [_message(item) for item in (*before, *request.items())]
    return TextRequest(
        model=request.model,
        messages=messages,
        max_completion_tokens=request.max_output_tokens,
        tools=request.tools,
        service_tier=request.service_tier,
    )


def _message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind in _TOOL_OUTPUTS:
        return {"role": "tool", "content": _content(item.get("output"))}
    if kind == "message":
        return {"role": item.get("role", "user"), "content": _content(item.get("content"))}
    return {"role": "assistant", "content": encode({**item, "id": ""}).decode()}


def _content(content: object) -> object:
    if not isinstance(content, list):
        return content
    return [part | {"type": _PARTS.get(str(part.get("type")), "text")} for part in content if isinstance(part, dict)]


def arguments_for(request: ResponseRequest, name: str, topic: str) -> str:
    """Arguments that fit a function's schema as far as it names types: each required property, or all of them."""
    tool = next((one for one in request.tools or () if one.get("name") == name), {})
    schema = tool.get("parameters") or {}
    properties: dict[str, Any] = schema.get("properties") or {}
    names = schema.get("required") or list(properties)
    return encode({one: _value(properties.get(one) or {}, topic) for one in names}).decode()


def _value(schema: dict[str, Any], topic: str) -> object:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "integer":
            return 1
        case "number":
            return 1.5
        case "boolean":
            return True
        case "array":
            return [_value(schema.get("items") or {}, topic)]
        case "object":
            inner: dict[str, Any] = schema.get("properties") or {}
            return {name: _value(one or {}, topic) for name, one in inner.items()}
    return topic
