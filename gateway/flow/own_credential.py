"""The caller's own credential at a provider: a subscription, or a key of its own.

With its Faregate key in `x-faregate-api-key`, what a caller's SDK puts into `authorization` or `x-api-key` is meant for
the provider. It goes up only to providers whose settings say `caller_credentials`: elsewhere it may be a placeholder,
or a secret that is none of theirs. It lives as long as its call and stands in no record and no log.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.flow.state import Passage, Target

KEY_HEADER = "x-faregate-api-key"
_CREDENTIAL_HEADERS = ("authorization", "x-api-key")
_KEY_PREFIX = "fg_"

Credential = tuple[tuple[str, str], ...]
"""Headers as they came."""


def own_credential(headers: Mapping[str, str]) -> Credential:
    """The headers of a credential besides the caller's key; none where it is such a key itself."""
    key = headers.get(KEY_HEADER, "")
    if not key:
        return ()
    sent = [(name, headers.get(name, "")) for name in _CREDENTIAL_HEADERS]
    return tuple([(name, value) for name, value in sent if value and not _is_key(value, key)])


def _is_key(value: str, key: str) -> bool:
    bare = value.rpartition(" ")[2]
    return bare == key or bare.startswith(_KEY_PREFIX)


def pays_itself(passage: Passage, target: Target) -> bool:
    """Whether an attempt at `target` is billed to the caller by the provider, and so to nobody here."""
    return bool(passage.own_credential) and target.provider.caller_credentials
