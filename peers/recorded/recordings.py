"""Other people's recordings of real providers, read out of their packages where `make test-recorded` unpacked them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / ".peers/recorded"
CHAT, MESSAGES, RESPONSES = "chat.completions", "messages", "responses"
_BY_KIND = {"message": MESSAGES, "chat.completion": CHAT, "chat.completion.chunk": CHAT, "response": RESPONSES}
_UNASKED = {"model": "m", "max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
"""The request of a recording that has none."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A reply of a provider as its bytes came, and the request for it."""

    name: str
    surface: str
    asked: bytes
    answered: bytes
    streamed: bool


def recordings() -> tuple[Recording, ...]:
    """All of them, each reply once, in the order of their names."""
    found: dict[str, Recording] = {}
    for recording in [*_of_the_sdk(), *_of_langchain()]:
        found.setdefault(hashlib.sha256(recording.answered).hexdigest(), recording)
    return tuple(sorted(found.values(), key=lambda one: one.name))


def _of_the_sdk() -> Iterator[Recording]:
    """Streams of Messages that Anthropic's SDK is tested with."""
    for pattern in ("anthropic-*/tests/lib/streaming/fixtures/*.txt", "anthropic-*/tests/fixtures/**/*.sse"):
        for path in FOLDER.glob(pattern):
            yield Recording(f"anthropic/{path.stem}", MESSAGES, json.dumps(_UNASKED).encode(), path.read_bytes(), True)


def _of_langchain() -> Iterator[Recording]:
    """Cassettes of calls that LangChain's packages made of the three APIs; other traffic in them is passed over."""
    for path in FOLDER.glob("langchain_*/tests/cassettes/*.yaml.gz"):
        package = path.parts[-4].partition("_")[2].partition("-")[0]
        with gzip.open(path) as cassette:
            held = yaml.load(cassette, Loader=yaml.CSafeLoader)
        for number, (asked, answered) in enumerate(zip(held["requests"], held["responses"], strict=True)):
            body, reply = _bytes(asked["body"]), _bytes(answered["body"]["string"])
            surface, streamed = _kind(reply)
            if surface and body.startswith(b"{") and answered["status"]["code"] == 200:
                name = f"langchain-{package}/{path.name.removesuffix('.yaml.gz')}.{number}"
                yield Recording(name, surface, body, reply, streamed)


def _bytes(body: bytes | str | None) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""


def _kind(reply: bytes) -> tuple[str, bool]:
    """(surface, whether it is a stream) of a reply; no surface for a reply of something else."""
    if reply.lstrip().startswith(b"{"):
        try:
            members = json.loads(reply)
        except ValueError:
            return "", False
        return _BY_KIND.get(str(members.get("object") or members.get("type")), ""), False
    for line in reply.splitlines():
        if line.startswith(b"data: {"):
            return _surface_of(json.loads(line[6:])), True
    return "", False


def _surface_of(first: Any) -> str:
    if first.get("type") == "message_start":
        return MESSAGES
    return RESPONSES if str(first.get("type")).startswith("response.") else _BY_KIND.get(str(first.get("object")), "")
