"""JSON from outside: opened no further than needed, and refused early when it is hostile.

The whole text is checked once (UTF-8, grammar, depth, size in values, repeated names) and then handled as raw members,
so that what we do not read is passed on as it came.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

from gateway.core.errors import BadRequest

MAX_DEPTH = 64
MAX_KEYS = 10_000
MAX_CONTAINERS = 200_000
"""Objects and arrays of one body; far above any real call, low enough that a hostile body costs milliseconds."""
MAX_STRINGS = 200_000
_KEY_BYTES_MIN = 5
"""`"":0,` is the shortest member: a body under MAX_KEYS of these cannot hold too many."""

Members = dict[str, msgspec.Raw]
NULL = msgspec.Raw(b"null")
"""The default of a raw member: msgspec takes `Raw | None` for null alone."""

_MEMBERS = msgspec.json.Decoder(Members)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_ENCODER = msgspec.json.Encoder()
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}:"'))
_COUNT_BYTES_MAX = 4096
"""Above this, deleting bytes and measuring the rest is faster than `count`, which pays for each hit."""
_SEGMENT_BYTES = 1024 * 1024
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NAME = re.compile(rb'[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_AFTER_VALUE = re.compile(rb"[ \t\r\n]*+([,}])")
_OPENING = re.compile(rb"[ \t\r\n]*+\{")


def open_object(body: bytes) -> Members:
    """The top-level members of a request body, in order. Raises BadRequest for what is no plain JSON object."""
    try:
        if not body.isascii():
            body.decode()
        members = _MEMBERS.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not valid UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.ValidationError as error:
        raise BadRequest("The request body must be a JSON object.") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {_reason(body, error)}") from error
    _check_shape(body, members)
    _refuse_repeated_names(body, members)
    return members


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        return "it starts with a byte order mark; send UTF-8 without one."
    return f"{str(error).removeprefix('JSON is malformed: ')}."


def _too_deep() -> BadRequest:
    return BadRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.")


def _check_shape(body: bytes, members: Members) -> None:
    """Depth and number of values. Counting bytes settles it for most bodies: no more brackets than allowed levels."""
    brackets = _brackets(body)
    maybe_many = len(body) > MAX_KEYS * _KEY_BYTES_MIN and _count(body, b":") > MAX_KEYS
    if maybe_many or brackets > MAX_CONTAINERS:
        _check_counts(body)
    if brackets > MAX_DEPTH and any(_is_deeper(value, MAX_DEPTH - 1, 2) for value in members.values()):
        raise _too_deep()


def _check_counts(body: bytes) -> None:
    if _count(body, b'"') - body.count(b'\\"') > 2 * MAX_STRINGS:
        raise BadRequest(f"The request body holds more than {MAX_STRINGS} strings.")
    structure = _structure(body)
    if _count(structure, b":") > MAX_KEYS:
        raise BadRequest(f"The request body holds more than {MAX_KEYS} object members.")
    if _brackets(structure) > MAX_CONTAINERS:
        raise BadRequest(f"The request body holds more than {MAX_CONTAINERS} objects and arrays.")


def is_too_deep(text: bytes, members: Members) -> bool:
    """Whether a reply is nested deeper than MAX_DEPTH. Log probabilities lie six levels down, so it looks that far."""
    return _brackets(text) > MAX_DEPTH and any(_is_deeper(value, MAX_DEPTH - 1, 6) for value in members.values())


def _is_deeper(value: msgspec.Raw, levels: int, looks: int) -> bool:
    """Whether a value is nested deeper than `levels`: settled by its number of brackets, else by looking at its parts
    (at most `looks` levels down, as each costs a pass), else by walking its structure."""
    if len(value) <= 2 * levels:
        return False
    text = bytes(value)
    if text.startswith(b'"') or _brackets(text) <= levels:
        return False
    if not looks:
        return _depth(_structure(text)) > levels
    parts = _ITEMS.decode(text) if text.startswith(b"[") else _MEMBERS.decode(text).values()
    return any(_is_deeper(part, levels - 1, looks - 1) for part in parts)


def _brackets(text: bytes) -> int:
    return _count(text, b"{[")


def _count(text: bytes, characters: bytes) -> int:
    """How often any of some bytes occurs."""
    if len(text) > _COUNT_BYTES_MAX:
        return len(text) - len(text.translate(None, characters))
    return sum([text.count(character) for character in characters])


def _structure(text: bytes) -> bytes:
    """Brackets and colons outside strings, of valid JSON. Whole buffers at a time: it may be 20 MB of brackets."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    text = text.translate(None, _NOT_STRUCTURE)
    kept: list[bytes] = []
    in_string = 0
    for start in range(0, len(text), _SEGMENT_BYTES):
        pieces = text[start : start + _SEGMENT_BYTES].split(b'"')
        kept.append(b"".join(pieces[in_string::2]))
        in_string ^= (len(pieces) - 1) & 1
    return b"".join(kept)


def _depth(structure: bytes) -> int:
    steps = structure.translate(_STEPS, b":")
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _refuse_repeated_names(body: bytes, members: Members) -> None:
    """Parsers differ on which of two equal names wins, so what we check and what the provider reads could differ.

    In a compact body the members found account for every byte. Else the text is walked member by member, each value
    having to be the very one that was found; first as the usual printers space it, then with any blanks.
    """
    size = 1
    for name, value in members.items():
        size += len(name) + len(value) + 4
    if size == len(body) or not members or _is_spaced(body, members):
        return
    opening = _OPENING.match(body)
    at = opening.end() if opening else 0
    seen: set[str] = set()
    more = True
    while more:
        match = _NAME.match(body, at)
        name = _TEXT.decode(match.group(1)) if match else ""
        if match is None or name not in members or name in seen:
            raise _repeated(name)
        text = memoryview(members[name])
        after = _AFTER_VALUE.match(body, match.end() + len(text)) if body.startswith(text, match.end()) else None
        if after is None:
            raise _repeated(name)
        seen.add(name)
        at = after.end()
        more = after.group(1) == b","


def _is_spaced(body: bytes, members: Members) -> bool:
    """Whether the body is exactly these members, written `{"a": 1, "b": 2}`."""
    at = 1
    for name, value in members.items():
        label = f'"{name}": '.encode()
        if not body.startswith(label, at) or not body.startswith(memoryview(value), at + len(label)):
            return False
        at += len(label) + len(value) + 2
    return at == len(body) + 1


def _repeated(name: str) -> BadRequest:
    return BadRequest(f"The request body names {name[:64]!r} more than once.", param=name[:64])


def open_members(text: msgspec.Raw | bytes) -> Members | None:
    """The members of a JSON object from a provider, or None when it is none."""
    try:
        return _MEMBERS.decode(text)
    except (ValueError, RecursionError):
        return None


def write_members(members: Members) -> bytes:
    """A compact JSON object whose values are the raw bytes they came as."""
    return _ENCODER.encode(members)


def raw_json(value: object) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(value))


def is_null(value: msgspec.Raw | None) -> bool:
    return value is None or bytes(value) == b"null"


def said(value: msgspec.Raw) -> msgspec.Raw | None:
    """A raw member that says something."""
    return None if is_null(value) else value


def text_of(value: msgspec.Raw | None) -> str:
    """The text of a JSON string, empty for anything else."""
    if value is None:
        return ""
    try:
        return _TEXT.decode(value)
    except ValueError:
        return ""
