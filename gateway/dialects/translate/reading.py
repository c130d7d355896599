"""What every reader of a caller's body shares: complaints that name the member and say what it must be."""

from __future__ import annotations

import re

import msgspec

from gateway.core.errors import BadRequest
from gateway.dialects.json_body import is_null

_PLACE = re.compile(r" - at `(?:\$\.?)?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_TYPES = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def misread(error: msgspec.ValidationError, within: str = "") -> BadRequest:
    """msgspec's complaint in the caller's terms; `within` is where in the body the value stands that was read."""
    complaint = str(error)
    found = _PLACE.search(complaint)
    place = _joined(within, found.group(1) if found else "")
    missing = _MISSING.search(complaint)
    if missing:
        place = _joined(place, missing.group(1))
        return BadRequest(f"{place} is missing.", param=place)
    types = _TYPES.search(complaint)
    if types:
        wanted = [_WORDS.get(kind, kind) for kind in types.group(1).split(" | ")]
        one_of = " or ".join([*([", ".join(wanted[:-1])] if wanted[1:] else []), wanted[-1]])
        return BadRequest(f"{place} is {_WORDS.get(types.group(2), types.group(2))}: it must be {one_of}.", param=place)
    return BadRequest(f"{place} is wrong: {_PLACE.sub('', complaint)}.", param=place)


def _joined(within: str, place: str) -> str:
    if not within or not place:
        return within or place
    return f"{within}{place}" if place.startswith("[") else f"{within}.{place}"


def number(raw: msgspec.Raw | None, name: str) -> str:
    """The JSON text of a number, empty for none. Raises BadRequest for what is no number."""
    if is_null(raw):
        return ""
    text = bytes(raw or b"").decode()
    if not text[:1].isdigit() and text[:1] != "-":
        raise BadRequest(f"{name} must be a number.", param=name)
    return text
