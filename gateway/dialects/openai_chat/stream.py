"""Reads an OpenAI stream as its bytes go by, without decoding what says nothing new.

Most events are one delta of text: they are relayed untouched after a few byte searches. An event is decoded only while
the reply's id and model are not known yet, or when it holds a usage, finish reason, refusal or error that is not null.

What is left out of the relayed bytes: the usage-only chunk (no choices) if the caller did not ask for usage, and
everything from `[DONE]` on (that event is kept in `terminal`). `"usage":null` in other chunks stays: it is the
provider's byte sequence. A usage that comes with choices stays too, except where the provider is known for it
(`usage_in`) and the caller asked: then it becomes null there and an event of its own before the end, as OpenAI sends
it; never both, as clients add up what they see. An error event is returned by `feed` like any other, with `error` set:
whoever relays decides what becomes of it.

`output_bytes` is an approximation: bytes of JSON string text of the deltas, escapes as written (`\\u00e9` counts 6).
It over-counts, never counts padding (`obfuscation`), and serves estimates only where the provider sends no usage.
"""

from __future__ import annotations

import msgspec

from gateway.core.errors import FaregateError
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.usage import Usage
from gateway.dialects.counts import UsageFields, merge_usage, open_usage
from gateway.dialects.json_body import Members, is_null, open_members, text_of, write_members
from gateway.dialects.openai_chat.errors import stream_error
from gateway.dialects.openai_chat.provider_errors import event_error_text, in_band_error
from gateway.dialects.openai_chat.reply import open_objects
from gateway.dialects.openai_chat.spelling import CHAT_TEXT, COMPLETION_TEXT, Pattern, Spelling, Spellings
from gateway.dialects.openai_chat.usage import BREAKDOWN, read_breakdown, read_usage, reported_nusd
from gateway.dialects.sse import EventCutter, data_of, field_of

CHAT_SPELLINGS = Spellings.of(CHAT_TEXT)
COMPLETION_SPELLINGS = Spellings.of(COMPLETION_TEXT)
_IDENTITY_EVENTS_MAX = 4
"""How many first events are decoded in search of id and model; Azure's first one has neither."""
_PATTERNS_MAX = 8
"""How often a stream's pattern is learnt anew; one whose every event differs is not worth more."""
_LINE_ENDS = b"\r\n"
_DONE = b"data: [DONE]\n\n"
_NULL = msgspec.Raw(b"null")
_EVENT_MEMBERS = ("id", "object", "created", "model", "provider", "service_tier", "system_fingerprint")
"""What a usage event of our own has in common with the provider's events."""


def _stray_lines(event: bytes) -> bytes:
    """Blank lines before an event that is held back. Whether they came with it depends on the chunks, so they pass."""
    return event[: len(event) - len(event.lstrip(_LINE_ENDS))]


