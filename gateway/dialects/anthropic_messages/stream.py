"""Reads a Messages stream as its bytes go by, without decoding what says nothing new.

Most events are one delta of text: they are relayed untouched after a few byte searches. An event is decoded only when
it holds one of the words below: the message's begin, its deltas and its end, an error, a fallback to another model, a
usage. Everything else passes, events and blocks nobody here knows included.

Usage is told in running totals (`message_start` has the input, each `message_delta` what it is by then), so each
field's last value counts, also of a message that begins twice. Until a delta has told the output, the usage has an
estimate of it: what `message_start` says there is a placeholder.

`message_stop` is kept in `terminal`. A ping is no progress before the message has begun: an error may still come first,
and another provider may be tried. An error event without a name, which the SDKs would pass over, gets one.
"""

from __future__ import annotations

import re

import msgspec

from gateway.core.errors import FaregateError
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.tokens import estimate_tokens
from gateway.core.usage import Usage, UsagePart
from gateway.dialects.anthropic_messages.errors import named_error, stream_error
from gateway.dialects.anthropic_messages.spelling import SPELLINGS, DeltaPattern, pattern_of
from gateway.dialects.anthropic_messages.usage import read_usage
from gateway.dialects.anthropic_messages.usual import REFUSAL
from gateway.dialects.counts import UsageFields, cut_short, merge_usage, open_usage
from gateway.dialects.json_body import Members, open_members, text_of
from gateway.dialects.openai_chat.provider_errors import event_error_text, in_band_error
from gateway.dialects.openai_chat.spelling import Spelling
from gateway.dialects.sse import EventCutter, data_of, field_of

_TELLING = re.compile(rb'"(?:message_start|message_delta|message_stop|ping|error|fallback|usage)"')
_TELLING_NAMES = frozenset({b"message_start", b"message_delta", b"message_stop", b"ping", b"error"})
_BLOCK_EVENTS = tuple(b"event: content_block_%b\ndata:" % what for what in (b"delta", b"start", b"stop"))
_PATTERNS_MAX = 64
"""How often a stream's pattern is learnt anew: each content block has one of its own."""
_LINE_ENDS = b"\r\n"


