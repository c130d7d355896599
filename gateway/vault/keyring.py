"""All keys of the gateway in memory: found by kid (or by digest for imported ones), patched by deltas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest

from gateway.core.caller import PLAIN_SHA256, KeyRecord
from gateway.core.config import KeyDelta
from gateway.vault.keys import MAX_IMPORTED_LENGTH, Hasher, imported_digest, parse, text_kid
from gateway.vault.peppers import Peppers

MAX_LIVE_SECRETS = 2
"""Keyed hashes a key may have: two during a rotation. Every failed look-up computes exactly this many."""

REMEMBERED_KEYS = 65_536
_NOWHERE = b"\0" * 32


class MemoryKeyRing:
    """core.ports.KeyRing over dictionaries.

    A key that is not found costs the same work whether its kid is unknown, its secret wrong or its hash ended:
    `MAX_LIVE_SECRETS` keyed hashes, as many constant-time comparisons, and one digest if there are imported keys. One
    that was found is remembered by the SHA-256 of its whole text until any key changes.
    """

    __slots__ = (
        "_base",
        "_by_digest",
        "_by_id",
        "_by_kid",
        "_dummy",
        "_fresh_ms",
        "_hashers",
        "_peppers",
        "_seen",
        "_touched",
    )

    def __init__(self, peppers: Peppers, dummy: bytes) -> None:
        """`dummy` is 32 random bytes that key the hash computed for nobody."""
        self._peppers = peppers
        self._dummy = Hasher(dummy)
        self._hashers: dict[int, Hasher] = {}
        self._by_id: dict[str, KeyRecord] = {}
        self._by_kid: dict[str, KeyRecord] = {}
        self._by_digest: dict[bytes, KeyRecord] = {}
        self._touched: dict[str, int] = {}
        self._seen: dict[bytes, tuple[KeyRecord, bytes]] = {}
        self._base = 0
        self._fresh_ms = 0

    @property
    def fresh_ms(self) -> int:
        return self._fresh_ms

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, key_id: str) -> KeyRecord | None:
        """The present record of a key id: how a console session is checked again at each use."""
        return self._by_id.get(key_id)

    def records(self) -> tuple[KeyRecord, ...]:
        return tuple(self._by_id.values())

    def find(self, presented: str, now_ms: int) -> KeyRecord | None:
        """The record of a presented key whose hash matches and has not ended, else None. Paused and expired keys are
        returned: the caller says why they are refused."""
        text = sha256(presented.encode("utf-8", "surrogatepass")).digest()
        seen = self._seen.get(text)
        if seen is None:
            seen = self.match(presented, now_ms)
            if seen is None:
                return None
            if len(self._seen) >= REMEMBERED_KEYS:
                self._seen.clear()
            if not any(expires_ms for _, _, expires_ms in seen[0].hashes):
                self._seen[text] = seen
        return seen[0]

    def match(self, presented: str, now_ms: int) -> tuple[KeyRecord, bytes] | None:
        """As `find`, with the digest that matched, to which a console session is bound."""
        parsed = parse(presented)
        if parsed is None:
            return self._match_imported(presented, now_ms)
        kid, secret = parsed
        tried = 0
        record = self._by_kid.get(kid)
        if record is not None:
            hashers = self._hashers
            for version, stored, expires_ms in record.hashes:
                if version == PLAIN_SHA256:
                    continue
                if compare_digest(hashers[version].digest(secret), stored) and (not expires_ms or now_ms < expires_ms):
                    return record, stored
                tried += 1
        while tried < MAX_LIVE_SECRETS:
            compare_digest(self._dummy.digest(secret), _NOWHERE)
            tried += 1
        return self._match_imported(presented, now_ms)

    def _match_imported(self, presented: str, now_ms: int) -> tuple[KeyRecord, bytes] | None:
        if not self._by_digest or len(presented) > MAX_IMPORTED_LENGTH:
            return None
        digest = imported_digest(presented)
        record = self._by_digest.get(digest)
        if record is None:
            return None
        for version, stored, expires_ms in record.hashes:
            if version == PLAIN_SHA256 and compare_digest(digest, stored):
                return (record, stored) if not expires_ms or now_ms < expires_ms else None
        return None

    def load(self, records: Iterable[KeyRecord], revision: int, fresh_ms: int) -> None:
        """Replaces everything by a snapshot as of `revision`."""
        self._by_id, self._by_kid, self._by_digest, self._touched = {}, {}, {}, {}
        self._seen.clear()
        self._base = revision
        for record in records:
            self._put(record)
        self._fresh_ms = max(self._fresh_ms, fresh_ms)

    def apply(self, deltas: Sequence[KeyDelta], fresh_ms: int) -> None:
        """Applies committed changes. A delta that is not newer than what is known of its key changes nothing, so pushes
        and repairs may overlap in any order and a revoked key never comes back."""
        touched = self._touched
        for delta in deltas:
            if delta.revision <= touched.get(delta.key_id, self._base):
                continue
            touched[delta.key_id] = delta.revision
            self._seen.clear()
            self._remove(delta.key_id)
            if delta.key is not None:
                self._put(delta.key)
        self._fresh_ms = max(self._fresh_ms, fresh_ms)

    def _put(self, record: KeyRecord) -> None:
        self._by_id[record.key_id] = record
        for version, digest, _ in record.hashes:
            if version == PLAIN_SHA256:
                self._by_digest[digest] = record
                continue
            self._by_kid[text_kid(record.key_id)] = record
            if version not in self._hashers:
                # A pepper that is not here: nothing can match, and the work stays the same.
                self._hashers[version] = self._peppers.hasher(version) or self._dummy

    def _remove(self, key_id: str) -> None:
        old = self._by_id.pop(key_id, None)
        if old is None:
            return
        if self._by_kid.get(text_kid(key_id)) is old:
            del self._by_kid[text_kid(key_id)]
        for version, digest, _ in old.hashes:
            if version == PLAIN_SHA256 and self._by_digest.get(digest) is old:
                del self._by_digest[digest]
