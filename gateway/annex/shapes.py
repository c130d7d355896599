"""litellm's replies as OpenAI's: one id in a stream, no empty extras, the usage chunk last and without choices."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Iterable, Mapping

import msgspec

from gateway.annex.usage import Fields, reported_usage

_ENCODER = msgspec.json.Encoder()
DONE = b"data: [DONE]\n\n"


def event(fields: Mapping[str, object]) -> bytes:
    return b"data: " + _ENCODER.encode(fields) + b"\n\n"


def chat_reply(fields: Fields, vendor: str) -> bytes:
    """A whole chat completion."""
    kept = _without_empty(fields)
    choices = _objects(fields.get("choices"))
    produced = any(_says_something(choice.get("message")) for choice in choices)
    return _with_usage(kept, reported_usage(fields.get("usage"), vendor, has_output=True, produced=produced))


def embedding_reply(fields: Fields, vendor: str, *, base64: bool) -> bytes:
    """Embeddings, as numbers or as base64 of little-endian floats: OpenAI's SDK asks for those unless told else."""
    kept = _without_empty(fields)
    if base64:
        kept["data"] = [_packed(item) for item in _objects(fields.get("data"))]
    return _with_usage(kept, reported_usage(fields.get("usage"), vendor, has_output=False))


def _packed(item: Fields) -> Fields:
    vector = item.get("embedding")
    if not isinstance(vector, list):
        return item
    return {**item, "embedding": b64encode(array("f", vector).tobytes()).decode("ascii")}


def _with_usage(fields: Fields, usage: Fields | None) -> bytes:
    fields.pop("usage", None)
    return _ENCODER.encode(fields if usage is None else {**fields, "usage": usage})


def _without_empty(fields: Mapping[str, object]) -> Fields:
    """Without the empty lists and objects that litellm adds for each thing a vendor did not say."""
    return {name: value for name, value in fields.items() if value is not None and value not in ([], {})}


def _objects(value: object) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _says_something(message: object) -> bool:
    if not isinstance(message, Mapping):
        return False
    return any(message.get(name) for name in ("content", "reasoning_content", "refusal", "tool_calls", "function_call"))


class ChatStream:
    """Chunks of one stream, in litellm's order and OpenAI's shape."""

    __slots__ = ("_created", "_id", "_model", "_produced", "_usage", "_vendor")

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._id: object = None
        self._created: object = None
        self._model: object = None
        self._produced = False
        self._usage: object = None

    def feed(self, chunk: Fields) -> bytes:
        """The event of a chunk; empty for one that only brings usage."""
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        choices = _objects(chunk.get("choices"))
        if not choices:
            return b""
        self._id = self._id or chunk.get("id")
        self._created = self._created or chunk.get("created")
        self._model = self._model or chunk.get("model")
        self._produced = self._produced or any(_says_something(choice.get("delta")) for choice in choices)
        rest = _without_empty(chunk)
        rest.pop("usage", None)
        rest["choices"] = [{"index": 0, "delta": {}, "finish_reason": None, **choice} for choice in choices]
        return event({**rest, **self._head()})

    def end(self, *, usage_asked: bool) -> Iterable[bytes]:
        """What follows the last chunk."""
        usage = reported_usage(self._usage, self._vendor, has_output=True, produced=self._produced)
        if usage_asked and usage is not None:
            yield event({**self._head(), "choices": [], "usage": usage})
        yield DONE

    def _head(self) -> Fields:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
