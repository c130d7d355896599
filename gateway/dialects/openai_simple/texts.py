"""`input` and `prompt`: one text, several, or token numbers in place of text."""

from __future__ import annotations

import re

import msgspec

from gateway.core.errors import BadRequest

ITEMS_MAX = 2048

_STRINGS = msgspec.json.Decoder(list[str])
_FILL = b"0123456789- \t\r\n"
_NUMBERS = re.compile(rb"\[,*+\]")
_NUMBER_ARRAYS = re.compile(rb"\[\[,*+\](?:,\[,*+\])*+\]")


def count_texts(raw: msgspec.Raw, name: str) -> int:
    """How many texts there are. Raises BadRequest for another shape, an empty one, or more than 2048.

    Token numbers are told by their punctuation alone: decoding millions of them would cost more than the call.
    """
    text = bytes(raw)
    if text.startswith(b'"'):
        if text == b'""':
            raise BadRequest(f"{name} is an empty string.", param=name)
        return 1
    count = _count_items(text)
    if count is None:
        raise BadRequest(
            f"{name} is wrong: it must be a string, an array of strings, an array of token numbers, or an array of "
            "such arrays.",
            param=name,
        )
    if not 1 <= count <= ITEMS_MAX:
        raise BadRequest(f"{name} holds {count} texts; it must hold from 1 to {ITEMS_MAX}.", param=name)
    return count


def _count_items(text: bytes) -> int | None:
    """Items of an array, None when it is of no accepted shape. `[]` has none."""
    punctuation = text.translate(None, _FILL)
    if _NUMBERS.fullmatch(punctuation):
        return 0 if text.strip(b"[] \t\r\n") == b"" else 1
    if _NUMBER_ARRAYS.fullmatch(punctuation):
        return punctuation.count(b"[") - 1
    try:
        return len(_STRINGS.decode(text))
    except ValueError:
        return None
