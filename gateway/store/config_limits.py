"""core.limit_admin.LimitStore on SQLite and PostgreSQL: limits of an org that are no key's own, and suspensions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from sqlalchemy import Row, insert, inspect, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.config import KeyDelta, LimitChange
from gateway.core.errors import Conflict, NotFound, StoreUnavailable
from gateway.core.ids import make_id, print_id
from gateway.core.limit_admin import LimitView
from gateway.core.limits import Limit, Suspension
from gateway.core.ports import Clock, Entropy
from gateway.store import config_checks as checks
from gateway.store import config_reads as reads
from gateway.store.engine import is_sqlite, schema_of

LIMIT_ID, SUSPENSION_ID = "lim", "sus"
MAX_SCOPED_LIMITS = 10_000
"""Limits of one org: workers hold all of them."""

_LIMIT = msgspec.json.Decoder(Limit)
_SCOPE = msgspec.json.Decoder(tuple[tuple[str, str], ...])


class Write:
    """One write in its transaction: the newest revision, and the log."""

    def __init__(self, connection: AsyncConnection, revision: int, now_ms: int, actor: str) -> None:
        self.connection = connection
        self.revision = revision
        self.now_ms = now_ms
        self.actor = actor

    async def append(self, kind: str, subject: str, payload: bytes) -> None:
        """The next revision of the log."""
        self.revision += 1
        row = {
            "revision": self.revision,
            "kind": kind,
            "subject": subject,
            "actor": self.actor,
            "payload": payload,
            "ts_ms": self.now_ms,
        }
        await self.connection.execute(insert(reads.CHANGE).values(row))

    async def append_change(self, kind: str, change: LimitChange) -> None:
        delta = KeyDelta(self.revision + 1, change.id, None, change)
        await self.append(kind, change.id, msgspec.msgpack.encode(delta))


class LimitRows(ABC):
    """The part of a configuration store that writes and reads limits of their own."""

    _engine: AsyncEngine
    _entropy: Entropy
    _clock: Clock

    @abstractmethod
    def _writing(self, actor: str) -> AbstractAsyncContextManager[Write]:
        """One write under the lock, committed at the end."""

    async def create_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        async with self._writing(actor) as write:
            limit_id = self._new_id(LIMIT_ID, write.now_ms)
            limit = msgspec.structs.replace(limit, id=limit_id, name=limit.name or limit_id, origin="sql")
            checks.name_of(limit.name, "name")
            present = await _listed(write.connection, org)
            if len(present) >= MAX_SCOPED_LIMITS:
                raise Conflict(f"{org} has {MAX_SCOPED_LIMITS} limits already; use `each` in scopes instead")
            _refuse_taken(present, limit)
            made = {"org": org, "created_ms": write.now_ms, "created_by": actor, "removed_ms": 0}
            await write.connection.execute(insert(reads.SCOPED).values({**_columns(limit), **made}))
            await write.append_change("limit.created", LimitChange(limit_id, limit))
            return LimitView(limit, org, write.now_ms, actor), write.revision

    async def replace_limit(self, org: str, limit: Limit, *, actor: str) -> tuple[LimitView, int]:
        async with self._writing(actor) as write:
            present = await _listed(write.connection, org)
            before = _named(present, limit.id)
            checks.name_of(limit.name, "name")
            _refuse_taken(present, limit)
            if before.limit != limit:
                statement = update(reads.SCOPED).where(reads.SCOPED.c.id == limit.id).values(_columns(limit))
                await write.connection.execute(statement)
                await write.append_change("limit.updated", LimitChange(limit.id, limit))
            return msgspec.structs.replace(before, limit=limit), write.revision

    async def remove_limit(self, org: str, limit_id: str, *, actor: str) -> int:
        async with self._writing(actor) as write:
            found = _named(await _listed(write.connection, org), limit_id).limit
            removed = update(reads.SCOPED).where(reads.SCOPED.c.id == found.id).values(removed_ms=write.now_ms)
            await write.connection.execute(removed)
            await write.append_change("limit.removed", LimitChange(found.id))
            return write.revision

    async def limit(self, org: str, name: str) -> LimitView:
        return _named(await self.limits(org), name)

    async def limits(self, org: str) -> list[LimitView]:
        async with reads.viewing(self._engine) as connection:
            return await _listed(connection, org)

    async def suspend(self, org: str, suspension: Suspension) -> tuple[Suspension, int]:
        async with self._writing(suspension.actor) as write:
            await _check_schema(write.connection)
            made = msgspec.structs.replace(
                suspension, id=self._new_id(SUSPENSION_ID, write.now_ms), created_ms=write.now_ms
            )
            row = {
                "id": made.id,
                "org": org,
                "scope": msgspec.json.encode(made.scope).decode(),
                "limit_id": made.limit_id,
                "until_ms": made.until_ms,
                "reason": made.reason,
                "actor": made.actor,
                "created_ms": made.created_ms,
            }
            await write.connection.execute(insert(reads.SUSPENDED).values(row))
            await write.append_change("limits.suspended", LimitChange(made.id, suspension=made))
            return made, write.revision

    async def end_suspension(self, org: str, suspension_id: str, *, actor: str) -> int:
        async with self._writing(actor) as write:
            await _check_schema(write.connection)
            suspended = reads.SUSPENDED
            mine = (suspended.c.id == suspension_id, suspended.c.org == org)
            row = (await write.connection.execute(select(suspended).where(*mine))).first()
            if row is None:
                raise NotFound(f"There is no suspension {suspension_id[:40]!r}.")
            if row.until_ms > write.now_ms:
                await write.connection.execute(update(suspended).where(*mine).values(until_ms=write.now_ms))
                await write.append_change("limits.resumed", LimitChange(suspension_id))
            return write.revision

    async def suspensions(self, org: str, limit: int = 100) -> list[Suspension]:
        suspended = reads.SUSPENDED
        newest = select(suspended).where(suspended.c.org == org).order_by(suspended.c.created_ms.desc(), suspended.c.id)
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            return [_suspension(row) for row in await connection.execute(newest.limit(limit))]

    async def org_of_limit(self, subject: str) -> str | None:
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            for table in (reads.SCOPED, reads.SUSPENDED):
                row = (await connection.execute(select(table.c.org).where(table.c.id == subject))).first()
                if row is not None:
                    return str(row.org)
        return None

    def _new_id(self, kind: str, now_ms: int) -> str:
        return print_id(kind, make_id(now_ms, self._entropy.bytes(10)))


async def limit_changes(connection: AsyncConnection, now_ms: int) -> tuple[LimitChange, ...]:
    """The state of all orgs' limits and of the suspensions that have not ended: what a snapshot holds.

    Nothing on a schema of the revision before: it has no place for them, and serving goes on during an upgrade.
    """
    if not await connection.run_sync(_has_limits):
        return ()
    scoped, suspended = reads.SCOPED, reads.SUSPENDED
    limits = await connection.execute(select(scoped).where(scoped.c.removed_ms == 0).order_by(scoped.c.id))
    found = [LimitChange(row.id, _LIMIT.decode(row.content)) for row in limits]
    lasting = await connection.execute(select(suspended).where(suspended.c.until_ms > now_ms).order_by(suspended.c.id))
    return (*found, *(LimitChange(row.id, suspension=_suspension(row)) for row in lasting))


def _has_limits(connection: Connection) -> bool:
    schema = None if is_sqlite(connection) else schema_of("config")
    return bool(inspect(connection).has_table(reads.SCOPED.name, schema=schema))


async def _check_schema(connection: AsyncConnection) -> None:
    if not await connection.run_sync(_has_limits):
        raise StoreUnavailable("The database has no place for limits yet: run `faregate db upgrade`.")


async def _listed(connection: AsyncConnection, org: str) -> list[LimitView]:
    await _check_schema(connection)
    scoped = reads.SCOPED
    query = select(scoped).where(scoped.c.org == org, scoped.c.removed_ms == 0).order_by(scoped.c.name)
    rows = await connection.execute(query)
    return [LimitView(_LIMIT.decode(row.content), row.org, row.created_ms, row.created_by) for row in rows]


def _named(views: list[LimitView], name: str) -> LimitView:
    for view in views:
        if name in (view.limit.id, view.limit.name):
            return view
    raise NotFound(f"There is no limit {name[:60]!r}. `faregate limits list` shows what there is.")


def _refuse_taken(present: list[LimitView], limit: Limit) -> None:
    for view in present:
        if limit.name in (view.limit.name, view.limit.id) and view.limit.id != limit.id:
            raise Conflict(f"There is a limit named {limit.name!r} already ({view.limit.id})", param="name")


def _columns(limit: Limit) -> dict[str, Any]:
    return {"id": limit.id, "name": limit.name, "content": msgspec.json.encode(limit).decode()}


def _suspension(row: Row[Any]) -> Suspension:
    return Suspension(
        id=row.id,
        scope=_SCOPE.decode(row.scope),
        until_ms=row.until_ms,
        reason=row.reason,
        actor=row.actor,
        created_ms=row.created_ms,
        limit_id=row.limit_id,
    )
