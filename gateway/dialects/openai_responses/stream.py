"""Reads a stream of the Responses API as its bytes go by, without decoding what says nothing new.

Most events are one delta of text: they are relayed untouched after a few byte searches. Decoded are those that tell of
the response itself (`response.created` … `response.failed`), of an error, or of a refusal. The last of them is kept
back in `terminal`; what follows it (`[DONE]`, which others send) is not relayed.

An error before the response began is one at once. Later ones are relayed, and then OpenAI says `response.failed`, which
is waited for: until it comes, or the stream ends, there is no `error`. A failure of our own says the same two events,
numbered on, of the same response.

`output_bytes` is an approximation, as in chat: bytes of the deltas' JSON text, escapes as written.
"""

from __future__ import annotations

import re
from typing import Protocol

from gateway.core.errors import FaregateError
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.usage import Usage
from gateway.dialects.json_body import Members, is_null, open_members, text_of
from gateway.dialects.openai_chat.provider_errors import event_error_text, in_band_error
from gateway.dialects.openai_chat.reply import cost_of, open_objects
from gateway.dialects.openai_chat.spelling import Spelling
from gateway.dialects.openai_responses.errors import error_event, failed_event, untold_response
from gateway.dialects.openai_responses.reply import finish_of, refuses, usage_of
from gateway.dialects.sse import EventCutter, data_of, field_of

_TELLING = ("response", "error", "refusal", "response.refusal.delta")
"""Members and kinds that say more than a delta of text."""
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_UNSUCCESSFUL = frozenset({"response.failed", "response.cancelled"})
_LINE_ENDS = b"\r\n"
_DELTA = re.compile(rb'event: (response\.[a-z_.]{1,60}\.delta)\ndata: \{"type": ?"\1",')
"""How a delta begins that says its kind twice, as it should: the next one that begins so is one too."""
_NUMBER = re.compile(rb'"sequence_number"\s*+:\s*+(\d{1,15})')


def _spelling(blank: str) -> Spelling:
    return Spelling(
        telling=tuple((f'"{name}"'.encode(), f'"{name}":{blank}null'.encode()) for name in _TELLING),
        texts=(f'"delta":{blank}"'.encode(),),
        padding=f'"obfuscation":{blank}"'.encode(),
    )


_COMPACT, _SPACED = _spelling(""), _spelling(" ")


class IdSeal(Protocol):
    """How ids that a provider issued are named to the caller."""

    def sealed(self, event: bytes, response: Members) -> bytes:
        """The bytes of an event or reply with the response's own id, and the id it went on from, as the caller knows
        them; every other byte as it was."""
        ...


