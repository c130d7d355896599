"""Usage of a Realtime session → disjoint meters: the sum of its responses, and the transcriptions of its input.

Each `response.done` has the usage of one response; they are added up. A Live session instead says how many seconds it
has lasted, over and over: there the last word counts.
"""

from __future__ import annotations

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart
from gateway.dialects.counts import PARTS_MAX, Counts, Fields, fields_of, summed, word_of
from gateway.dialects.openai_simple.media_usage import cached_by_modality, fresh_by_modality, read_transcription

_KNOWN = frozenset({
    "total_tokens", "input_tokens", "output_tokens", "input_token_details", "output_token_details",
})  # fmt: skip
_INPUT = frozenset({"text_tokens", "audio_tokens", "image_tokens", "cached_tokens", "cached_tokens_details"})
_OUTPUT = frozenset({"text_tokens", "audio_tokens"})
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def read_usage(fields: Fields) -> Usage:
    """Usage of one response, from its `usage` object."""
    counts = Counts()
    counts.known(fields, _KNOWN)
    taken, given = counts.required(fields, "input_tokens"), counts.required(fields, "output_tokens")
    details, told = counts.part(fields, "input_token_details"), counts.part(fields, "output_token_details")
    counts.known(details, _INPUT, "input_token_details")
    counts.known(told, _OUTPUT, "output_token_details")
    spoken = counts.count(told, "audio_tokens")
    if spoken + counts.count(told, "text_tokens") > given:
        counts.fail(f"output_tokens {given} is less than its parts")
    total = counts.count(fields, "total_tokens")
    if fields.get("total_tokens") is not None and total != taken + given:
        counts.fail(f"total_tokens {total} is not input {taken} plus output {given}")
    meters = fresh_by_modality(counts, details, taken, cached_by_modality(counts, details))
    meters |= {Meter.OUTPUT: given - spoken, Meter.OUTPUT_AUDIO: spoken}
    return counts.usage(meters, _ENCODER.encode(fields))


class SessionUsage:
    """Usage out of a session's events. A transcription is of another model, which the session names."""

    __slots__ = ("_heard", "_heard_by", "_responses", "_seconds")

    def __init__(self) -> None:
        self._responses: list[Usage] = []
        self._heard: list[Usage] = []
        self._heard_by = ""
        self._seconds = 0

    def feed(self, data: bytes) -> None:
        """The JSON of one event."""
        try:
            event = fields_of(_DECODER.decode(data))
        except (ValueError, RecursionError):
            return
        usage = fields_of(event.get("usage"))
        match event.get("type"):
            case "response.done":
                usage = fields_of(fields_of(event.get("response")).get("usage"))
                if usage:
                    self._responses.append(read_usage(usage))
            case "session.created" | "session.updated":
                self._learn(fields_of(event.get("session")))
            case "session.usage.updated":
                self._seconds = max(self._seconds, Counts().seconds(usage, "seconds"))
            case kind if kind == _TRANSCRIBED and usage:
                self._heard.append(read_transcription(usage))
            case _:
                pass

    def _learn(self, session: Fields) -> None:
        heard = fields_of(fields_of(fields_of(session.get("audio")).get("input")).get("transcription"))
        heard = heard or fields_of(session.get("input_audio_transcription"))
        self._heard_by = word_of(heard, "model") or self._heard_by

    @property
    def usage(self) -> Usage | None:
        """The session's so far; None before anything was said."""
        if not self._responses and not self._heard and not self._seconds:
            return None
        counts = Counts()
        for one in (*self._responses, *self._heard):
            counts.unknown.extend(name for name in one.unknown_fields if name not in counts.unknown)
            if one.fault:
                counts.fail(one.fault)
        spoken = summed([*[one.meters for one in self._responses], {Meter.SESSION_SECONDS: self._seconds}])
        spoken = {meter: quantity for meter, quantity in spoken.items() if quantity}
        heard = summed([one.meters for one in self._heard])
        parts = (
            [UsagePart("session", "", spoken), UsagePart("transcription", self._heard_by or "?", heard)]
            if heard
            else []
        )
        raw = b"[" + b",".join([one.raw for one in (*self._responses, *self._heard)][:PARTS_MAX]) + b"]"
        return counts.usage(summed([spoken, heard]), raw, parts=[part for part in parts if part.meters])
