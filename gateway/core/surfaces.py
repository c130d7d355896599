"""The ports of the dialects: how an endpoint of a caller is read and answered, and how a provider is spoken to for it.

Part of `ports`, which is where they are imported from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import FaregateError
from gateway.core.quirks import PLAIN, ErrorFacts, Quirks
from gateway.core.usage import Usage


class StreamTap(Protocol):
    """Reads an upstream event stream as its bytes go by.

    Feed it every chunk; what it returns may go to the caller at once. The terminal event (`[DONE]`) is kept back in
    `terminal` until the call is settled. Fields grow as events arrive.
    """

    terminal: bytes

    @property
    def model_served(self) -> str: ...

    @property
    def finish_reason(self) -> str: ...

    @property
    def refusal(self) -> bool: ...

    @property
    def upstream_id(self) -> str: ...

    @property
    def output_bytes(self) -> int: ...

    @property
    def events(self) -> int: ...

    @property
    def error(self) -> str: ...

    @property
    def reported_nusd(self) -> int | None: ...

    @property
    def usage(self) -> Usage | None:
        """What the provider has told so far; of source ESTIMATED while a part of it is one."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay now. Raises UpstreamInvalidReply for a line over 4 MiB."""
        ...

    def finish(self) -> bytes:
        """What is left when the upstream has ended: a final event without its blank line."""
        ...

    def ending(self, failure: FaregateError) -> bytes:
        """What ends a stream that cannot be completed, in the caller's dialect: an error event, numbered as the events
        before it where those are; or what the provider itself said at its end and was kept back. Empty where its error
        has been relayed already."""
        ...

    @property
    def unmetered_bytes(self) -> int:
        """Of `output_bytes`, those that came after the last usage: what it cannot know of. 0 while there is none."""
        ...

    @property
    def complete(self) -> bool:
        """True when the stream ended as its protocol says it must (a finish reason or the terminal event)."""
        ...


Outgoing = tuple[bytes, tuple[str, ...]]
"""A body as it is sent, and the caller's members that were left out of it (`messages.…` for those inside messages)."""


class Wire(Protocol):
    """How an attempt speaks to a provider for its caller: the caller's surface itself where the provider serves that,
    else a translation into one that it does serve. The caller's side of it is always in the caller's dialect."""

    @property
    def name(self) -> str:
        """The surface spoken upstream: `chat.completions`."""
        ...

    @property
    def upstream_path(self) -> str:
        """Appended to a provider's base URL: `/chat/completions`."""
        ...

    @property
    def upstream_headers(self) -> tuple[tuple[str, str], ...]:
        """What a request needs besides the headers of the provider's row."""
        ...

    def for_attempt(self, max_output_tokens: int, now_ms: int) -> Wire:
        """The wire of one attempt: itself where nothing has to be remembered between request and reply.
        `max_output_tokens` is what the model writes at most (0: unknown), for APIs that must be told."""
        ...

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        """The caller's body as sent upstream: the model's name replaced, usage asked for, what `quirks` says. Where it
        is not translated every other byte sequence is kept, and the very same object returned if nothing has to change.
        Raises BadRequest for what cannot be said upstream and must not be left out."""
        ...

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        """The caller's body with the output limit set to `tokens` a choice, every other member as it came. None where
        a provider with these quirks would not be told it, so that nothing would be limited."""
        ...

    def with_tool_limit(self, body: bytes, calls: int) -> bytes | None:
        """The caller's body with a limit to the calls of tools that run at the provider, every other member as it came.
        None where the dialect has no such member, or the caller has said something in it."""
        ...

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        """Raises UpstreamInvalidReply when a 200's body is not the upstream surface's."""
        ...

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        """The whole reply that `read_reply` accepted, as the caller gets it."""
        ...

    def read_error(self, status: int, body: bytes) -> ErrorFacts:
        """What an upstream error reply says, whatever its shape. Never raises."""
        ...

    def caller_error(self, status: int, body: bytes) -> bytes:
        """The provider's refusal (4xx) as the caller gets it. Never raises."""
        ...

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> StreamTap: ...


class Surface(Wire, Protocol):
    """One endpoint of one dialect: how to read, rewrite and answer it. Members live in `dialects/`."""

    @property
    def name(self) -> str:
        """`chat.completions`: the endpoint as records and pages name it."""
        ...

    @property
    def dialect(self) -> str: ...

    @property
    def id_headers(self) -> tuple[bytes, ...]:
        """The headers in which the dialect's SDKs look for the call's id."""
        ...

    @property
    def billed(self) -> bool:
        """False: the endpoint's answers cost nothing, whoever gives them; nothing is held or booked for them."""
        ...

    def read_head(self, body: bytes) -> Head:
        """Raises BadRequest (malformed JSON, wrong types, too deep) with `param` where one is at fault."""
        ...

    def joined(self, head: Head, headers: Mapping[str, str]) -> Head:
        """The head with what the request's headers say of the call itself; the same object where they say nothing."""
        ...

    def own_reply(self, head: Head) -> bytes | None:
        """The answer to a call that no provider of its model serves, made here; None where only one of them can."""
        ...

    def error_body(self, error: FaregateError) -> bytes: ...

    def stream_error(self, error: FaregateError) -> bytes:
        """An in-band error event; the stream then ends without its terminal event."""
        ...

    def heartbeat(self) -> bytes: ...

    def usage_comment(self, cost_usd: str | None, cost_state: str, call_id: str) -> bytes:
        """A comment event with the cost (None: unpriced), sent before the terminal event when it was asked for. Empty
        where the dialect's clients would stumble over it."""
        ...


@runtime_checkable
class StatefulSurface(Surface, Protocol):
    """A surface whose replies name what their provider keeps, for later calls to go on from."""

    def naming(self, name: Callable[[str], str], previous: str = "") -> Wire:
        """This surface as a wire that says ids of such state as `name` does, in refusals too that of the state a call
        goes on from: `previous`, the provider's own."""
        ...

    def with_previous(self, body: bytes, upstream_id: str) -> bytes:
        """The body with the provider's own id of the state it goes on from, all else as it came."""
        ...

    def kept(self, upstream_id: str, path: str, named: Callable[[str], str]) -> Surface:
        """What is asked of one such state: `path` is what stands after its id. Free, and said as `naming` does."""
        ...
