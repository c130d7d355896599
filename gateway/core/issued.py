"""Names for ids that a provider issued, so that only the organisation that got one can use it, where it was issued.

A provider keeps replies under its own ids and hands them to whoever has its credential, which all callers of a gateway
share. The name a caller gets is the provider's id and a mark after it: a keyed hash over that id, the organisation and
the provider's name in `routes.yaml`. It needs no table, so it holds over restarts and in every worker that has the same
secrets.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

MARK = "_fg1"
"""Begins the mark, and says which kind it is."""
_MAC_BYTES = 10
_MAC_CHARS = 2 * _MAC_BYTES
_PERSON = b"faregate-issued1"
NAME_CHARS_MAX = 512
"""A longer name is none of ours: no provider's id comes near."""


class IssuedIds:
    """Names ids, and reads names. `secrets` are 16 to 64 bytes each, the one to name with first; the others still read
    what was named with them. Without any nothing can be read."""

    __slots__ = ("_keyed",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keyed = [hashlib.blake2b(key=one, digest_size=_MAC_BYTES, person=_PERSON) for one in secrets]

    def name(self, upstream_id: str, org: str, provider: str) -> str:
        """The id as the caller gets it: letters, digits and `_` are added at its end. As it was where there are no
        secrets."""
        if not self._keyed:
            return upstream_id
        return upstream_id + MARK + _mac(self._keyed[0], upstream_id, org, provider)

    def find(self, name: str, org: str, providers: Iterable[str]) -> tuple[str, str] | None:
        """(the provider's id, its provider) of a name that was given to `org`; None for any other text."""
        upstream_id, mark, said = name[:-_MAC_CHARS], MARK, name[-_MAC_CHARS:]
        if len(name) > NAME_CHARS_MAX or not upstream_id.endswith(mark) or not said.isascii():
            return None
        upstream_id = upstream_id.removesuffix(mark)
        for provider in providers:
            for keyed in self._keyed:
                if hmac.compare_digest(said, _mac(keyed, upstream_id, org, provider)):
                    return upstream_id, provider
        return None


def _mac(keyed: hashlib.blake2b, *parts: str) -> str:
    """Each part goes in with its length, so that no two lists of parts are the same bytes."""
    digest = keyed.copy()
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    digest.update(b"".join([b"%d:%b" % (len(part), part) for part in encoded]))
    return digest.hexdigest()
