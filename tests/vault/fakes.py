"""A clock that is set, chance that is seeded, and peppers of which every test knows all."""

from __future__ import annotations

import random

from gateway.core.caller import KeyRecord
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.keys import imported_digest, imported_id
from gateway.vault.peppers import Minted, Peppers


class Clock:
    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ns(self) -> int:
        return self.ms * 1_000_000


class Chance:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def peppers(*versions: int) -> Peppers:
    return Peppers({version: bytes([version]) * 32 for version in versions or (1,)})


def ring(*records: KeyRecord, known: Peppers | None = None) -> MemoryKeyRing:
    made = MemoryKeyRing(known or peppers(), b"d" * 32)
    made.load(records, revision=1, fresh_ms=5)
    return made


def record(minted: Minted, **members: object) -> KeyRecord:
    base: dict[str, object] = {
        "key_id": minted.key_id,
        "name": "n",
        "org": "default",
        "team": "default",
        "role": "data",
        "hashes": ((minted.version, minted.digest, 0),),
    }
    return KeyRecord(**{**base, **members})  # type: ignore[arg-type]


def imported(text: str, **members: object) -> KeyRecord:
    digest = imported_digest(text)
    return record(Minted(imported_id(digest), text, 0, digest), **members)
