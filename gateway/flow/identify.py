"""identify: the presented key becomes a Caller, or the call ends with 401, 403 or 503.

The keyed hash is compared in constant time and an unknown key costs the same work as a known one. Permission is
decided here, on the matched route, and nowhere else on the data plane.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.caller import Caller, Permission, permits
from gateway.core.errors import BadRequest, KeysUnavailable, NotAuthenticated, NotPermitted
from gateway.core.ports import KeyRing
from gateway.flow.attribution import attributed

_KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
_HOW = "Send your Faregate key as `Authorization: Bearer fg_…`; `faregate keys create` makes one."


def presented_key(headers: Mapping[str, str]) -> str:
    """The key a request carries: of `x-faregate-api-key`, else from any of the headers SDKs use. Two of those that
    disagree are a 400."""
    own = headers.get("x-faregate-api-key", "").strip()
    if own:
        return own  # what the other headers hold is the provider's to judge (`own_credential`), or a placeholder
    found = ""
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated(f"The Authorization header must be of the scheme Bearer. {_HOW}")
        found = value.strip()
    if not headers.keys().isdisjoint(_KEY_HEADERS):
        found = _agreed(headers, found)
    if not found:
        raise NotAuthenticated(f"No API key was sent. {_HOW}")
    return found


def _agreed(headers: Mapping[str, str], found: str) -> str:
    """The key in the headers of other vendors' SDKs and in `found`. Raises BadRequest when two are different."""
    for name in _KEY_HEADERS:
        value = headers.get(name, "")
        if value and found and value != found:
            raise BadRequest(f"The request carries two different keys: in {name} and in another header. Send one.")
        found = found or value
    return found


def identify(
    headers: Mapping[str, str], keys: KeyRing, permission: Permission, now_ms: int, stale_after_ms: int
) -> Caller:
    """Raises NotAuthenticated, NotPermitted, or KeysUnavailable when an unknown key may just be too new."""
    key = keys.find(presented_key(headers), now_ms)
    if key is None:
        if now_ms - keys.fresh_ms > stale_after_ms:
            raise KeysUnavailable(
                "This key is not known here and the list of keys cannot be refreshed just now. Try again shortly.",
                headers={"retry-after": "5"},
            )
        raise NotAuthenticated(f"Incorrect API key provided: it is not known or was revoked. {_HOW}")
    if key.expires_ms and key.expires_ms <= now_ms:
        raise NotAuthenticated(f"The key {key.key_id} ({key.name}) has expired. Ask its owner for a new one.")
    if key.paused:
        raise NotPermitted(
            f"The key {key.key_id} ({key.name}) is paused. `faregate keys resume {key.key_id}` ends that."
        )
    if not permits(key, permission):
        raise NotPermitted(
            f"The key {key.key_id} has the role {key.role}, which does not include {permission.value}. "
            "Use a key whose role does."
        )
    return attributed(key, headers)