class MessagesTap:
    """core's StreamTap for a Messages stream."""

    def __init__(self, quirks: Quirks = PLAIN) -> None:
        self.model_served = ""
        self.finish_reason = ""
        self.refusal = False
        self.upstream_id = ""
        self.output_bytes = 0
        self.events = 0
        self.terminal = b""
        self.error = ""
        self.reported_nusd: int | None = None
        self._error_field = quirks.error_field
        self._cutter = EventCutter()
        self._spelling: Spelling | None = None
        self._pattern: DeltaPattern | None = None
        self._patterns_tried = 0
        self._begun = False
        self._usage_fields: UsageFields = {}
        self._usage: Usage | None = None
        self._estimated_at = -1
        self._metered_bytes = 0
        self._told_output = False
        self._fallback = ""

    @property
    def usage(self) -> Usage | None:
        """What the provider has told so far; its output is an estimate until it has told that too."""
        if self._usage_fields and not self._told_output and self._estimated_at != self.output_bytes:
            self._estimated_at = self.output_bytes
            self._usage = cut_short(read_usage(self._usage_fields), estimate_tokens(self.output_bytes))
        return self._usage

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay now: whole events only. Raises UpstreamInvalidReply for an event over 4 MiB."""
        if self.terminal:
            return b""
        whole = self._cutter.take(chunk)
        if not whole or self._pass_plain(whole):
            return whole
        return self._read_all(self._cutter.split(whole))

    def finish(self) -> bytes:
        """What is left when the upstream has ended: a final event without its blank line, completed."""
        rest = self._cutter.finish()
        return self._read(rest) if rest and not self.terminal else b""

    def ending(self, failure: FaregateError) -> bytes:
        return b"" if self.error else stream_error(failure)

    @property
    def unmetered_bytes(self) -> int:
        """Output since the last usage that told any; what came before the first is in its estimate."""
        return self.output_bytes - self._metered_bytes if self._told_output else 0

    @property
    def complete(self) -> bool:
        """True after `message_stop`, never after an error: the SDKs take a stream without it for a whole one."""
        return bool(self.terminal) and not self.error

    def _pass_plain(self, whole: bytes) -> bool:
        """The usual case: only events of content blocks that tell nothing. Counts them; False: read one by one."""
        spelling = self._spelling
        if not self._begun or spelling is None or not self._cutter.lf_only:
            return False
        measured = self._pattern.measure(whole) if self._pattern is not None else None
        if measured is not None:
            self.events += measured[0]
            self.output_bytes += measured[1]
            return True
        events = whole.count(b"\n\n")
        if (
            not whole.startswith(_BLOCK_EVENTS)
            or whole.count(b"\n") != 3 * events
            or whole.count(b"event: ") != events
            or sum([whole.count(form) for form in _BLOCK_EVENTS]) != events
            or (events > 1 and whole.count(b"\n\nevent: ") != events - 1)
            or _TELLING.search(whole)
        ):
            return False
        self.events += events
        self.output_bytes += spelling.text_bytes(whole)
        if events == 1 and self._patterns_tried < _PATTERNS_MAX:
            self._patterns_tried += 1
            self._pattern = pattern_of(spelling, whole) or self._pattern
        return True

    def _read_all(self, events: list[bytes]) -> bytes:
        relayed: list[bytes] = []
        for event in events:
            relayed.append(self._read(event))
            if self.terminal:
                break
        return b"".join(relayed)

    def _read(self, event: bytes) -> bytes:
        """Takes over what one event says. Returns it as it is relayed."""
        data = data_of(event)
        if data is None:
            return self._read_error_field(event) if self._error_field else event
        name = field_of(event, b"event")
        if self._spelling is None:
            self._spelling = SPELLINGS.seen_in(data)
        if name not in _TELLING_NAMES and not _TELLING.search(data):
            return self._counted(event, data)
        members = open_members(data) or {}
        kind = text_of(members.get("type")) or (name or b"").decode("latin-1")
        if kind == "ping":
            self.events += self._begun
            return event
        error = in_band_error(members)
        if kind == "error" or name == b"error" or error:
            return self._failed(event, error or event_error_text(data), is_named=name == b"error")
        if kind == "message_stop":
            self.events += 1
            self.terminal = event.lstrip(_LINE_ENDS)
            return event[: len(event) - len(self.terminal)]
        self._learn(kind, members)
        return self._counted(event, data)

    def _counted(self, event: bytes, data: bytes) -> bytes:
        self.events += 1
        if self._spelling is not None:
            self.output_bytes += self._spelling.text_bytes(data)
        return event

    def _failed(self, event: bytes, error: str, *, is_named: bool) -> bytes:
        self.events += 1
        self.error = self.error or error
        if is_named:
            return event
        return event[: len(event) - len(event.lstrip(_LINE_ENDS))] + named_error(error)

    def _read_error_field(self, event: bytes) -> bytes:
        """An `error:` field as the event that clients understand."""
        said = field_of(event, b"error")
        return event if said is None else self._failed(event, event_error_text(said), is_named=False)

    def _learn(self, kind: str, members: Members) -> None:
        match kind:
            case "message_start":
                message = open_members(members.get("message", b"")) or {}
                self._begun = True
                self.model_served = self.model_served or text_of(message.get("model"))
                self.upstream_id = self.upstream_id or text_of(message.get("id"))
                self._learn_usage(message, tells_output=False)
            case "message_delta":
                delta = open_members(members.get("delta", b"")) or {}
                self.finish_reason = text_of(delta.get("stop_reason")) or self.finish_reason
                self.refusal = self.finish_reason == REFUSAL
                self._learn_usage(members, tells_output=True)
            case "content_block_start":
                self._learn_fallback(members)

    def _learn_fallback(self, members: Members) -> None:
        """A `fallback` block: what follows is written, and billed, by another model."""
        block = open_members(members.get("content_block", b"")) or {}
        if text_of(block.get("type")) == "fallback":
            model = text_of((open_members(block.get("to", b"")) or {}).get("model"))
            self._fallback = self.model_served = model or self.model_served

    def _learn_usage(self, members: Members, *, tells_output: bool) -> None:
        raw = members.get("usage")
        fields = None if raw is None else open_usage(raw)
        if fields is None:
            return
        # With iterations it is the account of the whole call: its prompt may be less than was told first (recorded:
        # 83 555 before a compaction, 224 after it), and what fell stands among the iterations.
        known = self._usage_fields
        self._usage_fields = known | fields if "iterations" in fields else merge_usage(known, fields)
        self._estimated_at = -1
        self._told_output = self._told_output or tells_output
        if self._told_output:
            self._metered_bytes = self.output_bytes
            self._usage = self._whole_usage()

    def _whole_usage(self) -> Usage:
        usage = read_usage(self._usage_fields)
        if self._fallback and not usage.parts and not usage.fault:
            part = UsagePart("fallback_message", self._fallback, usage.meters)
            return msgspec.structs.replace(usage, parts=(part,))
        return usage
