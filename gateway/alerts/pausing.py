"""The pause link: a signed, expiring text that says what it may stop, and nothing else.

Whoever holds it may do that one thing, so it stands only in what is sent to a channel, and nothing happens on GET:
scanners of mail follow links.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

import msgspec

from gateway.core.alerts import Alert, AlertKind
from gateway.core.errors import NotPermitted
from gateway.core.limits import EACH

PATH = "/alerts/pause"
MIN_SECRET_BYTES = 32
LONGEST_TOKEN = 4096
_PURPOSE = b"faregate pause link v1\n"
_DIGEST_BYTES = 32
_OWNERS = ("org", "team", "key")
_NAMED = (*_OWNERS, "user", "session")
_SENT = ("user", "session")
_STOPPED = frozenset({"key", "user", "session"})
_STOPPABLE = (AlertKind.THRESHOLD, AlertKind.FORECAST, AlertKind.RATE_OF_SPEND)
Scope = tuple[tuple[str, str], ...]


class Pause(msgspec.Struct, frozen=True):
    """What a link stops: `scope` as a limit has it. A key alone (with its org and team) is paused; a user or session of
    it, or of a team, gets a limit of nothing. `expires_ms` is ms UTC."""

    alert_id: str
    scope: Scope
    expires_ms: int

    @property
    def key_alone(self) -> bool:
        return all(name in _OWNERS for name, _ in self.scope)


def pause_of(alert: Alert, expires_ms: int) -> Pause | None:
    """What would stop the spending that an alert tells of; None where that is not one key, user or session, or where
    the value is too long to be told whole."""
    if alert.kind not in _STOPPABLE or not alert.org:
        return None
    if any(name in _SENT and value == EACH for name, value in alert.scope):
        return None  # a caller may call itself so; who is meant cannot be said of a limit, and the key is not
    found = {"org": alert.org, **{name: value for name, value in alert.scope if name in _NAMED and value != EACH}}
    if alert.key_id:
        found["key"] = alert.key_id
    whole = all(value and "~" not in value for value in found.values())
    if not whole or not _STOPPED & set(found):
        return None
    return Pause(alert.id, tuple((name, found[name]) for name in _NAMED if name in found), expires_ms)


def sign(pause: Pause, secret: bytes) -> str:
    """The token of a link. Raises ValueError for a secret under 32 bytes: an empty one would sign anything."""
    content = msgspec.msgpack.encode(pause)
    return base64.urlsafe_b64encode(_digest(content, secret) + content).rstrip(b"=").decode()


def read(token: str, secret: bytes, now_ms: int) -> Pause:
    """What a token may stop. Raises NotPermitted when it is not ours, or expired."""
    try:
        if len(token) > LONGEST_TOKEN:
            raise ValueError("too long")
        whole = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, content = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
        genuine = hmac.compare_digest(digest, _digest(content, secret))
        pause = msgspec.msgpack.decode(content, type=Pause) if genuine else None
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        pause = None
    if pause is None:
        raise NotPermitted("This link is not one of this gateway's. Copy the whole link from the alert.")
    if now_ms >= pause.expires_ms:
        raise NotPermitted("This link has expired. Use `faregate keys pause`, or the console.")
    return pause


def _digest(content: bytes, secret: bytes) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError("the secret of pause links is too short")
    return hmac.new(secret, _PURPOSE + content, sha256).digest()