class OpenAITap:
    """core's StreamTap for chat and completion streams. `choices` is how many finish reasons make it complete.

    `reported_nusd` is the cost that the provider's usage reports, None while it has not.
    """

    def __init__(self, spellings: Spellings, choices: int, relay_usage: bool, quirks: Quirks = PLAIN) -> None:
        self.usage: Usage | None = None
        self.model_served = ""
        self.finish_reason = ""
        self.refusal = False
        self.upstream_id = ""
        self.output_bytes = 0
        self.events = 0
        self.terminal = b""
        self.error = ""
        self.reported_nusd: int | None = None
        self._quirks = quirks
        self._spellings = spellings
        self._spelling: Spelling | None = None
        self._choices = choices
        self._relay_usage = relay_usage
        self._moves_usage = relay_usage and quirks.usage_in == "choice_event"
        self._moved_usage = b""
        self._cutter = EventCutter()
        self._identified = False
        self._finished: set[bytes] = set()
        self._usage_fields: UsageFields = {}
        self._metered_bytes = 0
        self._tier = ""
        self._pattern: Pattern | None = None
        self._patterns_tried = 0

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
        if self.terminal:
            return b""
        relayed = self._read(rest) if rest else b""
        return relayed + self._end()

    def ending(self, failure: FaregateError) -> bytes:
        return b"" if self.error else stream_error(failure)

    def _end(self) -> bytes:
        """What a stream that has ended without its terminal event still lacks."""
        if self.terminal:
            return b""
        moved = b"" if self.error else self._take_moved_usage()
        if not self._quirks.done and self.complete:
            self.terminal = _DONE
        return moved

    @property
    def unmetered_bytes(self) -> int:
        """Output since the last usage; an event's own text is part of what its usage counts."""
        return 0 if self.usage is None else self.output_bytes - self._metered_bytes

    @property
    def complete(self) -> bool:
        """True after `[DONE]`, or after every choice's finish reason; never after an error."""
        return not self.error and (bool(self.terminal) or len(self._finished) >= self._choices)

    def _pass_plain(self, whole: bytes) -> bool:
        """The usual case: only one-line data events that tell nothing new. Counts them; False: read one by one."""
        spelling = self._spelling
        if not self._identified or spelling is None or not self._cutter.lf_only or not whole.startswith(b"data:"):
            return False
        measured = self._pattern.measure(whole) if self._pattern is not None else None
        if measured is not None:
            self.events += measured[0]
            self.output_bytes += measured[1]
            return True
        events = whole.count(b"\n\n")
        if whole.count(b"\n") != 2 * events or (events > 1 and whole.count(b"\n\ndata:") != events - 1):
            return False
        if b"[DONE]" in whole or not spelling.is_plain(whole):
            return False
        self.events += events
        self.output_bytes += spelling.text_bytes(whole)
        if events == 1 and self._patterns_tried < _PATTERNS_MAX:
            self._patterns_tried += 1
            self._pattern = spelling.pattern_of(whole) or self._pattern
        return True

    def _read_all(self, events: list[bytes]) -> bytes:
        relayed: list[bytes] = []
        for event in events:
            relayed.append(self._read(event))
            if self.terminal:
                break
        return b"".join(relayed)

    def _read(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:
            return self._read_error_field(event) if self._quirks.error_field else event
        if data.lstrip().startswith(b"[DONE]"):
            self.terminal = event.lstrip(_LINE_ENDS)
            return _stray_lines(event) + self._take_moved_usage()
        self.events += 1
        if not event.startswith(b"data:") and field_of(event, b"event") == b"error":
            self.error = self.error or event_error_text(data)
        spelling = self._spelling
        if spelling is None:
            spelling = self._spelling = self._spellings.seen_in(data)
        if spelling is None:
            return event
        self.output_bytes += spelling.text_bytes(data)
        if self._identified and spelling.is_plain(data):
            return event
        members = open_members(data)
        if members is not None:
            event = self._without_usage(event, members, self._learn(members))
        self._identified = self._identified or self.events >= _IDENTITY_EVENTS_MAX
        return event

    def _read_error_field(self, event: bytes) -> bytes:
        """An `error:` field as the data event that clients understand."""
        said = field_of(event, b"error")
        if said is None:
            return event
        members = open_members(said)
        error = said if members is not None else msgspec.json.encode(said.decode("utf-8", "replace"))
        self.events += 1
        self.error = self.error or event_error_text(said)
        return _stray_lines(event) + b'data: {"error":' + error + b"}\n\n"

    def _without_usage(self, event: bytes, members: Members, usage: msgspec.Raw | None) -> bytes:
        """The event as it is relayed: a usage the caller did not ask for is left out where nothing else is with it, one
        that it asked for is kept for an event of its own. `usage` None: the event holds none."""
        if usage is None or self.error:
            return event
        if not open_objects(members.get("choices")):
            self._moved_usage = b""
            return event if self._relay_usage else _stray_lines(event)
        if not self._moves_usage:
            return event
        own: Members = {name: members[name] for name in _EVENT_MEMBERS if name in members}
        own["choices"], own["usage"] = msgspec.Raw(b"[]"), usage
        self._moved_usage = b"data: " + write_members(own) + b"\n\n"
        if is_null(members.get("usage")) or not event.lstrip(_LINE_ENDS).startswith(b"data:"):
            return event  # it stands in `x_groq`, where no client looks for it
        return _stray_lines(event) + b"data: " + write_members({**members, "usage": _NULL}) + b"\n\n"

    def _take_moved_usage(self) -> bytes:
        moved, self._moved_usage = self._moved_usage, b""
        return moved

    def _learn(self, members: Members) -> msgspec.Raw | None:
        """Takes over what the event says. Returns its usage, None where it holds none."""
        self.model_served = self.model_served or text_of(members.get("model"))
        self.upstream_id = self.upstream_id or text_of(members.get("id"))
        self._identified = self._identified or bool(self.model_served and self.upstream_id)
        self._tier = text_of(members.get("service_tier")) or self._tier
        for choice in open_objects(members.get("choices")) or ():
            self._learn_choice(choice)
        self.error = self.error or in_band_error(members)
        return self._learn_usage(members)

    def _learn_choice(self, choice: Members) -> None:
        reason = text_of(choice.get("finish_reason"))
        if reason:
            self.finish_reason = self.finish_reason or reason
            self._finished.add(bytes(choice.get("index", b"0")))
        delta = open_members(choice["delta"]) if "delta" in choice else None
        if delta and text_of(delta.get("refusal")):
            self.refusal = True

    def _learn_usage(self, members: Members) -> msgspec.Raw | None:
        """Usage stands at the top or in `x_groq`; of several the fields' last values count."""
        raw = members.get("usage")
        if (raw is None or is_null(raw)) and "x_groq" in members:
            raw = (open_members(members["x_groq"]) or {}).get("usage")
        if raw is None or is_null(raw):
            return None
        fields = open_usage(raw)
        if fields is not None:
            self._metered_bytes = self.output_bytes
            said_before = self._usage_fields
            self._usage_fields = merge_usage(said_before, fields)
            source: msgspec.Raw | UsageFields = raw if self._usage_fields == fields else self._usage_fields
            outside = self._quirks.reasoning_outside
            self.usage = read_usage(source, self._tier, reasoning_outside=outside)
            runs = members.get(BREAKDOWN)
            if not is_null(runs):
                self.usage = read_breakdown(self.usage, runs, outside)
        cost = self._quirks.reported_cost
        if cost is not None:
            said = reported_nusd(raw, cost)
            self.reported_nusd = self.reported_nusd if said is None else said
        return raw
