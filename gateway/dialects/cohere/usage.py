"""Cohere's usage → meters: `billed_units` are what is billed, `tokens` are not (money reference §1)."""

from __future__ import annotations

import msgspec

from gateway.core.usage import Meter, Usage
from gateway.dialects.counts import Counts, Fields, fields_of

_UNITS = {
    "input_tokens": Meter.INPUT,
    "output_tokens": Meter.OUTPUT,
    "image_tokens": Meter.INPUT_IMAGE,
    "search_units": Meter.SEARCH_UNITS,
    "classifications": Meter.CLASSIFICATIONS,
}
_KNOWN = frozenset({"billed_units", "tokens", "cached_tokens", "api_version", "warnings"})
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def reply_usage(body: bytes) -> Usage | None:
    """Usage of a reply of chat, rerank, embed or classify, or of a stream's `message-end` event; None: it has none."""
    try:
        reply = fields_of(_DECODER.decode(body))
    except (ValueError, RecursionError):
        return None
    for place in (reply, fields_of(reply.get("delta"))):
        for name in ("usage", "meta"):
            found = fields_of(place.get(name))
            if found.get("billed_units") is not None:
                return _read(found)
    return None


def _read(fields: Fields) -> Usage:
    counts = Counts()
    counts.known(fields, _KNOWN)
    units = counts.part(fields, "billed_units")
    counts.known(units, frozenset({*_UNITS, "images"}), "billed_units")
    meters = {meter: counts.count(_whole(units), name) for name, meter in _UNITS.items()}
    return counts.usage(meters, _ENCODER.encode(fields))


def _whole(units: Fields) -> Fields:
    """Cohere writes its counts as numbers with a point, `11.0`."""
    return {name: int(value) if _is_whole(value) else value for name, value in units.items()}


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()
