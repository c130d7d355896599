"""Keys between their rows and core's values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Row

from gateway.core.admin import KeyView
from gateway.core.caller import KeyRecord
from gateway.core.limits import HoldKind, Limit, OnExceed, Unit, Window, WindowKind

ACTIVE, PAUSED, REVOKED, EXPIRED = "active", "paused", "revoked", "expired"
KEY_SCOPE = "key"

Hashes = tuple[tuple[int, bytes, int], ...]
_UNITS, _WINDOWS = tuple(Unit), tuple(WindowKind)
_HASHES = msgspec.msgpack.Decoder(Hashes)
_MODELS = msgspec.json.Decoder(tuple[str, ...])
_TAGS = msgspec.json.Decoder(tuple[tuple[str, str], ...])


class StoredKey(msgspec.Struct, frozen=True):
    """A row of `api_key` with its limits, as values."""

    key_id: str
    org: str
    team: str
    name: str
    role: str
    state: str
    prefix: str
    hashes: Hashes
    models: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    created_ms: int
    created_by: str
    expires_ms: int
    limits: tuple[Limit, ...] = ()

    @property
    def revoked(self) -> bool:
        return self.state == REVOKED

    def record(self) -> KeyRecord | None:
        """What processes hold of it: nothing once it is revoked."""
        if self.revoked:
            return None
        return KeyRecord(
            key_id=self.key_id,
            name=self.name,
            org=self.org,
            team=self.team,
            role=self.role,
            hashes=self.hashes,
            models=self.models,
            tags=self.tags,
            expires_ms=self.expires_ms,
            paused=self.state == PAUSED,
            limits=self.limits,
        )

    def view(self, now_ms: int) -> KeyView:
        """What people see of it."""
        expired = self.state != REVOKED and 0 < self.expires_ms <= now_ms
        return KeyView(
            key_id=self.key_id,
            prefix=self.prefix,
            name=self.name,
            org=self.org,
            team=self.team,
            role=self.role,
            models=self.models,
            tags=dict(self.tags),
            created_ms=self.created_ms,
            expires_ms=self.expires_ms,
            state=EXPIRED if expired else self.state,
            limits=self.limits,
        )

    def columns(self) -> dict[str, Any]:
        """The row's values; limits have a table of their own."""
        return {
            "key_id": self.key_id,
            "org": self.org,
            "team": self.team,
            "name": self.name,
            "role": self.role,
            "state": self.state,
            "prefix": self.prefix,
            "hashes": msgspec.msgpack.encode(self.hashes),
            "models": msgspec.json.encode(self.models).decode(),
            "tags": msgspec.json.encode(self.tags).decode(),
            "created_ms": self.created_ms,
            "created_by": self.created_by,
            "expires_ms": self.expires_ms,
        }


def stored_key(row: Row[Any], limits: Iterable[Limit]) -> StoredKey:
    """A row of `api_key`, all columns."""
    return StoredKey(
        key_id=row.key_id,
        org=row.org,
        team=row.team,
        name=row.name,
        role=row.role,
        state=row.state,
        prefix=row.prefix,
        hashes=_HASHES.decode(row.hashes),
        models=_MODELS.decode(row.models),
        tags=_TAGS.decode(row.tags),
        created_ms=row.created_ms,
        created_by=row.created_by,
        expires_ms=row.expires_ms,
        limits=in_order(limits),
    )


def stored_limit(row: Row[Any]) -> Limit:
    """A row of `limit_rule`, all columns."""
    return Limit(
        id=row.id,
        unit=Unit(row.unit),
        amount=row.amount,
        window=Window(WindowKind(row.window_kind), row.window_length_s, row.window_zone),
        scope=((row.dimension, row.value),),
        on_exceed=OnExceed(row.on_exceed),
        hold=HoldKind(row.hold),
        origin="sql",
    )


def in_order(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """By unit (money first), then window: the one order in which a key's limits are held and shown."""
    return tuple(sorted(limits, key=_place))


def _place(limit: Limit) -> tuple[int, int, int, str]:
    window = limit.window
    return _UNITS.index(limit.unit), _WINDOWS.index(window.kind), window.length_s, window.zone


def limit_columns(limit: Limit) -> dict[str, Any]:
    """The values of a `limit_rule` row. A SQL-owned limit is scoped by exactly one dimension."""
    ((dimension, value),) = limit.scope
    return {
        "id": limit.id,
        "dimension": dimension,
        "value": value,
        "unit": limit.unit.value,
        "amount": limit.amount,
        "window_kind": limit.window.kind.value,
        "window_length_s": limit.window.length_s,
        "window_zone": limit.window.zone,
        "on_exceed": limit.on_exceed.value,
        "hold": limit.hold.value,
    }
