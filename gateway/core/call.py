"""A call in neutral form with its raw bytes, what a dialect reads out of it, and what it will be answered with."""

from __future__ import annotations

import msgspec

from gateway.core.charge import CostState
from gateway.core.usage import Usage


class Head(msgspec.Struct, frozen=True):
    """What a surface reads of a request body without decoding the rest.

    `max_output_tokens` is the caller's own limit per choice (None: not given). `text_bytes` are UTF-8 bytes of the
    body, the basis of estimate and bound. `unknown_fields` are top-level members this version does not know: they are
    forwarded, and force the dearest price rows in the bound. `usage_asked` says whether the caller wants usage in the
    stream.
    """

    model: str
    stream: bool = False
    usage_asked: bool = False
    max_output_tokens: int | None = None
    choices: int = 1
    user: str = ""
    service_tier: str = ""
    messages: int = 0
    tools: int = 0
    media: int = 0
    audio: bool = False
    cache_markers: bool = False
    text_bytes: int = 0
    unknown_fields: tuple[str, ...] = ()
    output_expected: bool = True
    """False for embeddings: there is no output to hold money for."""
    inputs: int = 1
    """Texts that each have a context window of their own: the items of `input` and `prompt` arrays."""
    hosted_tools: tuple[str, ...] = ()
    """Kinds of tools that run at the provider (and may be billed by the call): no bound, as nothing limits them."""
    session: str = ""
    """The conversation it is part of, where the body tells."""
    tags: tuple[tuple[str, str], ...] = ()
    """What the body says the call is to be booked under."""
    hidden_tokens: int = 0
    """The most that a provider of the dialect adds to the prompt by itself, for tools and the like that are named."""
    cache_hours: bool = True
    """With `cache_markers`: one may ask for a write that lives an hour or more."""
    tool_calls_max: int | None = None
    """How many calls of hosted tools the request allows, all kinds together; None where it sets no limit to them, or
    where a call of one of them may cost any amount."""
    tool_meters: tuple[str, ...] = ()
    """What calls of its hosted tools are billed by, each call once."""
    previous_id: str = ""
    """The reply it goes on from, which its provider keeps, as the caller names it."""
    thinks: bool = False
    """It says how much to think, and that is not nothing."""
    own_usage: Usage | None = None
    """What a request uses as far as it says itself, where its reply says nothing or is lost: characters to be read
    aloud."""
    base64: bool = False
    """It wants numbers as base64 of little-endian float32, whatever its provider makes of that."""
    background: bool = False
    """Its reply comes before its answer: what it uses is not known when the reply is there."""


class Call(msgspec.Struct, frozen=True):
    """One request: its id, when and how it came, its bytes. Headers are lower-case, first value wins.

    `received_ns` is the monotonic clock at the first byte of the request, for overhead; `received_ms` wall time.
    """

    id: bytes
    surface: str
    body: bytes
    headers: dict[str, str]
    received_ms: int
    received_ns: int


class ReplyFacts(msgspec.Struct, frozen=True):
    """What a surface reads out of a whole reply. `usage` None: the reply carried none."""

    usage: Usage | None
    model_served: str = ""
    finish_reason: str = ""
    refusal: bool = False
    upstream_id: str = ""
    output_bytes: int = 0
    reported_nusd: int | None = None
    """The cost the provider reports in the body (`usage.cost`), beside ours, never instead of it."""


class AnswerHead(msgspec.Struct, frozen=True):
    """Status and headers of an answer; header names are lower-case bytes, as ASGI wants them."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]


class CostFact(msgspec.Struct, frozen=True):
    """What the caller may be told of the cost of its call."""

    state: CostState
    effective_nusd: int | None
