"""The port behind the annex's endpoints: vendors' calls, as litellm makes them and as tests fake them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

from gateway.annex.failures import Redactor
from gateway.annex.spec import ServedProvider
from gateway.annex.usage import Fields


class Whole(NamedTuple):
    """A whole reply in litellm's shape; `cost` is litellm's own figure in USD, if it has one."""

    fields: Fields
    cost: object = None


class Engine(Protocol):
    """Calls of vendors. Each method raises Refusal or OutcomeUnknown. A cancelled call has closed its connection."""

    @property
    def redactor(self) -> Redactor: ...

    async def chat(self, provider: ServedProvider, model: str, fields: Fields) -> Whole: ...

    def chat_stream(self, provider: ServedProvider, model: str, fields: Fields) -> AsyncGenerator[Fields, None]:
        """Chunks in litellm's shape. Closing it ends the vendor's work."""
        ...

    async def embeddings(self, provider: ServedProvider, model: str, fields: Fields) -> Whole: ...

    async def rerank(self, provider: ServedProvider, model: str, fields: Fields) -> Whole: ...

    def reload(self) -> None:
        """Reads credential files again at their next use."""
        ...
