"""The text of a key: `fg_<env>_<kid>_<secret>_<crc32>`, made, parsed and hashed without any I/O.

kid is 12 base62 characters and public; the secret is 32 (190 bits); the checksum is the CRC-32 of everything before
its underscore in 6 base62 characters, so secret scanners can tell a key from chance and a malformed one dies first.
A slow hash would be wrong here: the secret's entropy makes guessing hopeless, and Argon2 per call would take the
whole machine.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from zlib import crc32

from gateway.core.ports import Entropy

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KID_LENGTH = 12
SECRET_LENGTH = 32
CRC_LENGTH = 6
MAX_ENV_LENGTH = 16
MAX_KEY_LENGTH = len("fg_") + MAX_ENV_LENGTH + KID_LENGTH + SECRET_LENGTH + CRC_LENGTH + 3
MAX_IMPORTED_LENGTH = 512
"""The longest text that is compared with imported keys."""
IMPORTED_PREFIX = "sha_"

_ENV = re.compile(rf"[a-z0-9]{{1,{MAX_ENV_LENGTH}}}")
_KEY = re.compile(
    rf"fg_[a-z0-9]{{1,{MAX_ENV_LENGTH}}}_([0-9A-Za-z]{{{KID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})"
    rf"_([0-9A-Za-z]{{{CRC_LENGTH}}})"
)
_match_key = _KEY.fullmatch
_PAIRS = tuple(first + second for first in BASE62 for second in BASE62)
_PAIR = len(_PAIRS)
_BLOCK_BYTES = 64


class KeyText(NamedTuple):
    """A new key: its public part, its secret and the full text, which is shown once and kept nowhere."""

    kid: str
    secret: str
    text: str


def checksum(head: str) -> str:
    """CRC-32 of ASCII text as 6 base62 characters."""
    number = crc32(head.encode("ascii"))
    return _PAIRS[number // (_PAIR * _PAIR)] + _PAIRS[number // _PAIR % _PAIR] + _PAIRS[number % _PAIR]


def generate(entropy: Entropy, env: str, kid: str = "") -> KeyText:
    """A new key; with `kid` another secret of that key (a rotation). Raises ValueError for a malformed env or kid."""
    if not _ENV.fullmatch(env):
        raise ValueError(f"{env!r} cannot be the middle word of a key; use 1 to {MAX_ENV_LENGTH} of a-z and 0-9")
    kid = kid or _base62(entropy, KID_LENGTH)
    secret = _base62(entropy, SECRET_LENGTH)
    head = f"fg_{env}_{kid}_{secret}"
    text = f"{head}_{checksum(head)}"
    if parse(text) is None:
        raise ValueError(f"{kid!r} is not the public part of a key")
    return KeyText(kid, secret, text)


def parse(text: str) -> tuple[str, str] | None:
    """(kid, secret) of a well-formed key whose checksum is right, else None. Looks at `MAX_KEY_LENGTH` characters."""
    if len(text) > MAX_KEY_LENGTH:
        return None
    found = _match_key(text)
    if found is None:
        return None
    kid, secret, crc = found.groups()
    return (kid, secret) if checksum(text[: -CRC_LENGTH - 1]) == crc else None


def text_kid(key_id: str) -> str:
    """The kid that a key's own texts carry. An imported key rotated into a Faregate key keeps its 12 hex digits."""
    return key_id.removeprefix(IMPORTED_PREFIX)


class Hasher:
    """HMAC-SHA256 under one pepper. The two padded key blocks are hashed once; a digest then takes 0.7 µs."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, pepper: bytes) -> None:
        block = (hashlib.sha256(pepper).digest() if len(pepper) > _BLOCK_BYTES else pepper).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, secret: str) -> bytes:
        """The 32-byte keyed hash of a secret of ASCII characters."""
        inner = self._inner.copy()
        inner.update(secret.encode("ascii"))
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def imported_digest(text: str) -> bytes:
    """The unkeyed SHA-256 under which a key of another gateway is known."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def imported_id(digest: bytes) -> str:
    """The key id of an imported key: `sha_` and the first 12 hex digits of its digest."""
    return IMPORTED_PREFIX + digest[:6].hex()


def _base62(entropy: Entropy, length: int) -> str:
    characters: list[str] = []
    while len(characters) < length:
        characters += [BASE62[byte & 63] for byte in entropy.bytes(length * 2) if byte & 63 < len(BASE62)]
    return "".join(characters[:length])
