"""A wire between two dialects: the caller's request in the provider's words, the provider's answer in the caller's.

Usage, finish and errors are read by the provider's own surface, from the bytes as they came: money never depends on a
translation. What the caller gets is written anew from neutral forms.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.config import OnUnsupported
from gateway.core.errors import BadRequest, FaregateError, UpstreamInvalidReply
from gateway.core.neutral import Ask, Began, Event, Finished, Part, PartBegan, PartEnded, PartGrew, Tool, ToolUse
from gateway.core.ports import Outgoing, StreamTap, Surface
from gateway.core.quirks import PLAIN, ErrorFacts, Quirks
from gateway.core.usage import Usage
from gateway.dialects.sse import EventCutter
from gateway.dialects.translate.ports import Codec, EventReader, EventWriter
from gateway.dialects.translate.writing import Names, custom_input

_UNKNOWN = Tool("")
_TOO_LONG = "context_length_exceeded"
_ANTHROPIC_TOO_LONG = "prompt is too long"


class ProviderRefusal(FaregateError):
    """A provider's 4xx in the caller's words: its status and text, and our word for the cause."""

    def __init__(self, status: int, facts: ErrorFacts) -> None:
        super().__init__(facts.message or f"The provider answered {status}.")
        self.status = status
        self.code = facts.code or "invalid_request"
        self.kind = "rate_limit_error" if status == 429 else "invalid_request_error"


class Translation:
    """core's Wire from a caller's surface into a surface that the provider serves.

    One of these stands for the pair; `for_attempt` gives the one that remembers what was asked until it is answered.
    """

    def __init__(
        self, caller: Surface, upstream: Surface, own: Codec, theirs: Codec, unsupported: OnUnsupported = "warn"
    ) -> None:
        """`own` is the codec of the caller's dialect, `theirs` the provider's."""
        self.name = upstream.name
        self.upstream_path = upstream.upstream_path
        self.upstream_headers = (*upstream.upstream_headers, *theirs.upstream_headers)
        self._caller = caller
        self._upstream = upstream
        self._own = own
        self._theirs = theirs
        self._unsupported = unsupported
        self._max_output_tokens = 0
        self._created_s = 0
        self._ask = Ask("", ())
        self._names = Names(theirs.tool_name_chars)
        self._usage: Usage | None = None

    def for_attempt(self, max_output_tokens: int, now_ms: int) -> Translation:
        made = Translation(self._caller, self._upstream, self._own, self._theirs, self._unsupported)
        made._max_output_tokens = max_output_tokens
        made._created_s = now_ms // 1000
        return made

    def on_unsupported(self, what: OnUnsupported) -> Translation:
        """The same translation that does `what` with members it has no words for."""
        return Translation(self._caller, self._upstream, self._own, self._theirs, what)

    def outgoing(self, body: bytes, head: Head, model: str, quirks: Quirks = PLAIN) -> Outgoing:
        ask = self._own.read_ask(body)
        self._ask = ask = msgspec.structs.replace(ask, essential=()) if self._unsupported == "drop" else ask
        made, lost = self._theirs.write_ask(ask, model, self._max_output_tokens, self._names)
        sent, dropped = self._upstream.outgoing(made, self._upstream.read_head(made), model, quirks)
        told = tuple(dict.fromkeys([*[self._own.names.get(name, name) for name in lost], *dropped]))
        if told and self._unsupported == "reject":
            raise BadRequest(
                f"{', '.join(told)} cannot be translated for the provider of this model, and its route leaves nothing "
                "out (on_unsupported: reject). Leave it out yourself, or use another model.",
                param=told[0],
            )
        return sent, told

    def with_output_limit(self, body: bytes, tokens: int, quirks: Quirks = PLAIN) -> bytes | None:
        return self._caller.with_output_limit(body, tokens)

    def with_tool_limit(self, body: bytes, calls: int) -> bytes | None:
        return None

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        facts = self._upstream.read_reply(body, quirks)
        self._usage = facts.usage
        return facts

    def caller_reply(self, body: bytes, head: Head, quirks: Quirks = PLAIN) -> bytes:
        try:
            reply = self._theirs.read_reply(body, self._usage)
        except (BadRequest, ValueError, RecursionError) as error:
            raise UpstreamInvalidReply(f"The provider's reply cannot be translated: {error}") from error
        parts = tuple([_own_tool(part, self._names, self._tools()) for part in reply.parts])
        return self._own.write_reply(msgspec.structs.replace(reply, parts=parts), self._ask, self._created_s)

    def read_error(self, status: int, body: bytes) -> ErrorFacts:
        return self._upstream.read_error(status, body)

    def caller_error(self, status: int, body: bytes) -> bytes:
        facts = self._upstream.read_error(status, body)
        unsaid = facts.code == _TOO_LONG and _ANTHROPIC_TOO_LONG not in facts.message
        if unsaid and self._caller.dialect == "anthropic_messages":  # clients shorten the conversation at these words
            facts = ErrorFacts(f"{_ANTHROPIC_TOO_LONG}: {facts.message}", facts.code)
        return self._caller.error_body(ProviderRefusal(status, facts))

    def tap(self, head: Head, quirks: Quirks = PLAIN) -> StreamTap:
        inner = self._upstream.tap(msgspec.structs.replace(head, usage_asked=True), quirks)
        writer = self._own.writer(self._ask, head.usage_asked, self._created_s)
        return TranslatingTap(inner, self._theirs.reader(), writer, self._names, self._tools())

    def _tools(self) -> dict[str, Tool]:
        """The caller's own tools by name."""
        return {tool.name: tool for tool in self._ask.tools}


