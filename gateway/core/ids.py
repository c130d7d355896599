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
_whole = int.from_bytes


def make_id(now_ms: int, chance: bytes) -> bytes:
    """16 raw bytes from a time in ms UTC and at least 10 bytes of chance."""
    return now_ms.to_bytes(6, "big") + chance[:10]


def print_id(prefix: str, raw: bytes) -> str:
    """`req_01h…` from 16 raw bytes."""
    pairs = _PAIRS
    first, a, b, c = raw[0], _whole(raw[1:6]), _whole(raw[6:11]), _whole(raw[11:16])  # 8, 40, 40 and 40 bits
    return (
        f"{prefix}_{pairs[first]}"
        f"{pairs[a >> 30]}{pairs[a >> 20 & 1023]}{pairs[a >> 10 & 1023]}{pairs[a & 1023]}"
        f"{pairs[b >> 30]}{pairs[b >> 20 & 1023]}{pairs[b >> 10 & 1023]}{pairs[b & 1023]}"
        f"{pairs[c >> 30]}{pairs[c >> 20 & 1023]}{pairs[c >> 10 & 1023]}{pairs[c & 1023]}"
    )


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
