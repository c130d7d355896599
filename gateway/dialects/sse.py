"""Server-sent events as bytes: cut into whole events at any chunking, nothing re-encoded.

Lines end in LF, CRLF or CR and in nothing else (`splitlines` also cuts at U+2028 and loses events). A CR at the end of
a chunk may be half of a CRLF, so it waits for the next byte.
"""

from __future__ import annotations

import re

from gateway.core.errors import UpstreamInvalidReply

EVENT_BYTES_MAX = 4 * 1024 * 1024
_COPY_BYTES_MAX = 16 * 1024
"""A longer unfinished event is gathered in place: joining it anew with every chunk would cost its square."""

_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventCutter:
    """Holds back what is not yet a whole event. `lf_only` is False once a CR was seen anywhere in the stream."""

    __slots__ = ("_gathering", "_tail", "lf_only")

    def __init__(self) -> None:
        self._tail = b""
        self._gathering: bytearray | None = None
        self.lf_only = True

    def take(self, chunk: bytes) -> bytes:
        """All events that are whole now, as one piece, or nothing. Raises UpstreamInvalidReply over 4 MiB an event."""
        if self.lf_only:
            if b"\r" in chunk:
                self.lf_only = False
            elif chunk.endswith(b"\n\n") and not self._tail and self._gathering is None:
                if len(chunk) > EVENT_BYTES_MAX:
                    self._check_sizes(chunk)
                return chunk
        if self._gathering is not None:
            gathered = self._gather(self._gathering, chunk)
            if gathered is None:
                return b""
            chunk, self._gathering = gathered, None
        elif self._tail:
            chunk = self._tail + chunk
        end = self._last_end(chunk)
        if end == len(chunk):
            self._tail = b""
            whole = chunk
        else:
            self._keep(chunk[end:])
            whole = chunk[:end]
        if len(whole) > EVENT_BYTES_MAX:
            self._check_sizes(whole)
        return whole

    def _keep(self, tail: bytes) -> None:
        if len(tail) > EVENT_BYTES_MAX:
            raise _too_long()
        self._tail = tail
        if len(tail) > _COPY_BYTES_MAX:
            self._gathering = bytearray(tail)
            self._tail = b""

    def _gather(self, gathering: bytearray, chunk: bytes) -> bytes | None:
        """Adds to a long unfinished event; what there is once it may have ended, else None."""
        start = max(0, len(gathering) - 3)
        gathering += chunk
        if _BLANK_LINE.search(gathering, start):
            return bytes(gathering)
        if len(gathering) > EVENT_BYTES_MAX:
            raise _too_long()
        return None

    def _last_end(self, data: bytes) -> int:
        """Where the last whole event ends, 0 when there is none."""
        if self.lf_only:
            return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        end = 0
        for match in _BLANK_LINE.finditer(data):
            if match.end() < len(data) or not data.endswith(b"\r"):
                end = match.end()
        return end

    def _check_sizes(self, whole: bytes) -> None:
        if any(len(event) > EVENT_BYTES_MAX for event in self.split(whole)):
            raise _too_long()

    def split(self, whole: bytes) -> list[bytes]:
        """The single events of what `take` gave, each with its blank line."""
        events: list[bytes] = []
        start = 0
        for match in _BLANK_LINE.finditer(whole):
            events.append(whole[start : match.end()])
            start = match.end()
        if start < len(whole):
            events.append(whole[start:])
        return events

    def finish(self) -> bytes:
        """The rest when the stream has ended: an event without its blank line gets it, so that more can follow."""
        rest = bytes(self._gathering) if self._gathering is not None else self._tail
        self._tail, self._gathering = b"", None
        if not rest.strip(b"\r\n") or _BLANK_LINE.search(rest):
            return rest
        return rest + (b"\n" if rest.endswith(b"\n") else b"\n\n")  # after a CR one LF would only make it a CRLF


def _too_long() -> UpstreamInvalidReply:
    return UpstreamInvalidReply(f"The provider sent an event longer than {EVENT_BYTES_MAX} bytes.")


def data_of(event: bytes) -> bytes | None:
    """The event's data: its `data:` lines joined by LF; None for an event without any (a comment). A byte order mark
    before it is passed over: the standard allows one at the start of a stream."""
    if event.startswith(b"data:") and event.find(b"\n") == event.find(b"\n\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2] if event.startswith(b"data: ") else event[5:-2]
    lines: list[bytes] = []
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None


def field_of(event: bytes, name: bytes) -> bytes | None:
    """The value of the event's first line that has this field (`event`, or one no standard knows); None without one."""
    for line in _LINE_END.split(event.removeprefix(_BOM)):
        field, colon, value = line.partition(b":")
        if colon and field == name:
            return value.removeprefix(b" ")
    return None
