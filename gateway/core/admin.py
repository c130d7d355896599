"""What configuration can be asked and told: the port behind the admin API, the console and the local commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.core.caller import KeyRecord
from gateway.core.config import KeyDelta, Policy, Snapshot
from gateway.core.limits import Limit


class KeyChange(msgspec.Struct, frozen=True):
    """What to set of a key; None leaves a member as it is. `limits` are SQL-owned.

    A limit's scope and id are filled in by the store (scope is the key itself). On update a given limit replaces the
    key's limit of the same unit and window; others stay.
    """

    name: str | None = None
    org: str | None = None
    team: str | None = None
    role: str | None = None
    models: tuple[str, ...] | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    expires_ms: int | None = None
    limits: tuple[Limit, ...] | None = None


class KeyView(msgspec.Struct, frozen=True):
    """A key for people: never its secret. `state` is active, paused, expired or revoked."""

    key_id: str
    prefix: str
    name: str
    org: str
    team: str
    role: str
    models: tuple[str, ...]
    tags: dict[str, str]
    created_ms: int
    expires_ms: int
    state: str
    limits: tuple[Limit, ...]


class Created(msgspec.Struct, frozen=True):
    """A created or rotated key: `secret` is its full text, shown once; empty when it existed already."""

    view: KeyView
    secret: str
    revision: int


class ConfigRow(msgspec.Struct, frozen=True):
    """One row of `config_change`, in commit order."""

    revision: int
    kind: str
    subject: str
    actor: str
    ts_ms: int


class ConfigStore(Protocol):
    """The only writer of configuration. Each write takes one lock and appends to `config_change` in its transaction.

    Raises Conflict (a name taken), NotFound, BadRequest, StoreUnavailable.
    """

    async def create_key(self, change: KeyChange, *, actor: str, if_absent: bool = False) -> Created:
        """A new key; with `if_absent` an existing one of that name and org is returned without its secret."""
        ...

    async def import_key(self, sha256_hex: str, change: KeyChange, *, actor: str) -> Created:
        """A key of another gateway by the SHA-256 of its whole text; it keeps working unchanged."""
        ...

    async def update_key(self, key_id: str, change: KeyChange, *, actor: str) -> tuple[KeyView, int]: ...

    async def set_paused(self, key_id: str, paused: bool, *, actor: str) -> tuple[KeyView, int]: ...

    async def revoke_key(self, key_id: str, *, actor: str) -> tuple[KeyView, int]: ...

    async def rotate_key(self, key_id: str, overlap_s: int, *, actor: str) -> Created:
        """A second secret of the same key; the old one ends after `overlap_s` (0: at once)."""
        ...

    async def key(self, key_id: str) -> KeyView: ...

    async def keys(self, org: str, team: str | None = None, limit: int = 1000, offset: int = 0) -> list[KeyView]: ...

    async def orgs(self) -> list[str]: ...

    async def teams(self, org: str) -> list[str]: ...

    async def save_policy(self, policy: Policy, *, actor: str, prices: int | None = None) -> Policy:
        """Stores a compiled policy by hash; returns it with its revision (the present one when nothing changed).

        `prices` is the version of the price book that it was compiled with. Raises Conflict when that is not the newest
        any more: another desk has published prices meanwhile, and this policy has the old ones. A policy that is the
        present one is stored once more where that version is newer than it: so it says what it was compiled with."""
        ...

    async def policy_at(self, revision: int) -> Policy | None: ...

    async def snapshot(self) -> Snapshot | None:
        """Everything as of now, or None before the first policy."""
        ...

    async def changes_since(self, revision: int) -> tuple[int, tuple[KeyDelta, ...], Policy | None]:
        """The newest revision, the key deltas after `revision` in commit order, and the policy if it changed."""
        ...

    async def log(self, limit: int = 100) -> Sequence[ConfigRow]: ...

    async def key_records(self) -> tuple[KeyRecord, ...]: ...


class Publisher(Protocol):
    """Hands committed changes to the workers."""

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        """True when every live worker has acknowledged `revision`; False (the API then answers 202 `pending`) when not
        within a second."""
        ...
