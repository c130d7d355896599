"""Responses whose ids are said in the caller's names: bytes are put in place of bytes, the rest stays as it came."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from gateway.dialects.json_body import Members, raw_json, text_of

ID_MEMBERS = ("id", "previous_response_id", "response_id")
"""Members of a response (or of what is said in its place, when it is deleted) that hold ids of responses."""


class _Ids(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")
    previous_response_id: msgspec.Raw = msgspec.Raw(b"null")
    response_id: msgspec.Raw = msgspec.Raw(b"null")


_IDS = msgspec.json.Decoder(_Ids)


class Seal:
    """Puts names in place of the ids of a response."""

    __slots__ = ("_name",)

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name

    def sealed(self, text: bytes, response: Members) -> bytes:
        for member in ID_MEMBERS:
            raw = response.get(member)
            if raw is None or not bytes(raw).startswith(b'"'):
                continue
            own = text_of(raw)
            if not own:
                continue
            old, new = bytes(raw), bytes(raw_json(self._name(own)))
            label = f'"{member}":'.encode()
            if label + old in text:
                text = text.replace(label + old, label + new)
            else:
                text = re.sub(rb'("' + member.encode() + rb'"\s*+:\s*+)' + re.escape(old), rb"\g<1>" + new, text)
        return text

    def sealed_reply(self, body: bytes) -> bytes:
        """A whole reply with its names; what is no object stays as it is."""
        try:
            said = _IDS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return body
        return self.sealed(body, {member: getattr(said, member) for member in ID_MEMBERS})

    def sealed_refusal(self, body: bytes, own: str) -> bytes:
        """A provider's refusal in which the response `own` has its name. The same object where it is not spoken of."""
        said = own.encode()
        return body.replace(said, self._name(own).encode()) if said and said in body else body
