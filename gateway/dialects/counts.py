"""Counting what a provider's usage object says: shared by the readers of every dialect.

A reader names the members it knows. What it does not know is kept by name and told with the usage; a number that
cannot be is a fault, and nothing is guessed in its place. Nothing here raises on what a provider sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart, UsageSource

RAW_BYTES_MAX = 8 * 1024
COUNT_MAX = 10**12
"""Above any count a call can have; beyond it the number is a fault, not a price."""
UNKNOWN_FIELDS_MAX = 16
NAME_CHARS_MAX = 64
PARTS_MAX = 64
"""Model runs behind one reply; more are a fault."""

UsageFields = dict[str, object]
Fields = Mapping[str, Any]
NO_FIELDS: Fields = {}

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def open_usage(raw: msgspec.Raw | bytes) -> UsageFields | None:
    """The fields of a usage member, or None when it says nothing (`null`, `{}`): that is absent usage, not zero."""
    try:
        value = _DECODER.decode(raw)
    except (ValueError, RecursionError):
        return {"usage": "not valid JSON"}
    if value is None or value == {}:
        return None
    return value if isinstance(value, dict) else {"usage": value}


def merge_usage(older: UsageFields, newer: UsageFields) -> UsageFields:
    """Usage said more than once in a stream: each field's last value counts; they are running totals, never summed. A
    total does not fall: a smaller number later (some servers end with zeros) is not believed."""
    merged = dict(older)
    for name, value in newer.items():
        before = merged.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[name] = merge_usage(before, value)
        elif type(value) is int and type(before) is int and value < before:
            continue
        elif value is not None or name not in merged:
            merged[name] = value
    return merged


def said(value: bytes | msgspec.Raw | UsageFields) -> tuple[UsageFields, bytes]:
    """Usage as fields and as JSON text, whichever of the two it is given as."""
    if isinstance(value, dict):
        return value, _ENCODER.encode(value)
    return open_usage(value) or {}, bytes(value)


def fields_of(value: object) -> Fields:
    """A JSON object's members; of anything else none."""
    return value if isinstance(value, dict) else NO_FIELDS


def objects_of(value: object) -> list[Fields]:
    """The objects of a JSON array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def word_of(fields: Fields, name: str) -> str:
    """A short text member, empty for anything else."""
    value = fields.get(name)
    return value[:NAME_CHARS_MAX] if isinstance(value, str) else ""


class Counts:
    """One usage object being read; `fault` is the first contradiction met, `unknown` the members nobody knows."""

    __slots__ = ("fault", "unknown")

    def __init__(self) -> None:
        self.fault = ""
        self.unknown: list[str] = []

    def fail(self, fault: str) -> None:
        self.fault = self.fault or fault

    def known(self, fields: Fields, names: frozenset[str], place: str = "") -> None:
        """Notes the members of an object that are not among `names`; `place` is where the object stands."""
        if not fields.keys() <= names:
            self.unknown.extend(f"{place}.{name}" if place else name for name in fields if name not in names)

    def part(self, fields: Fields, name: str) -> Fields:
        part = fields.get(name)
        if part is None:
            return NO_FIELDS
        if not isinstance(part, dict):
            self.fail(f"{name} is not an object")
            return NO_FIELDS
        return part

    def count(self, fields: Fields, name: str) -> int:
        """A whole number that is not negative; 0 where it is missing."""
        value = fields.get(name)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= COUNT_MAX:
            self.fail(f"{name} is not a whole number from 0 to {COUNT_MAX}")
            return 0
        return value

    def required(self, fields: Fields, name: str) -> int:
        if fields.get(name) is None:
            self.fail(f"{name} is missing")
        return self.count(fields, name)

    def seconds(self, fields: Fields, name: str) -> int:
        """Seconds begun: a fraction counts as a whole one, so that it is never too little. `{}` is nothing said."""
        value = fields.get(name)
        if type(value) is float and 0 <= value <= COUNT_MAX:
            return int(Decimal(str(value)).to_integral_value(ROUND_CEILING))
        return 0 if value == {} else self.count(fields, name)

    def usage(
        self,
        meters: Mapping[Meter, int],
        raw: bytes,
        *,
        served_tier: str = "",
        reasoning_tokens: int = 0,
        region: str = "",
        search_size: str = "",
        parts: Iterable[UsagePart] = (),
    ) -> Usage:
        """What was read, as a Usage: with a fault it has no meters, and its raw text is kept in any case."""
        faulty = bool(self.fault)
        return Usage(
            meters={} if faulty else {meter: quantity for meter, quantity in meters.items() if quantity},
            source=UsageSource.PROVIDER,
            reasoning_tokens=0 if faulty else reasoning_tokens,
            raw=raw if len(raw) <= RAW_BYTES_MAX else b"",
            served_tier=served_tier,
            fault=self.fault,
            unknown_fields=tuple([name[:NAME_CHARS_MAX] for name in self.unknown[:UNKNOWN_FIELDS_MAX]]),
            region=region,
            search_size=search_size,
            parts=() if faulty else tuple(parts),
        )


def summed(parts: Iterable[Mapping[Meter, int]]) -> dict[Meter, int]:
    """The meters of several model runs together."""
    total: dict[Meter, int] = {}
    for meters in parts:
        for meter, quantity in meters.items():
            total[meter] = total.get(meter, 0) + quantity
    return total


def cut_short(usage: Usage | None, output_tokens: int) -> Usage | None:
    """The usage of a stream that ended before its provider said the end: its input is exact, its output what was
    counted on the way (or said, if that is more). None: not even the input was said, or it contradicts itself."""
    if usage is None or usage.fault:
        return None
    meters = dict(usage.meters)
    meters[Meter.OUTPUT] = max(output_tokens, meters.get(Meter.OUTPUT, 0))
    meters = {meter: quantity for meter, quantity in meters.items() if quantity}
    return msgspec.structs.replace(usage, meters=meters, source=UsageSource.ESTIMATED, parts=())
