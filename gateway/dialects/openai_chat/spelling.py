"""How a vendor prints its stream's JSON, as byte patterns: what most events have in common is never decoded."""

from __future__ import annotations

from dataclasses import dataclass

CHAT_TEXT = ("content", "reasoning_content", "reasoning", "refusal", "arguments")
COMPLETION_TEXT = ("text",)
_TELLING = ("usage", "finish_reason", "refusal", "error")
_BACKSLASH = 0x5C


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
        """What surrounds the text of a plain event with one data line, if it holds exactly one non-empty text."""
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