def _own_tool(part: Part, names: Names, tools: Mapping[str, Tool]) -> Part:
    """A tool's call as the caller knows it: its name, its namespace, and its text where it takes one and was sent as a
    function of one text."""
    if not isinstance(part, ToolUse):
        return part
    name = names.own(part.name)
    tool = tools.get(name, _UNKNOWN)
    arguments = custom_input(part.arguments) if tool.custom and not part.custom else part.arguments
    custom = part.custom or tool.custom
    return msgspec.structs.replace(part, name=name, arguments=arguments, custom=custom, namespace=tool.namespace)


class TranslatingTap:
    """core's StreamTap: the provider's tap reads facts, a reader makes neutral events of what it lets pass, a writer
    says them in the caller's dialect. The provider's terminal event becomes the caller's, kept back as any."""

    def __init__(
        self, inner: StreamTap, reader: EventReader, writer: EventWriter, names: Names, tools: Mapping[str, Tool]
    ) -> None:
        self._inner = inner
        self._reader = reader
        self._writer = writer
        self._names = names
        self._tools = tools
        self._cutter = EventCutter()
        self._gathered: list[str] | None = None
        self._began = False
        self._finished = False
        self.terminal = b""

    def feed(self, chunk: bytes) -> bytes:
        if self.terminal:
            return b""
        return self._said(self._inner.feed(chunk)) + self._end_if_over()

    def finish(self) -> bytes:
        if self.terminal:
            return b""
        return self._said(self._inner.finish()) + self._end_if_over()

    def ending(self, failure: FaregateError) -> bytes:
        return self._writer.failed(failure)

    def _said(self, relayed: bytes) -> bytes:
        """What the caller gets for whole events of the provider; an error among them is told by `ending`."""
        if not relayed:
            return b""
        events = self._cutter.split(relayed)
        return self._told(events[0]) if len(events) == 1 else b"".join([self._told(event) for event in events])

    def _told(self, event: bytes) -> bytes:
        written = [self._write(neutral) for neutral in self._reader.read(event)]
        return written[0] if len(written) == 1 else b"".join(written)

    def _end_if_over(self) -> bytes:
        """Once the provider's stream has come to its own end, the caller's does."""
        inner = self._inner
        if inner.error or not inner.complete or not inner.terminal:
            return b""
        said = self._told(inner.terminal)
        said += b"".join([self._write(neutral) for neutral in self._reader.end()])
        before, self.terminal = self._writer.end(inner.usage)
        return said + before

    def _write(self, event: Event) -> bytes:
        match event:
            case PartGrew():
                if self._gathered is None:
                    return self._writer.write(event)
                self._gathered.append(event.text)
                return b""
            case PartBegan() if not self._began:
                return self._begin() + self._write(event)
            case PartBegan(kind="tool"):
                return self._write_tool(event)
            case Began():
                self._began = True
            case PartEnded() if self._gathered is not None:
                whole, self._gathered = custom_input("".join(self._gathered)), None
                return self._writer.write(PartGrew(event.index, whole)) + self._writer.write(event)
            case Finished():
                if self._finished:
                    return b""
                self._finished = True
                if not self._began:
                    return self._begin() + self._writer.write(event)
        return self._writer.write(event)

    def _begin(self) -> bytes:
        """For a provider that never says that it began."""
        return self._write(Began(self._inner.upstream_id, self._inner.model_served))

    def _write_tool(self, event: PartBegan) -> bytes:
        name = self._names.own(event.name)
        tool = self._tools.get(name, _UNKNOWN)
        if tool.custom and not event.custom:
            self._gathered = []
        custom = event.custom or tool.custom
        return self._writer.write(msgspec.structs.replace(event, name=name, custom=custom, namespace=tool.namespace))

    # ------------------------------------------------------------ what the provider's tap has read

    @property
    def complete(self) -> bool:
        return self._inner.complete and bool(self.terminal)

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def model_served(self) -> str:
        return self._inner.model_served

    @property
    def finish_reason(self) -> str:
        return self._inner.finish_reason

    @property
    def refusal(self) -> bool:
        return self._inner.refusal

    @property
    def upstream_id(self) -> str:
        return self._inner.upstream_id

    @property
    def output_bytes(self) -> int:
        return self._inner.output_bytes

    @property
    def unmetered_bytes(self) -> int:
        return self._inner.unmetered_bytes

    @property
    def events(self) -> int:
        return self._inner.events

    @property
    def error(self) -> str:
        return self._inner.error

    @property
    def reported_nusd(self) -> int | None:
        return self._inner.reported_nusd


def translations(surfaces: Mapping[str, Surface], codecs: Mapping[str, Codec]) -> dict[str, tuple[Translation, ...]]:
    """Every caller's surface that has a codec, with its translations into the others, in the order of `codecs`."""
    return {
        own: tuple(
            [
                Translation(surfaces[own], surfaces[theirs], codec, codecs[theirs])
                for theirs in codecs
                if theirs != own and theirs in surfaces
            ]
        )
        for own, codec in codecs.items()
        if own in surfaces
    }
