"""JSON Schemas as the other dialect takes them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.neutral import Tool
from gateway.dialects.json_body import open_members, raw_json, write_members

EMPTY_OBJECT = msgspec.Raw(b'{"type":"object","properties":{}}')
_ONE_TEXT = msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
_ENCODER = msgspec.json.Encoder()
_NAMED = frozenset({"properties", "$defs", "definitions"})
_LISTED = frozenset({"anyOf", "allOf", "oneOf"})
_UNKNOWN = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "contains", "minContains", "maxContains", "minProperties", "maxProperties",
})  # fmt: skip
"""What Anthropic's structured outputs answer with an error; its SDKs tell the model of them in words, too."""


def arguments_schema(tool: Tool) -> msgspec.Raw:
    """The schema of a function's arguments; a custom tool takes one text. Anthropic demands `type`, OpenAI `properties`
    of an object: an application of the other one may have left them out. Raises BadRequest."""
    if tool.custom:
        return _ONE_TEXT
    if tool.schema is None:
        return EMPTY_OBJECT
    members = open_members(tool.schema)
    if members is None:
        raise BadRequest(f"The schema of the tool {tool.name[:64]!r} must be a JSON object.", param="tools")
    if "type" not in members:
        members = {"type": raw_json("object"), **members}
    elif "properties" in members:
        return tool.schema
    if "properties" not in members and bytes(members["type"]) == b'"object"':
        members["properties"] = msgspec.Raw(b"{}")
    return msgspec.Raw(write_members(members))


def closed(schema: msgspec.Raw) -> msgspec.Raw:
    """The schema as Anthropic's structured outputs take it: every object with `additionalProperties: false`, and limits
    that they do not know as words of the description. Raises BadRequest."""
    try:
        return msgspec.Raw(_ENCODER.encode(_closed(msgspec.json.decode(schema))))
    except ValueError as error:
        raise BadRequest(f"The schema of the answer cannot be read: {error}", param="response_format") from error


def _closed(value: object) -> object:
    if not isinstance(value, dict):
        return value
    made: dict[str, object] = {}
    limits: list[str] = []
    for name, inner in value.items():
        if name in _UNKNOWN or (name == "minItems" and inner not in (0, 1)):
            limits.append(f"{name}: {_ENCODER.encode(inner).decode()}")
        elif name in _NAMED and isinstance(inner, dict):
            made[name] = {key: _closed(item) for key, item in inner.items()}
        elif name in _LISTED and isinstance(inner, list):
            made["anyOf" if name == "oneOf" else name] = [_closed(item) for item in inner]
        else:
            made[name] = _closed(inner) if name == "items" else inner
    if _is_object(made):
        made["additionalProperties"] = False
    if limits:
        described = made.get("description")
        words = [described] if isinstance(described, str) else []
        made["description"] = " ".join([*words, f"({', '.join(limits)})"])
    return made


def _is_object(schema: dict[str, object]) -> bool:
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or (kind is None and "properties" in schema)
    )


def fits_strict(schema: msgspec.Raw | None) -> bool:
    """Whether OpenAI takes the schema as a strict one: all its objects are closed and demand every property."""
    try:
        return schema is not None and _fits(msgspec.json.decode(schema))
    except ValueError:
        return False


def _fits(value: object) -> bool:
    if not isinstance(value, dict):
        return True
    named = [inner for name in _NAMED for inner in _values(value.get(name))]
    listed = [item for name in _LISTED for item in _values(value.get(name))]
    if _is_object(value):
        properties, required = value.get("properties") or {}, value.get("required") or []
        whole = isinstance(properties, dict) and isinstance(required, list) and set(properties) <= set(required)
        if not whole or value.get("additionalProperties") is not False:
            return False
    return all(_fits(inner) for inner in [*named, *listed, value.get("items")])


def _values(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
