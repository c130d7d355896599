"""In-memory implementations of the ports a desk needs. They keep the ports' contracts, in dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from desk.limit_fakes import MemoryLimits
from gateway.core.admin import ConfigRow, Created, KeyChange, KeyView
from gateway.core.caller import PLAIN_SHA256, KeyRecord
from gateway.core.config import KeyDelta, Policy, Snapshot
from gateway.core.errors import Conflict, NotFound, StoreUnavailable
from gateway.core.ids import CALL, parse_id
from gateway.core.limits import Limit
from gateway.core.queries import AttemptRow, CallRow, Freshness, QueryScope, SpendRow
from gateway.desk.moments import print_moment
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.keys import imported_id
from gateway.vault.peppers import Peppers

NOW_MS = 1_795_558_443_000  # 2026-11-24T22:14:03Z


class Clock:
    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ns(self) -> int:
        return self.ms * 1_000_000


class Entropy:
    """Different bytes at each draw, the same in each run."""

    def __init__(self) -> None:
        self._drawn = 0

    def bytes(self, count: int) -> bytes:
        out = bytearray()
        while len(out) < count:
            self._drawn += 1
            out += (self._drawn * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big")
        return bytes(out[:count])


class Publisher:
    """Remembers what it was handed; `reached` says whether all workers acknowledge."""

    def __init__(self) -> None:
        self.reached = True
        self.handed: list[tuple[int, tuple[KeyDelta, ...], Policy | None]] = []

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        self.handed.append((revision, tuple(deltas), policy))
        return self.reached


PEPPERS = Peppers({1: b"pepper" * 8})


@dataclass
class _Kept:
    record: KeyRecord
    prefix: str
    created_ms: int
    revoked: bool = False


@dataclass
class MemoryConfig(MemoryLimits):
    """core.admin.ConfigStore over dictionaries."""

    clock: Clock
    entropy: Entropy
    down: bool = False
    revision: int = 0
    policy: Policy | None = None
    kept: dict[str, _Kept] = field(default_factory=dict)
    rows: list[ConfigRow] = field(default_factory=list)
    deltas: list[KeyDelta] = field(default_factory=list)

    def _commit(self, kind: str, subject: str, actor: str, delta: KeyDelta | None = None) -> int:
        self._up()
        self.revision += 1
        self.rows.append(ConfigRow(self.revision, kind, subject, actor, self.clock.now_ms()))
        if delta is not None:
            self.deltas.append(msgspec.structs.replace(delta, revision=self.revision))
        return self.revision

    def _up(self) -> None:
        if self.down:
            raise StoreUnavailable("SQL did not answer: it is switched off in this test")

    def _view(self, kept: _Kept) -> KeyView:
        record = kept.record
        state = "active"
        if record.paused:
            state = "paused"
        if record.expires_ms and record.expires_ms <= self.clock.now_ms():
            state = "expired"
        if kept.revoked:
            state = "revoked"
        return KeyView(
            record.key_id, kept.prefix, record.name, record.org, record.team, record.role, record.models,
            dict(record.tags), kept.created_ms, record.expires_ms, state, record.limits,
        )  # fmt: skip

    def _limits(self, key_id: str, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        named = []
        for limit in limits:
            limit_id = f"{key_id}:{limit.unit.value}:{limit.window.kind.value}"
            named.append(msgspec.structs.replace(limit, id=limit_id, scope=(("key", key_id),)))
        return tuple(named)

    def _new(
        self, key_id: str, change: KeyChange, hashed: tuple[int, bytes, int], prefix: str, actor: str, kind: str
    ) -> tuple[_Kept, int]:
        record = KeyRecord(
            key_id, change.name or key_id, change.org or "default", change.team or "", change.role or "data",
            (hashed,), change.models or (), change.tags or (), change.expires_ms or 0, False,
            self._limits(key_id, change.limits or ()),
        )  # fmt: skip
        kept = _Kept(record, prefix, self.clock.now_ms())
        revision = self._commit(kind, key_id, actor, KeyDelta(0, key_id, record))
        self.kept[key_id] = kept
        return kept, revision

    def _named(self, name: str | None, org: str | None) -> _Kept | None:
        for kept in self.kept.values():
            if not kept.revoked and kept.record.name == name and kept.record.org == (org or "default"):
                return kept
        return None

    async def create_key(self, change: KeyChange, *, actor: str, if_absent: bool = False) -> Created:
        self._up()
        known = self._named(change.name, change.org)
        if known is not None:
            if if_absent:
                return Created(self._view(known), "", self.revision)
            raise Conflict(f"There is a key named {change.name!r} already.", param="name")
        minted = PEPPERS.mint(self.entropy, "test")
        hashed = (minted.version, minted.digest, 0)
        kept, revision = self._new(minted.key_id, change, hashed, minted.text[:16], actor, "key.create")
        return Created(self._view(kept), minted.text, revision)

    async def import_key(self, sha256_hex: str, change: KeyChange, *, actor: str) -> Created:
        self._up()
        digest = bytes.fromhex(sha256_hex)
        key_id = imported_id(digest)
        if key_id in self.kept or self._named(change.name, change.org):
            raise Conflict("This key is here already.", param="sha256")
        kept, revision = self._new(key_id, change, (PLAIN_SHA256, digest, 0), "", actor, "key.import")
        return Created(self._view(kept), "", revision)

    def _change(self, key_id: str, kind: str, actor: str, **members: object) -> tuple[KeyView, int]:
        self._up()
        kept = self.kept.get(key_id)
        if kept is None or kept.revoked:
            raise NotFound(f"There is no key {key_id}.")
        kept.record = msgspec.structs.replace(kept.record, **members)
        return self._view(kept), self._commit(kind, key_id, actor, KeyDelta(0, key_id, kept.record))

    async def update_key(self, key_id: str, change: KeyChange, *, actor: str) -> tuple[KeyView, int]:
        given = {
            name: value
            for name in ("name", "team", "role", "models", "tags", "expires_ms")
            if (value := getattr(change, name)) is not None
        }
        if change.limits is not None and key_id in self.kept:
            fresh = self._limits(key_id, change.limits)
            replaced = {limit.id for limit in fresh}
            old = self.kept[key_id].record.limits
            given["limits"] = (*(limit for limit in old if limit.id not in replaced), *fresh)
        return self._change(key_id, "key.update", actor, **given)

    async def set_paused(self, key_id: str, paused: bool, *, actor: str) -> tuple[KeyView, int]:
        return self._change(key_id, "key.pause" if paused else "key.resume", actor, paused=paused)

    async def revoke_key(self, key_id: str, *, actor: str) -> tuple[KeyView, int]:
        self._up()
        kept = self.kept.get(key_id)
        if kept is None:
            raise NotFound(f"There is no key {key_id}.")
        kept.revoked = True
        return self._view(kept), self._commit("key.revoke", key_id, actor, KeyDelta(0, key_id, None))

    async def rotate_key(self, key_id: str, overlap_s: int, *, actor: str) -> Created:
        minted = PEPPERS.mint(self.entropy, "test", key_id)
        old = self.kept[key_id].record.hashes if key_id in self.kept else ()
        ends_ms = self.clock.now_ms() + overlap_s * 1000
        hashes = ((minted.version, minted.digest, 0), *((v, d, ends_ms) for v, d, _ in old if overlap_s))
        view, revision = self._change(key_id, "key.rotate", actor, hashes=hashes[:2])
        return Created(view, minted.text, revision)

    async def key(self, key_id: str) -> KeyView:
        self._up()
        if key_id not in self.kept:
            raise NotFound(f"There is no key {key_id}.")
        return self._view(self.kept[key_id])

    async def keys(self, org: str, team: str | None = None, limit: int = 1000, offset: int = 0) -> list[KeyView]:
        self._up()
        views = [self._view(kept) for kept in self.kept.values()]
        return [v for v in views if v.org == org and team in (None, v.team)][offset : offset + limit]

    async def orgs(self) -> list[str]:
        return sorted({kept.record.org for kept in self.kept.values()})

    async def teams(self, org: str) -> list[str]:
        self._up()
        return sorted({k.record.team for k in self.kept.values() if k.record.org == org and k.record.team})

    async def save_policy(self, policy: Policy, *, actor: str, prices: int | None = None) -> Policy:
        self._up()
        if self.policy is None or self.policy.hash != policy.hash:
            revision = self._commit("policy", policy.hash, actor)
            self.policy = msgspec.structs.replace(policy, revision=revision)
        return self.policy

    async def policy_at(self, revision: int) -> Policy | None:
        return self.policy

    async def snapshot(self) -> Snapshot | None:
        self._up()
        return None if self.policy is None else Snapshot(self.revision, self.policy, await self.key_records())

    async def changes_since(self, revision: int) -> tuple[int, tuple[KeyDelta, ...], Policy | None]:
        self._up()
        policy = self.policy if self.policy is not None and self.policy.revision > revision else None
        return self.revision, tuple(delta for delta in self.deltas if delta.revision > revision), policy

    async def log(self, limit: int = 100) -> Sequence[ConfigRow]:
        self._up()
        return self.rows[::-1][:limit]

    async def key_records(self) -> tuple[KeyRecord, ...]:
        return tuple(kept.record for kept in self.kept.values() if not kept.revoked)


@dataclass
class MemoryLedger:
    """core.queries.LedgerQueries over a list of calls."""

    found: list[tuple[CallRow, tuple[AttemptRow, ...]]] = field(default_factory=list)
    fresh: Freshness = field(default_factory=lambda: Freshness(NOW_MS - 1_000, 0, 0))
    down: bool = False

    def _seen(self, scope: QueryScope) -> list[CallRow]:
        if self.down:
            raise StoreUnavailable("SQL did not answer: it is switched off in this test")
        return [row for row, _ in self.found if _visible(scope, row)]

    async def spend(
        self,
        scope: QueryScope,
        by: Sequence[str],
        from_ms: int,
        to_ms: int,
        limit: int = 1000,
        of: tuple[str, str] | None = None,
    ) -> list[SpendRow]:
        sums: dict[tuple[str, ...], SpendRow] = {}
        first, last = from_ms - from_ms % 3_600_000, -(-to_ms // 3_600_000) * 3_600_000
        for row in self._seen(scope):
            said = {"user": row.user, "session": row.session, **{f"tag:{name}": one for name, one in row.tags.items()}}
            if of is not None and said.get(of[0]) != of[1]:
                continue
            if first <= row.started_ms < last and row.outcome != "running":
                group = tuple(_dimension(row, word) for word in by)
                sums[group] = _add(sums.get(group, SpendRow(group, 0, 0, 0, 0, 0, 0, 0, 0)), row)
        times = [index for index, word in enumerate(by) if word in ("hour", "day", "month")]
        ordered = sorted(sums.values(), key=lambda row: ([row.group[i] for i in times], -row.effective_nusd, row.group))
        return ordered[:limit]

    async def calls(
        self, scope: QueryScope, *, before_ms: int | None = None, before_id: str = "", limit: int = 50
    ) -> list[CallRow]:
        rows = sorted(self._seen(scope), key=lambda row: (row.started_ms, row.call_id), reverse=True)
        if before_ms is not None:
            rows = [row for row in rows if (row.started_ms, row.call_id) < (before_ms, before_id)]
        return rows[:limit]

    async def call(self, scope: QueryScope, call_id: bytes) -> tuple[CallRow, tuple[AttemptRow, ...]] | None:
        seen = {row.call_id for row in self._seen(scope)}
        for row, attempts in self.found:
            if row.call_id in seen and parse_id(CALL, row.call_id) == call_id:
                return row, attempts
        return None

    async def freshness(self) -> Freshness:
        self._seen(QueryScope("default"))
        return self.fresh


def _visible(scope: QueryScope, row: CallRow) -> bool:
    return row.org == scope.org and scope.team in (None, row.team) and scope.key_id in (None, row.key_id)


def _dimension(row: CallRow, word: str) -> str:
    moment = print_moment(row.started_ms)
    times = {"hour": f"{moment[:13]}:00Z", "day": moment[:10], "month": moment[:7]}
    own = {"key": row.key_id, "model": row.model_asked}
    return times.get(word) or own.get(word) or str(getattr(row, word))


def _add(sums: SpendRow, row: CallRow) -> SpendRow:
    return msgspec.structs.replace(
        sums,
        calls=sums.calls + 1,
        errors=sums.errors + (row.outcome == "error"),
        input_tokens=sums.input_tokens + row.input_tokens,
        output_tokens=sums.output_tokens + row.output_tokens,
        effective_nusd=sums.effective_nusd + (row.effective_nusd or 0),
        list_nusd=sums.list_nusd + (row.list_nusd or 0),
        estimated_nusd=sums.estimated_nusd + ((row.effective_nusd or 0) if row.cost_state == "estimated" else 0),
        unpriced_calls=sums.unpriced_calls + (row.cost_state == "unpriced"),
    )


def make_ring() -> MemoryKeyRing:
    return MemoryKeyRing(PEPPERS, b"d" * 32)


def revised(policy: Policy, digest: str) -> Policy:
    return msgspec.structs.replace(policy, hash=digest)
