"""Who asks: keys as the worker holds them, the Caller of one call, roles and the permissions they grant."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.core.limits import Limit

PLAIN_SHA256 = 0
"""`pepper_version` of a key imported as an unkeyed SHA-256 of its whole text (`sk-…` of another gateway)."""


class Permission(StrEnum):
    """What a route may ask for. Every route of both planes names exactly one."""

    PUBLIC = "public"
    CALL_MODELS = "models.call"
    READ_OWN = "calls.read_own"
    READ_METRICS = "metrics.read"
    READ_SPEND = "spend.read"
    READ_CONTENT = "content.read"
    READ_KEYS = "keys.read"
    WRITE_KEYS = "keys.write"
    READ_CONFIG = "config.read"
    WRITE_CONFIG = "config.write"
    WRITE_LIMITS = "limits.write"
    WRITE_PRICES = "prices.write"
    CORRECT_LEDGER = "ledger.correct"
    WRITE_PROMPTS = "prompts.write"
    READ_AUDIT = "audit.read"
    OPEN_CONSOLE = "console.open"


class Role(StrEnum):
    ADMIN = "admin"
    FINANCE = "finance"
    PROMPT_ENGINEER = "prompt_engineer"
    TEAM = "team"
    AUDITOR = "auditor"
    DATA = "data"
    METRICS = "metrics"


_P = Permission
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(_P) - {_P.CALL_MODELS},
    Role.FINANCE: frozenset(
        {
            _P.PUBLIC,
            _P.READ_SPEND,
            _P.READ_KEYS,
            _P.WRITE_LIMITS,
            _P.WRITE_PRICES,
            _P.CORRECT_LEDGER,
            _P.READ_CONFIG,
            _P.OPEN_CONSOLE,
            _P.READ_OWN,
        }
    ),
    Role.PROMPT_ENGINEER: frozenset(
        {_P.PUBLIC, _P.READ_SPEND, _P.READ_CONTENT, _P.WRITE_PROMPTS, _P.READ_CONFIG, _P.OPEN_CONSOLE, _P.READ_OWN}
    ),
    Role.TEAM: frozenset({_P.PUBLIC, _P.READ_SPEND, _P.READ_KEYS, _P.OPEN_CONSOLE, _P.READ_OWN}),
    Role.AUDITOR: frozenset(
        {_P.PUBLIC, _P.READ_SPEND, _P.READ_KEYS, _P.READ_CONFIG, _P.READ_AUDIT, _P.OPEN_CONSOLE, _P.READ_OWN}
    ),
    Role.DATA: frozenset({_P.PUBLIC, _P.CALL_MODELS, _P.READ_OWN}),
    Role.METRICS: frozenset({_P.PUBLIC, _P.READ_METRICS}),
}
"""A team's spend and keys are its own only: `team_scope` narrows what the grant opens."""


_GRANTS_BY_WORD: dict[str, frozenset[Permission]] = {role.value: granted for role, granted in GRANTS.items()}
_NOTHING: frozenset[Permission] = frozenset()


class KeyRecord(msgspec.Struct, frozen=True, array_like=True):
    """A key as every process holds it: never the secret, only its keyed hash.

    `key_id` is the 12-character public part (or `sha_` + 12 hex digits for an imported one). `hashes` are
    (pepper_version, digest, expires_ms or 0) and hold two entries during a rotation. `models` are names or
    patterns with `*`; empty means every model. `expires_ms` 0 means never. `limits` are all limits that match
    this key, compiled beside it.
    """

    key_id: str
    name: str
    org: str
    team: str
    role: str
    hashes: tuple[tuple[int, bytes, int], ...]
    models: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    expires_ms: int = 0
    paused: bool = False
    limits: tuple[Limit, ...] = ()


OWNED_TAGS = frozenset({"org", "team", "key", "cost_centre", "cost_center", "billing"})
"""Whose money it is, is the key's to say: a caller's tag of such a name does not count. `-` is as good as `_` in them,
and capitals as small letters."""


def is_owned_tag(name: str) -> bool:
    return name.lower().replace("-", "_") in OWNED_TAGS


class RequiredTags(msgspec.Struct, frozen=True, array_like=True):
    """Tags that calls of a team must carry (`*`: of every team). A call without them is refused if `refuses`, else it
    is only counted and told so."""

    team: str
    names: tuple[str, ...]
    refuses: bool = False


class TagPolicy(msgspec.Struct, frozen=True, array_like=True):
    """What is known of tags: which the ledger keeps sums of (`rollups`; any other stays with its call), and which must
    be sent."""

    rollups: tuple[str, ...] = ()
    required: tuple[RequiredTags, ...] = ()


class Caller(msgspec.Struct, frozen=True):
    """Who makes this call: the key's owner and what the request said of its end user and session."""

    key: KeyRecord
    user: str = ""
    session: str = ""
    tags: tuple[tuple[str, str], ...] = ()


def permits(key: KeyRecord | None, permission: Permission) -> bool:
    """The one decision on the matched route. An unknown role is granted nothing."""
    if permission is Permission.PUBLIC:
        return True
    if key is None:
        return False
    return permission in _GRANTS_BY_WORD.get(key.role, _NOTHING)


def team_scope(key: KeyRecord) -> str | None:
    """The only team whose rows this key may read, or None for all teams of its org."""
    return key.team if key.role in (Role.TEAM, Role.DATA) else None
