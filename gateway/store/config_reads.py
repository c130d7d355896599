"""Reads of the configuration, each over a connection that is already in a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import Row, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.admin import ConfigRow
from gateway.core.config import KeyDelta, Policy
from gateway.core.limits import Limit
from gateway.routing.policy_bytes import decode_policy
from gateway.store.config_rows import KEY_SCOPE, REVOKED, StoredKey, stored_key, stored_limit
from gateway.store.config_tables import (
    ApiKeyTable,
    ConfigChangeTable,
    LimitTable,
    OrgTable,
    PolicyRevisionTable,
    PriceDraftTable,
    PriceSourceTable,
    PriceVersionTable,
    ScopedLimitTable,
    SuspensionTable,
    TeamTable,
)
from gateway.store.engine import is_sqlite, reading
from gateway.store.ledger_tables import table_of

ORG, TEAM, KEY = table_of(OrgTable), table_of(TeamTable), table_of(ApiKeyTable)
LIMIT, POLICY, CHANGE = table_of(LimitTable), table_of(PolicyRevisionTable), table_of(ConfigChangeTable)
SCOPED, SUSPENDED = table_of(ScopedLimitTable), table_of(SuspensionTable)
PRICE_SOURCE, PRICE_VERSION = table_of(PriceSourceTable), table_of(PriceVersionTable)
PRICE_DRAFT = table_of(PriceDraftTable)

POLICY_SAVED = "policy.saved"
OF_PRICES = "prices."
"""How the kinds of changes begin that are about price books."""
_DELTA = msgspec.msgpack.Decoder(KeyDelta)


@asynccontextmanager
async def viewing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Several statements over one state of the database. Raises StoreUnavailable."""
    async with reading(engine) as connection:
        if not is_sqlite(connection):
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


async def newest_revision(connection: AsyncConnection) -> int:
    """The revision of the newest change; 0 before the first."""
    return int((await connection.execute(select(func.coalesce(func.max(CHANGE.c.revision), 0)))).scalar_one())


async def policy_change(connection: AsyncConnection, upto: int | None = None) -> tuple[int, str] | None:
    """(revision, hash) of the policy in use at a revision, or now."""
    query = select(CHANGE.c.revision, CHANGE.c.subject).where(CHANGE.c.kind == POLICY_SAVED)
    if upto is not None:
        query = query.where(CHANGE.c.revision <= upto)
    row = (await connection.execute(query.order_by(CHANGE.c.revision.desc()).limit(1))).first()
    return None if row is None else (int(row.revision), str(row.subject))


async def policy_in_use(connection: AsyncConnection, upto: int | None = None) -> Policy | None:
    """The policy in use at a revision, or now."""
    change = await policy_change(connection, upto)
    if change is None:
        return None
    revision, digest = change
    query = select(POLICY.c.content).where(POLICY.c.hash == digest)
    return decode_policy((await connection.execute(query)).scalar_one(), revision)


async def deltas_since(connection: AsyncConnection, revision: int) -> tuple[KeyDelta, ...]:
    """Changes of keys and limits after a revision, in commit order."""
    query = (
        select(CHANGE.c.payload)
        .where(
            CHANGE.c.revision > revision,
            CHANGE.c.kind != POLICY_SAVED,
            CHANGE.c.kind.notlike(f"{OF_PRICES}%"),
        )
        .order_by(CHANGE.c.revision)
    )
    return tuple(_DELTA.decode(payload) for payload in (await connection.execute(query)).scalars())


async def log_rows(connection: AsyncConnection, limit: int) -> list[ConfigRow]:
    """The newest changes, newest first."""
    query = (
        select(CHANGE.c.revision, CHANGE.c.kind, CHANGE.c.subject, CHANGE.c.actor, CHANGE.c.ts_ms)
        .order_by(CHANGE.c.revision.desc())
        .limit(limit)
    )
    return [ConfigRow(*row) for row in await connection.execute(query)]


async def one_key(connection: AsyncConnection, key_id: str) -> StoredKey | None:
    return await _first(connection, select(KEY).where(KEY.c.key_id == key_id))


async def key_named(connection: AsyncConnection, org: str, name: str) -> StoredKey | None:
    """The key of a name that is not revoked."""
    return await _first(connection, select(KEY).where(KEY.c.org == org, KEY.c.name == name, KEY.c.state != REVOKED))


async def listed_keys(
    connection: AsyncConnection, org: str, team: str | None, limit: int, offset: int
) -> list[StoredKey]:
    """An org's keys, revoked ones included, the oldest first."""
    query = select(KEY).where(KEY.c.org == org)
    if team is not None:
        query = query.where(KEY.c.team == team)
    return await _keys(connection, query.order_by(KEY.c.created_ms, KEY.c.key_id).limit(limit).offset(offset))


async def live_keys(connection: AsyncConnection) -> list[StoredKey]:
    """Every key that is not revoked."""
    rows = (await connection.execute(select(KEY).where(KEY.c.state != REVOKED).order_by(KEY.c.key_id))).all()
    limits = _by_key((await connection.execute(_KEY_LIMITS)).all())
    return [stored_key(row, limits.get(row.key_id, ())) for row in rows]


async def org_names(connection: AsyncConnection) -> list[str]:
    return list((await connection.execute(select(ORG.c.name).order_by(ORG.c.name))).scalars())


async def team_names(connection: AsyncConnection, org: str) -> list[str]:
    return list(
        (await connection.execute(select(TEAM.c.name).where(TEAM.c.org == org).order_by(TEAM.c.name))).scalars()
    )


_KEY_LIMITS = select(LIMIT).where(LIMIT.c.dimension == KEY_SCOPE)


async def _first(connection: AsyncConnection, query: Select[Any]) -> StoredKey | None:
    found = await _keys(connection, query)
    return found[0] if found else None


async def _keys(connection: AsyncConnection, query: Select[Any]) -> list[StoredKey]:
    rows = (await connection.execute(query)).all()
    if not rows:
        return []
    ids = [row.key_id for row in rows]
    limits = _by_key((await connection.execute(_KEY_LIMITS.where(LIMIT.c.value.in_(ids)))).all())
    return [stored_key(row, limits.get(row.key_id, ())) for row in rows]


def _by_key(rows: Sequence[Row[Any]]) -> dict[str, list[Limit]]:
    found: dict[str, list[Limit]] = {}
    for row in rows:
        found.setdefault(row.value, []).append(stored_limit(row))
    return found
