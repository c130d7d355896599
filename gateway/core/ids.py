"""Identifiers: 128-bit, time-ordered, printed as a prefix and 26 base32 characters.

The first 48 bits are milliseconds since 1970 UTC and the rest is chance, so ids sort by age in SQL and in a
file listing. A raw id is 16 bytes; a printed one is `req_` (call), `att_` (attempt) or `jrn_` (journal) and
Crockford base32 in lower case (no i, l, o, u), which survives being read aloud.
"""

from __future__ import annotations

CALL = "req"
ATTEMPT = "att"
JOURNAL = "jrn"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_LENGTH = 26


def make_id(now_ms: int, chance: bytes) -> bytes:
    """16 raw bytes from a time in ms UTC and at least 10 bytes of chance."""
    return now_ms.to_bytes(6, "big") + chance[:10]


def print_id(prefix: str, raw: bytes) -> str:
    """`req_01h…` from 16 raw bytes."""
    number = int.from_bytes(raw, "big")
    pairs = _PAIRS
    parts = [pairs[(number >> shift) & 1023] for shift in range(120, -1, -10)]
    return f"{prefix}_{''.join(parts)}"


def parse_id(prefix: str, text: str) -> bytes | None:
    """The 16 raw bytes of a printed id, or None when `text` is not one of this prefix."""
    head, _, body = text.partition("_")
    if head != prefix or len(body) != _LENGTH:
        return None
    number = 0
    for character in body.lower():
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number << 5 | value
    if number >> 128:
        return None
    return number.to_bytes(16, "big")


def time_of(raw: bytes) -> int:
    """The time in ms UTC at which an id was made."""
    return int.from_bytes(raw[:6], "big")
