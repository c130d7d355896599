"""How a stream prints its deltas of text, as bytes: most of its events are counted without being decoded.

Anthropic pads its events with blanks before the last bracket, so that their sizes tell nothing: they count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dialects.openai_chat.spelling import Spelling, Spellings

SPELLINGS = Spellings.of(("text", "thinking", "partial_json"))
_BACKSLASH = 0x5C
_LINES = 3
"""Line ends of one event: its name's, its data's, and the blank line."""
_ENDS = b'"}}'
_AT_ONCE = _ENDS + b"\n\n"


@dataclass(frozen=True, slots=True)
class DeltaPattern:
    """What the deltas of one block have in common: everything before the text. Behind it come brackets and blanks."""

    before: bytes

    def measure(self, whole: bytes) -> tuple[int, int] | None:
        """(events, bytes of text) if `whole` is nothing but deltas of this pattern, else None."""
        before = self.before
        at = events = size = 0
        while at < len(whole):
            if not whole.startswith(before, at):
                return None
            start = at + len(before)
            stop = whole.find(b'"', start)
            if stop < 0 or whole[stop - 1] == _BACKSLASH:
                return None
            if whole.startswith(_AT_ONCE, stop):
                at = stop + len(_AT_ONCE)
            else:
                end = whole.find(b"\n\n", stop)
                if end < 0 or whole[stop:end].translate(None, b" ") != _ENDS:
                    return None
                at = end + 2
            events += 1
            size += stop - start
        return (events, size) if whole.count(b"\n") == _LINES * events else None


def pattern_of(spelling: Spelling, event: bytes) -> DeltaPattern | None:
    """The pattern of an event that is one plain delta with some text; None for any other."""
    found = spelling.pattern_of(event)
    if found is None or found.after_text.translate(None, b" ") != _AT_ONCE:
        return None
    return DeltaPattern(found.before_text)
