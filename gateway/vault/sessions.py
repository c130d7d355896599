"""Console sessions: signed tokens bound to a key, and the tokens that prove a form came from our own page.

A token holds no right. Each use looks the key up again, so revocation, pausing, expiry, a changed role and the end of
the secret signed in with all end the session at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.errors import ConfigInvalid, NotAuthenticated
from gateway.core.ports import Clock, Entropy
from gateway.vault.secret_file import create_private, read_private

MIN_SECRET_BYTES = 32
MAX_TOKEN_LENGTH = 512
MAX_SIGNED_OUT = 10_000
"""Sessions remembered as signed out; a restart forgets them, and they then end by their expiry."""
CSRF_TTL_MS = 12 * 3600 * 1000
_MAC_BYTES = 32
_ENDED = "The session has ended; sign in again"


class _Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    session_id: bytes
    key_id: str
    expires_ms: int
    bond: bytes


class Session(NamedTuple):
    """An open session: its key as of now, and the id that CSRF tokens are bound to."""

    session_id: str
    key: KeyRecord
    expires_ms: int


def load_session_secret(path: Path, entropy: Entropy) -> bytes:
    """The secret all console tokens are signed under, created at first start (base64, 0600). Raises ConfigInvalid."""
    content = read_private(path)
    if content is None:
        create_private(path, base64.b64encode(entropy.bytes(MIN_SECRET_BYTES)) + b"\n")
        content = read_private(path) or b""
    try:
        secret = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigInvalid(
            f"{path}: must hold at least {MIN_SECRET_BYTES} random bytes in base64. "
            "Delete it and restart: a new one is made, and everybody signs in again"
        )
    return secret


def subkey(secret: bytes, purpose: str) -> bytes:
    """A key of its own per purpose: HKDF-Expand (RFC 5869) of one block. `secret` is uniformly random already."""
    return hmac.digest(secret, b"faregate/" + purpose.encode("ascii") + b"\x01", hashlib.sha256)


class Sessions:
    """Opens and checks console sessions. `lookup` finds the present record of a key id."""

    def __init__(
        self,
        secret: bytes,
        lookup: Callable[[str], KeyRecord | None],
        clock: Clock,
        entropy: Entropy,
        lasts_ms: int,
    ) -> None:
        """Raises ValueError for a secret under 32 bytes: an empty key would sign for everybody."""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the session secret has under {MIN_SECRET_BYTES} bytes")
        self._session_key = subkey(secret, "console-session")
        self._bond_key = subkey(secret, "console-session-bond")
        self._csrf_key = subkey(secret, "console-csrf")
        self._lookup = lookup
        self._clock = clock
        self._entropy = entropy
        self._lasts_ms = lasts_ms
        self._signed_out: OrderedDict[bytes, int] = OrderedDict()

    def open(self, key: KeyRecord, digest: bytes) -> str:
        """A token for the key whose presented secret matched `digest` (`MemoryKeyRing.match`)."""
        claims = _Claims(
            self._entropy.bytes(16), key.key_id, self._clock.now_ms() + self._lasts_ms, self._bond(key, digest)
        )
        body = msgspec.msgpack.encode(claims)
        return _b64(body) + "." + _b64(hmac.digest(self._session_key, body, hashlib.sha256))

    def check(self, token: str) -> Session:
        """The session of a token. Raises NotAuthenticated, with one message, whatever is wrong with it."""
        claims = self._claims(token)
        now_ms = self._clock.now_ms()
        if claims is None or now_ms >= claims.expires_ms or claims.session_id in self._signed_out:
            raise NotAuthenticated(_ENDED)
        key = self._lookup(claims.key_id)
        if key is None or key.paused or (key.expires_ms and now_ms >= key.expires_ms):
            raise NotAuthenticated(_ENDED)
        live = [digest for _, digest, ends_ms in key.hashes if not ends_ms or now_ms < ends_ms]
        if not any(hmac.compare_digest(self._bond(key, digest), claims.bond) for digest in live):
            raise NotAuthenticated(_ENDED)
        return Session(claims.session_id.hex(), key, claims.expires_ms)

    def close(self, token: str) -> None:
        """Signs out: the token is worth nothing from now on. Harmless for any other text."""
        claims = self._claims(token)
        if claims is None:
            return
        now_ms = self._clock.now_ms()
        signed_out = self._signed_out
        signed_out[claims.session_id] = claims.expires_ms
        while signed_out:
            oldest = next(iter(signed_out))
            if signed_out[oldest] > now_ms and len(signed_out) <= MAX_SIGNED_OUT:
                break
            del signed_out[oldest]

    def csrf_token(self, binding: str) -> str:
        """For the forms of one session (its id), or of one visitor who is not signed in (a random cookie)."""
        expires_ms = self._clock.now_ms() + CSRF_TTL_MS
        return f"{expires_ms}." + _b64(self._csrf_mac(binding, expires_ms))

    def csrf_valid(self, token: str, binding: str) -> bool:
        """Whether a form's token was given to this binding and has not expired."""
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            return False
        head, _, mac = token.partition(".")
        if not head.isdigit() or len(head) > 15:
            return False
        expires_ms = int(head)
        right = hmac.compare_digest(mac.encode(), _b64(self._csrf_mac(binding, expires_ms)).encode())
        return right and self._clock.now_ms() < expires_ms

    def _csrf_mac(self, binding: str, expires_ms: int) -> bytes:
        text = f"{expires_ms}.{binding}"
        return hmac.digest(self._csrf_key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)

    def _bond(self, key: KeyRecord, digest: bytes) -> bytes:
        """Ties a session to the secret signed in with and to the role and org it then had."""
        text = msgspec.msgpack.encode((key.key_id, key.role, key.org, digest))
        return hmac.digest(self._bond_key, text, hashlib.sha256)

    def _claims(self, token: str) -> _Claims | None:
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            return None
        head, _, tail = token.partition(".")
        try:
            body, mac = _unb64(head), _unb64(tail)
        except binascii.Error:
            return None
        if not hmac.compare_digest(mac, hmac.digest(self._session_key, body, hashlib.sha256)):
            return None
        return msgspec.msgpack.decode(body, type=_Claims)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    """Raises binascii.Error, also for a second spelling of the same bytes: there is one text of each token."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _b64(data) != text:
        raise binascii.Error("not the one spelling")
    return data
