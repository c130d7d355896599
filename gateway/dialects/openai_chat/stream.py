"""Reads an OpenAI stream as its bytes go by, without decoding what says nothing new.

Most events are one delta of text: they are relayed untouched after a few byte searches. An event is decoded only while
the reply's id and model are not known yet, or when it holds a usage, finish reason, refusal or error that is not null.

What is left out of the relayed bytes: the usage-only chunk (no choices) if the caller did not ask for usage, and
everything from `[DONE]` on (that event is kept in `terminal`). `"usage":null` in other chunks stays: it is the
provider's byte sequence. A usage that comes with choices (llama.cpp, Mistral) stays too. An error event is returned by
`feed` like any other, with `error` set: whoever relays decides what becomes of it.

`output_bytes` is an approximation: bytes of JSON string text of the deltas, escapes as written (`\\u00e9` counts 6).
It over-counts, never counts padding (`obfuscation`), and serves estimates only where the provider sends no usage.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.core.usage import Usage
from gateway.dialects.json_body import Members, is_null, open_members, text_of
from gateway.dialects.openai_chat.errors import provider_error_text
from gateway.dialects.openai_chat.reply import open_objects
from gateway.dialects.openai_chat.usage import UsageFields, merge_usage, open_usage, read_usage
from gateway.dialects.sse import EventCutter, data_of

CHAT_TEXT = ("content", "reasoning_content", "reasoning", "refusal", "arguments")
COMPLETION_TEXT = ("text",)
_IDENTITY_EVENTS_MAX = 4
"""How many first events are decoded in search of id and model; Azure's first one has neither."""
_PATTERNS_MAX = 8
"""How often a stream's pattern is learnt anew; one whose every event differs is not worth more."""
_TELLING = ("usage", "finish_reason", "refusal", "error")
_BACKSLASH = 0x5C
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What the plain text events of one stream have in common: the bytes around the text, and around the padding."""

    before_text: bytes
    after_text: bytes
    after_padding: bytes

    def measure(self, whole: bytes) -> tuple[int, int] | None:
        """(events, bytes of text) if `whole` is nothing but events of this pattern, else None."""
        before, after, end = self.before_text, self.after_text, self.after_padding
        at = events = size = 0
        while at < len(whole):
            if not whole.startswith(before, at):
                return None
            start = at + len(before)
            stop = whole.find(b'"', start)
            if stop < 0 or not whole.startswith(after, stop) or whole[stop - 1] == _BACKSLASH:
                return None
            at = stop + len(after)
            if end:
                at = whole.find(b'"', at)
                if at < 0 or not whole.startswith(end, at):
                    return None
                at += len(end)
            events += 1
            size += stop - start
        return (events, size) if whole.count(b"\n") == 2 * events else None


@dataclass(frozen=True, slots=True)
class Spelling:
    """Byte patterns of one way to print JSON, with or without a blank after the colon.

    `telling` pairs a member's name with the same member being null. Another spelling is read right, only slower.
    """

    telling: tuple[tuple[bytes, bytes], ...]
    texts: tuple[bytes, ...]
    padding: bytes

    @staticmethod
    def of(texts: tuple[str, ...], blank: str) -> Spelling:
        return Spelling(
            telling=tuple((f'"{name}"'.encode(), f'"{name}":{blank}null'.encode()) for name in _TELLING),
            texts=tuple(f'"{name}":{blank}"'.encode() for name in texts),
            padding=f'"obfuscation":{blank}"'.encode(),
        )

    def is_plain(self, data: bytes) -> bool:
        """True when none of the telling members is there, unless as null."""
        for name, null in self.telling:
            found = data.count(name)
            if found and found != data.count(null):
                return False
        return True

    def pattern_of(self, event: bytes) -> Pattern | None:
        """What surrounds the text of a plain one-line event, if it holds exactly one non-empty text."""
        found = [at + len(opener) for opener in self.texts if (at := event.find(opener)) >= 0]
        if len(found) != 1:
            return None
        end = _string_end(event, found[0])
        before, after = event[: found[0]], event[end:]
        if end == found[0] or any(opener in after for opener in self.texts):
            return None
        padding = after.find(self.padding)
        if padding < 0:
            return Pattern(before, after, b"")
        start = padding + len(self.padding)
        return Pattern(before, after[:start], after[_string_end(after, start) :])

    def text_bytes(self, data: bytes) -> int:
        """Bytes of all strings that are output text."""
        size = 0
        for opener in self.texts:
            at = data.find(opener)
            while at >= 0:
                start = at + len(opener)
                end = _string_end(data, start)
                line_end = data.find(b"\n", start, end)
                end = end if line_end < 0 else line_end  # no string holds a raw line end: malformed, or another event
                size += end - start
                at = data.find(opener, end)
        return size


def _string_end(data: bytes, start: int) -> int:
    """Where the JSON string that began before `start` ends: the first quotation mark that no backslash escapes."""
    end = data.find(b'"', start)
    while end > start and data[end - 1] == _BACKSLASH:
        before = end - 1
        while before > start and data[before - 1] == _BACKSLASH:
            before -= 1
        if (end - before) % 2 == 0:
            return end
        end = data.find(b'"', end + 1)
    return end if end >= 0 else len(data)


def _stray_lines(event: bytes) -> bytes:
    """Blank lines before an event that is held back. Whether they came with it depends on the chunks, so they pass."""
    return event[: len(event) - len(event.lstrip(_LINE_ENDS))]


@dataclass(frozen=True, slots=True)
class Spellings:
    compact: Spelling
    spaced: Spelling

    @staticmethod
    def of(texts: tuple[str, ...]) -> Spellings:
        return Spellings(Spelling.of(texts, ""), Spelling.of(texts, " "))

    def seen_in(self, data: bytes) -> Spelling | None:
        """The way `data` is printed, by its first member; None when it has no member at all."""
        colon = data.find(b'":')
        if colon < 0:
            return None
        return self.spaced if data[colon + 2 : colon + 3] == b" " else self.compact


CHAT_SPELLINGS = Spellings.of(CHAT_TEXT)
COMPLETION_SPELLINGS = Spellings.of(COMPLETION_TEXT)


class OpenAITap:
    """core's StreamTap for chat and completion streams. `choices` is how many finish reasons make it complete."""

    def __init__(self, spellings: Spellings, choices: int, relay_usage: bool) -> None:
        self.usage: Usage | None = None
        self.model_served = ""
        self.finish_reason = ""
        self.refusal = False
        self.upstream_id = ""
        self.output_bytes = 0
        self.events = 0
        self.terminal = b""
        self.error = ""
        self._spellings = spellings
        self._spelling: Spelling | None = None
        self._choices = choices
        self._relay_usage = relay_usage
        self._cutter = EventCutter()
        self._identified = False
        self._finished: set[bytes] = set()
        self._usage_fields: UsageFields = {}
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
        return b"" if self.terminal or not rest else self._read(rest)

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
            return event
        if data.lstrip().startswith(b"[DONE]"):
            self.terminal = event.lstrip(_LINE_ENDS)
            return _stray_lines(event)
        self.events += 1
        spelling = self._spelling
        if spelling is None:
            spelling = self._spelling = self._spellings.seen_in(data)
        if spelling is None:
            return event
        self.output_bytes += spelling.text_bytes(data)
        if self._identified and spelling.is_plain(data):
            return event
        members = open_members(data)
        if members is not None and self._learn(members) and not self._relay_usage:
            event = _stray_lines(event)
        self._identified = self._identified or self.events >= _IDENTITY_EVENTS_MAX
        return event

    def _learn(self, members: Members) -> bool:
        """Takes over what the event says. True when it is the usage-only chunk."""
        self.model_served = self.model_served or text_of(members.get("model"))
        self.upstream_id = self.upstream_id or text_of(members.get("id"))
        self._identified = self._identified or bool(self.model_served and self.upstream_id)
        self._tier = text_of(members.get("service_tier")) or self._tier
        choices = open_objects(members.get("choices")) or []
        for choice in choices:
            self._learn_choice(choice)
        error = members.get("error")
        if error is not None and not is_null(error):
            self.error = self.error or provider_error_text(error) or "an error without a message"
        return self._learn_usage(members) and not choices and not self.error

    def _learn_choice(self, choice: Members) -> None:
        reason = text_of(choice.get("finish_reason"))
        if reason:
            self.finish_reason = self.finish_reason or reason
            self._finished.add(bytes(choice.get("index", b"0")))
        delta = open_members(choice["delta"]) if "delta" in choice else None
        if delta and text_of(delta.get("refusal")):
            self.refusal = True

    def _learn_usage(self, members: Members) -> bool:
        """Usage stands at the top or in `x_groq`; of several the fields' last values count. True when there was one."""
        raw = members.get("usage")
        if (raw is None or is_null(raw)) and "x_groq" in members:
            raw = (open_members(members["x_groq"]) or {}).get("usage")
        if raw is None or is_null(raw):
            return False
        fields = open_usage(raw)
        if fields is not None:
            said_before = self._usage_fields
            self._usage_fields = merge_usage(said_before, fields)
            source: msgspec.Raw | UsageFields = raw if self._usage_fields == fields else self._usage_fields
            self.usage = read_usage(source, self._tier)
        return True