class ResponsesTap:
    """core's StreamTap for streams of the Responses API. Without a `seal` ids pass as they are.

    `reported_nusd` is the cost that the provider's usage reports, None while it has not.
    """

    def __init__(self, quirks: Quirks = PLAIN, seal: IdSeal | None = None) -> None:
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
        self._seal = seal
        self._cutter = EventCutter()
        self._spelling: Spelling | None = None
        self._response: Members | None = None
        self._said_error = ""
        self._last = b""
        self._delta = b""
        self._over = False

    # ------------------------------------------------------------ StreamTap

    def feed(self, chunk: bytes) -> bytes:
        """Bytes to relay now: whole events only. Raises UpstreamInvalidReply for an event over 4 MiB."""
        if self._over:
            return b""
        whole = self._cutter.take(chunk)
        if not whole or self._pass_plain(whole):
            return whole
        return self._read_all(self._cutter.split(whole))

    def finish(self) -> bytes:
        """What is left when the upstream has ended: a final event without its blank line, completed."""
        rest = self._cutter.finish()
        relayed = b"" if self._over or not rest else self._read(rest)
        if not self.terminal:
            self.error = self.error or self._said_error
        return relayed

    def ending(self, failure: FaregateError) -> bytes:
        """`response.failed`, the provider's own where it said one; before it the error, if none has been relayed."""
        if self.terminal:
            return self.terminal
        number = self._next_number()
        ended = b""
        if not (self.error or self._said_error):
            ended = error_event(failure, number)
            number += 1
        response = self._response
        failed = failed_event(failure, number, untold_response() if response is None else response)
        if self._seal is not None and response is not None:
            failed = self._seal.sealed(failed, response)
        return ended + failed

    @property
    def unmetered_bytes(self) -> int:
        """Usage is said once, at the end, of everything."""
        return 0

    @property
    def complete(self) -> bool:
        """True after `response.completed` or `response.incomplete`."""
        return bool(self.terminal) and not self.error

    # ------------------------------------------------------------ events

    def _pass_plain(self, whole: bytes) -> bool:
        """The usual case: only events that tell nothing new, a name and one line of data each, or that line alone.
        Counts them; False: read one by one."""
        spelling = self._spelling
        if self._response is None or spelling is None or not self._cutter.lf_only:
            return False
        delta = self._delta
        if delta and whole.startswith(delta) and whole.find(b"\n", len(delta)) == len(whole) - 2:
            self._count(1, whole)
            self.output_bytes += spelling.text_bytes(whole)
            return True
        events = whole.count(b"\n\n")
        lines = whole.count(b"\n")
        if whole.startswith(b"event:"):
            if lines != 3 * events or whole.count(b"\ndata:") != events or whole.count(b"\n\nevent:") != events - 1:
                return False
        elif not whole.startswith(b"data:") or lines != 2 * events or whole.count(b"\n\ndata:") != events - 1:
            return False
        if b"[DONE]" in whole or b"event: error" in whole or not spelling.is_plain(whole):
            return False
        self._count(events, whole)
        self.output_bytes += spelling.text_bytes(whole)
        if events == 1:
            found = _DELTA.match(whole)
            self._delta = found.group() if found else b""
        return True

    def _read_all(self, events: list[bytes]) -> bytes:
        relayed: list[bytes] = []
        for event in events:
            relayed.append(self._read(event))
            if self._over:
                break
        return b"".join(relayed)

    def _read(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:
            return self._read_error_field(event) if self._quirks.error_field else event
        if data.lstrip().startswith(b"[DONE]"):
            self._over = True
            return _stray_lines(event)
        self._count(1, data)
        if self._spelling is None:
            self._spelling = _spelling_of(data)
        spelling = self._spelling or _COMPACT
        self.output_bytes += spelling.text_bytes(data)
        named_error = field_of(event, b"event") == b"error"
        if not named_error and not any(b'"%b"' % name.encode() in data for name in _TELLING):
            return event
        members = open_members(data)
        if members is None:
            if named_error:
                self._note_error(event_error_text(data))
            return event
        return self._learn(event, data, members, named_error)

    def _learn(self, event: bytes, data: bytes, members: Members, named_error: bool) -> bytes:
        kind = text_of(members.get("type"))
        response = open_members(members["response"]) if "response" in members else None
        if response is not None:
            return self._learn_response(event, kind, response)
        if named_error or kind == "error":
            self._note_error(event_error_text(members["error"] if not is_null(members.get("error")) else data))
        elif not kind:
            said = in_band_error(members)
            if said:  # no event of this API: nothing will follow that says so again
                self._fail(said)
        part = open_members(members["part"]) if "part" in members else None
        if kind == "response.refusal.delta" or (part is not None and text_of(part.get("type")) == "refusal"):
            self.refusal = True
        return event

    def _note_error(self, said: str) -> None:
        if self._response is None:
            self._fail(said)
        else:
            self._said_error = self._said_error or said

    def _fail(self, said: str) -> None:
        self.error = self._said_error or said
        self._over = True

    def _learn_response(self, event: bytes, kind: str, response: Members) -> bytes:
        """Takes over what an event says of the response. Returns what of it is relayed: nothing of the last one."""
        self._response = response
        self.model_served = self.model_served or text_of(response.get("model"))
        self.upstream_id = self.upstream_id or text_of(response.get("id"))
        if self._seal is not None:
            event = self._seal.sealed(event, response)
        if kind not in _ENDS:
            return event
        self.usage = usage_of(response)
        self.reported_nusd = cost_of(response, self._quirks)
        self.finish_reason = finish_of(response)
        self.refusal = self.refusal or refuses(open_objects(response.get("output")) or [])
        if kind in _UNSUCCESSFUL:
            failure = response.get("error")
            said = "" if failure is None or is_null(failure) else event_error_text(failure)
            self.error = self._said_error or said or f"it ended as {self.finish_reason or 'failed'}"
        self._over = True
        self.terminal = event.lstrip(_LINE_ENDS)
        return _stray_lines(event)

    def _read_error_field(self, event: bytes) -> bytes:
        """An `error:` field as the event that clients understand."""
        said = field_of(event, b"error")
        if said is None:
            return event
        self._fail(event_error_text(said))
        error = said if open_members(said) is not None else b'{"message":"","type":"server_error"}'
        number = b"%d" % self._next_number()
        told = b'{"type":"error","sequence_number":' + number + b',"error":' + error + b"}"
        self._count(1, told)
        return _stray_lines(event) + b"event: error\ndata: " + told + b"\n\n"

    def _count(self, events: int, told: bytes) -> None:
        self.events += events
        if b'"sequence_number"' in told:
            self._last = told

    def _next_number(self) -> int:
        """One more than the last number told; where events have none, how many there were."""
        found = _NUMBER.findall(self._last)
        return int(found[-1]) + 1 if found else self.events


def _spelling_of(data: bytes) -> Spelling | None:
    """The way `data` is printed, by its first member; None when it has no member at all."""
    colon = data.find(b'":')
    if colon < 0:
        return None
    return _SPACED if data[colon + 2 : colon + 3] == b" " else _COMPACT


def _stray_lines(event: bytes) -> bytes:
    """Blank lines before an event that is held back. Whether they came with it depends on the chunks, so they pass."""
    return event[: len(event) - len(event.lstrip(_LINE_ENDS))]
