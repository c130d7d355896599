"""core.admin.ConfigStore on SQLite and PostgreSQL: the only writer of keys, teams, limits and compiled policies.

Each write takes one lock (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock until the end of the transaction),
changes the present state and appends to `config_change` with the next revision. A reader that has seen a revision has
therefore seen, or can read, every one before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
from sqlalchemy import delete, insert, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.admin import ConfigRow, Created, KeyChange, KeyView
from gateway.core.caller import PLAIN_SHA256, KeyRecord, Role
from gateway.core.config import KeyDelta, Policy, Snapshot
from gateway.core.errors import BadRequest, Conflict, NotFound
from gateway.core.ids import make_id, print_id
from gateway.core.limits import Limit
from gateway.core.ports import Clock, Entropy
from gateway.routing.policy_bytes import decode_policy, encode_policy, policy_hash
from gateway.store import config_checks as checks
from gateway.store import config_reads as reads
from gateway.store.config_limits import LimitRows, Write, limit_changes
from gateway.store.config_prices import PriceRows, still_newest
from gateway.store.config_rows import ACTIVE, KEY_SCOPE, PAUSED, REVOKED, Hashes, StoredKey, in_order, limit_columns
from gateway.store.engine import insert_into, is_sqlite, writing

DEFAULT_ORG = "default"
DEFAULT_TEAM = "default"
MAX_PAGE = 10_000
LOCK_WAIT = "10s"
_ADVISORY_LOCK = 0x66617265_636F6E66  # "fareconf"


class Minted(Protocol):
    """A new secret of a key: what is shown once, and what is kept."""

    @property
    def key_id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def digest(self) -> bytes: ...


class KeyMint(Protocol):
    """Makes key texts and their keyed hashes (`vault.peppers.Peppers`)."""

    def mint(self, entropy: Entropy, env: str, key_id: str = "") -> Minted: ...


class SqlConfigStore(LimitRows, PriceRows):
    """core.admin.ConfigStore, core.limit_admin.LimitStore and core.price_admin.PriceStore. One instance may be used by
    many tasks at once."""

    def __init__(self, engine: AsyncEngine, peppers: KeyMint, entropy: Entropy, clock: Clock, key_env: str) -> None:
        self._engine = engine
        self._peppers = peppers
        self._entropy = entropy
        self._clock = clock
        self._key_env = key_env
        self._decoded: Policy | None = None

    # ------------------------------------------------------------ keys, written

    async def create_key(self, change: KeyChange, *, actor: str, if_absent: bool = False) -> Created:
        minted = self._peppers.mint(self._entropy, self._key_env)
        key = self._new_key(minted.key_id, _shown(minted.text), ((minted.version, minted.digest, 0),), change, actor)
        async with self._writing(actor) as write:
            taken = await reads.key_named(write.connection, key.org, key.name)
            if taken is not None and if_absent:
                return Created(taken.view(write.now_ms), "", write.revision)
            _refuse_taken(taken, key)
            await write.add(key, "key.created")
            return Created(key.view(write.now_ms), minted.text, write.revision)

    async def import_key(self, sha256_hex: str, change: KeyChange, *, actor: str) -> Created:
        digest = checks.digest_of(sha256_hex)
        key_id = f"sha_{digest[:6].hex()}"
        if change.role not in (None, Role.DATA):
            raise BadRequest("An imported key can only call models: its secret was not made here", param="role")
        key = self._new_key(key_id, key_id, ((PLAIN_SHA256, digest, 0),), change, actor)
        async with self._writing(actor) as write:
            known = await reads.one_key(write.connection, key_id)
            if known is not None:
                how = "and was revoked, which is final" if known.revoked else f"as {known.name!r}"
                raise Conflict(f"This key was imported already {how}", param="sha256")
            _refuse_taken(await reads.key_named(write.connection, key.org, key.name), key)
            await write.add(key, "key.imported")
            return Created(key.view(write.now_ms), "", write.revision)

    async def update_key(self, key_id: str, change: KeyChange, *, actor: str) -> tuple[KeyView, int]:
        async with self._writing(actor) as write:
            key = await write.present(key_id)
            changed = self._changed(key, change, write.now_ms)
            if changed.name != key.name:
                _refuse_taken(await reads.key_named(write.connection, key.org, changed.name), changed)
            await write.replace(key, changed, "key.updated")
            return changed.view(write.now_ms), write.revision

    async def set_paused(self, key_id: str, paused: bool, *, actor: str) -> tuple[KeyView, int]:
        async with self._writing(actor) as write:
            key = await write.present(key_id)
            changed = msgspec.structs.replace(key, state=PAUSED if paused else ACTIVE)
            await write.replace(key, changed, "key.paused" if paused else "key.resumed")
            return changed.view(write.now_ms), write.revision

    async def revoke_key(self, key_id: str, *, actor: str) -> tuple[KeyView, int]:
        """Final. Its hashes are forgotten, its name is free again. Revoking twice changes nothing."""
        async with self._writing(actor) as write:
            key = await write.known(key_id)
            changed = msgspec.structs.replace(key, state=REVOKED, hashes=())
            await write.replace(key, changed, "key.revoked")
            return changed.view(write.now_ms), write.revision

    async def rotate_key(self, key_id: str, overlap_s: int, *, actor: str) -> Created:
        overlap_ms = checks.overlap_of(overlap_s) * 1000
        async with self._writing(actor) as write:
            key = await write.present(key_id)
            minted = self._peppers.mint(self._entropy, self._key_env, key_id)
            old = _ending(key.hashes, write.now_ms, overlap_ms)
            hashes = (*old, (minted.version, minted.digest, 0))
            changed = msgspec.structs.replace(key, hashes=hashes, prefix=_shown(minted.text))
            await write.replace(key, changed, "key.rotated")
            return Created(changed.view(write.now_ms), minted.text, write.revision)

    # ------------------------------------------------------------ keys, read

    async def key(self, key_id: str) -> KeyView:
        async with reads.viewing(self._engine) as connection:
            found = await reads.one_key(connection, key_id)
        if found is None:
            raise _no_key(key_id)
        return found.view(self._clock.now_ms())

    async def keys(self, org: str, team: str | None = None, limit: int = 1000, offset: int = 0) -> list[KeyView]:
        async with reads.viewing(self._engine) as connection:
            found = await reads.listed_keys(connection, org, team, max(0, min(limit, MAX_PAGE)), max(0, offset))
        now_ms = self._clock.now_ms()
        return [key.view(now_ms) for key in found]

    async def key_records(self) -> tuple[KeyRecord, ...]:
        async with reads.viewing(self._engine) as connection:
            return await _records(connection)

    async def orgs(self) -> list[str]:
        async with reads.viewing(self._engine) as connection:
            return await reads.org_names(connection)

    async def teams(self, org: str) -> list[str]:
        async with reads.viewing(self._engine) as connection:
            return await reads.team_names(connection, org)

    # ------------------------------------------------------------ policies and revisions

    async def save_policy(self, policy: Policy, *, actor: str, prices: int | None = None) -> Policy:
        content = encode_policy(policy)
        digest = policy_hash(content)
        async with self._writing(actor) as write:
            priced_at = 0 if prices is None else await still_newest(write.connection, prices)
            present = await reads.policy_change(write.connection)
            if present is not None and present[1] == digest and present[0] >= priced_at:
                return decode_policy(content, present[0])
            row = {"hash": digest, "content": content, "created_ms": write.now_ms}
            await write.connection.execute(
                insert_into(write.connection, reads.POLICY).values(row).on_conflict_do_nothing()
            )
            await write.append(reads.POLICY_SAVED, digest, b"")
            return decode_policy(content, write.revision)

    async def policy_at(self, revision: int) -> Policy | None:
        """As the port says. The last one is remembered: decoding some hundred kilobytes takes milliseconds."""
        async with reads.viewing(self._engine) as connection:
            change = await reads.policy_change(connection, revision)
            if change is None:
                return None
            decoded = self._decoded
            if decoded is None or decoded.hash != change[1]:
                decoded = self._decoded = await reads.policy_in_use(connection, revision)
        return None if decoded is None else msgspec.structs.replace(decoded, revision=change[0])

    async def snapshot(self) -> Snapshot | None:
        async with reads.viewing(self._engine) as connection:
            policy = await reads.policy_in_use(connection)
            if policy is None:
                return None
            limits = await limit_changes(connection, self._clock.now_ms())
            return Snapshot(await reads.newest_revision(connection), policy, await _records(connection), limits)

    async def changes_since(self, revision: int) -> tuple[int, tuple[KeyDelta, ...], Policy | None]:
        """As the port says. A newest revision below `revision` tells that the database is an older one (restored from
        a backup): the caller then needs a snapshot."""
        async with reads.viewing(self._engine) as connection:
            newest = await reads.newest_revision(connection)
            if newest <= revision:
                return newest, (), None
            deltas = await reads.deltas_since(connection, revision)
            change = await reads.policy_change(connection)
            policy = None
            if change is not None and change[0] > revision:
                policy = await reads.policy_in_use(connection)
            return newest, deltas, policy

    async def log(self, limit: int = 100) -> Sequence[ConfigRow]:
        """The newest changes, newest first."""
        async with reads.viewing(self._engine) as connection:
            return await reads.log_rows(connection, max(0, min(limit, MAX_PAGE)))

    # ------------------------------------------------------------ within

    @asynccontextmanager
    async def _writing(self, actor: str) -> AsyncIterator[_KeyWrite]:
        """One write under the lock, committed at the end."""
        checks.name_of(actor, "actor")
        async with writing(self._engine) as connection:
            if not is_sqlite(connection):
                await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            yield _KeyWrite(connection, await reads.newest_revision(connection), self._clock.now_ms(), actor)

    def _new_key(self, key_id: str, prefix: str, hashes: Hashes, change: KeyChange, actor: str) -> StoredKey:
        now_ms = self._clock.now_ms()
        expires_ms = checks.expiry_of(change.expires_ms or 0)
        if expires_ms and expires_ms <= now_ms:
            raise BadRequest("The expiry is in the past", param="expires_ms")
        return StoredKey(
            key_id=key_id,
            org=checks.name_of(DEFAULT_ORG if change.org is None else change.org, "org"),
            team=checks.name_of(DEFAULT_TEAM if change.team is None else change.team, "team"),
            name=checks.name_of(key_id if change.name is None else change.name, "name"),
            role=checks.role_of(Role.DATA if change.role is None else change.role),
            state=ACTIVE,
            prefix=prefix,
            hashes=hashes,
            models=checks.models_of(change.models or ()),
            tags=checks.tags_of(change.tags or ()),
            created_ms=now_ms,
            created_by=actor,
            expires_ms=expires_ms,
            limits=self._merged(key_id, (), change.limits or (), now_ms),
        )

    def _changed(self, key: StoredKey, change: KeyChange, now_ms: int) -> StoredKey:
        """The key with a change applied. Role and org are for life: both decide what a key's past calls belong to, and
        a key that could be raised to admin would be one already."""
        if change.role is not None and checks.role_of(change.role) != key.role:
            raise BadRequest(
                f"A key's role is set when it is made; make a new key with the role {change.role}", param="role"
            )
        if change.org is not None and change.org != key.org:
            raise BadRequest("A key stays in its org; make a new key in the other one", param="org")
        return msgspec.structs.replace(
            key,
            name=key.name if change.name is None else checks.name_of(change.name, "name"),
            team=key.team if change.team is None else checks.name_of(change.team, "team"),
            models=key.models if change.models is None else checks.models_of(change.models),
            tags=key.tags if change.tags is None else checks.tags_of(change.tags),
            expires_ms=key.expires_ms if change.expires_ms is None else checks.expiry_of(change.expires_ms),
            limits=self._merged(key.key_id, key.limits, change.limits or (), now_ms),
        )

    def _merged(self, key_id: str, present: Sequence[Limit], given: Sequence[Limit], now_ms: int) -> tuple[Limit, ...]:
        """A given limit replaces the one of its unit and window and keeps its id, so what was spent stays spent."""
        merged = {(limit.unit, limit.window): limit for limit in present}
        for limit in checks.limits_of(given):
            place = (limit.unit, limit.window)
            before = merged.get(place)
            own_id = print_id("lim", make_id(now_ms, self._entropy.bytes(10))) if before is None else before.id
            merged[place] = msgspec.structs.replace(limit, id=own_id, scope=((KEY_SCOPE, key_id),), origin="sql")
        return in_order(merged.values())


class _KeyWrite(Write):
    """A write of keys: their present state, and the log."""

    async def known(self, key_id: str) -> StoredKey:
        key = await reads.one_key(self.connection, key_id)
        if key is None:
            raise _no_key(key_id)
        return key

    async def present(self, key_id: str) -> StoredKey:
        """A key that is not revoked."""
        key = await self.known(key_id)
        if key.revoked:
            raise Conflict(f"The key {key_id} is revoked, which is final; make a new one")
        return key

    async def add(self, key: StoredKey, kind: str) -> None:
        await self._name_owners(key)
        await self.connection.execute(insert(reads.KEY).values(key.columns()))
        await self._write_limits(key)
        await self._log_key(key, kind)

    async def replace(self, before: StoredKey, after: StoredKey, kind: str) -> None:
        """Nothing is written, and no revision taken, when nothing changed."""
        if after == before:
            return
        await self._name_owners(after)
        statement = update(reads.KEY).where(reads.KEY.c.key_id == after.key_id).values(after.columns())
        await self.connection.execute(statement)
        if after.limits != before.limits:
            await self._write_limits(after)
        await self._log_key(after, kind)

    async def _name_owners(self, key: StoredKey) -> None:
        made = {"created_ms": self.now_ms, "created_by": self.actor}
        for table, row in ((reads.ORG, {"name": key.org}), (reads.TEAM, {"org": key.org, "name": key.team})):
            statement = insert_into(self.connection, table).values({**row, **made}).on_conflict_do_nothing()
            await self.connection.execute(statement)

    async def _write_limits(self, key: StoredKey) -> None:
        owned = delete(reads.LIMIT).where(reads.LIMIT.c.dimension == KEY_SCOPE, reads.LIMIT.c.value == key.key_id)
        await self.connection.execute(owned)
        if key.limits:
            await self.connection.execute(insert(reads.LIMIT), [limit_columns(limit) for limit in key.limits])

    async def _log_key(self, key: StoredKey, kind: str) -> None:
        delta = KeyDelta(self.revision + 1, key.key_id, key.record())
        await self.append(kind, key.key_id, msgspec.msgpack.encode(delta))


async def _records(connection: AsyncConnection) -> tuple[KeyRecord, ...]:
    found = (key.record() for key in await reads.live_keys(connection))
    return tuple(record for record in found if record is not None)


def _ending(hashes: Hashes, now_ms: int, overlap_ms: int) -> Hashes:
    """What stays of the old hashes in a rotation: the newest one that is still live, until the overlap ends."""
    live = [entry for entry in hashes if not entry[2] or now_ms < entry[2]]
    if not live or not overlap_ms:
        return ()
    version, digest, ends_ms = live[-1]
    until_ms = now_ms + overlap_ms
    return ((version, digest, min(ends_ms, until_ms) if ends_ms else until_ms),)


def _shown(key_text: str) -> str:
    """What of a key's text may be shown: everything before its secret."""
    return key_text.rsplit("_", 2)[0]


def _refuse_taken(taken: StoredKey | None, key: StoredKey) -> None:
    if taken is not None:
        raise Conflict(f"{key.org} has a key named {key.name!r} already ({taken.key_id})", param="name")


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id[:40]!r}. `faregate keys list` shows what there is")
