"""What a dialect gives to be translated: four functions for whole bodies, a reader and a writer of streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.core.errors import FaregateError
from gateway.core.neutral import Ask, Event, Reply
from gateway.core.usage import Usage
from gateway.dialects.translate.writing import Names


class EventReader(Protocol):
    """Neutral events of a provider's stream. Fed one whole server-sent event at a time; never raises on what it does
    not know, which says nothing."""

    def read(self, event: bytes) -> list[Event]: ...

    def end(self) -> list[Event]:
        """What is still open when the stream has come to its own end."""
        ...


class EventWriter(Protocol):
    """A stream in the caller's dialect."""

    def write(self, event: Event) -> bytes: ...

    def end(self, usage: Usage | None) -> tuple[bytes, bytes]:
        """(what comes before the terminal event, the terminal event)."""
        ...

    def failed(self, error: FaregateError) -> bytes:
        """What ends a stream that cannot be completed."""
        ...


class Codec(Protocol):
    """A dialect in both directions. `names` tells the caller's members by their neutral names, for what was dropped."""

    @property
    def surface(self) -> str:
        """The surface that it reads and writes: `messages`."""
        ...

    @property
    def upstream_headers(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def tool_name_chars(self) -> int: ...

    @property
    def names(self) -> Mapping[str, str]: ...

    def read_ask(self, body: bytes) -> Ask:
        """Raises BadRequest."""
        ...

    def write_ask(self, ask: Ask, model: str, max_output_tokens: int, names: Names) -> tuple[bytes, tuple[str, ...]]:
        """The body and the neutral names of what was left out. Raises BadRequest for what must not be."""
        ...

    def read_reply(self, body: bytes, usage: Usage | None) -> Reply: ...

    def write_reply(self, reply: Reply, ask: Ask, created_s: int) -> bytes: ...

    def reader(self) -> EventReader: ...

    def writer(self, ask: Ask, usage_asked: bool, created_s: int) -> EventWriter: ...
