"""The ring of keys: what is found, what is not, and that failing costs the same work whatever the reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.config import KeyDelta
from gateway.vault import keys as key_texts
from gateway.vault.keyring import MAX_LIVE_SECRETS, MemoryKeyRing
from gateway.vault.keys import Hasher, generate
from gateway.vault.peppers import Peppers
from vault.fakes import Chance, imported, peppers, record, ring

PEPPERS = peppers(1, 2)
FIRST = PEPPERS.mint(Chance(1), "live")
OTHER = PEPPERS.mint(Chance(2), "live")
NOW = 1_000


def test_a_known_key_is_found_and_no_other() -> None:
    keys = ring(record(FIRST), known=PEPPERS)
    found = keys.find(FIRST.text, NOW)
    assert found is not None
    assert found.key_id == FIRST.key_id
    assert keys.find(OTHER.text, NOW) is None
    wrong = generate(Chance(9), "live", FIRST.key_id)
    assert keys.find(wrong.text, NOW) is None
    assert keys.match(FIRST.text, NOW) == (found, FIRST.digest)
    assert len(keys) == 1
    assert keys.by_id(FIRST.key_id) is found


@pytest.mark.parametrize(
    "text", ["", "x", "' OR 1=1--", "\0", "a" * 65536, "é", "\ud800", FIRST.text[:-1], FIRST.text + " "]
)
def test_hostile_texts_find_nothing(text: str) -> None:
    keys = ring(record(FIRST), imported("sk-old"), known=PEPPERS)
    assert keys.find(text, NOW) is None


def test_paused_and_expired_keys_are_returned_for_their_callers_to_refuse() -> None:
    keys = ring(record(FIRST, paused=True, expires_ms=1), known=PEPPERS)
    assert keys.find(FIRST.text, NOW) is not None


def test_imported_keys_are_found_by_their_whole_text() -> None:
    keys = ring(imported("sk-old"), imported(OTHER.text), known=PEPPERS)
    assert keys.find("sk-old", NOW) is not None
    assert keys.find("sk-new", NOW) is None
    assert keys.find(OTHER.text, NOW) is not None, "also a key of another Faregate"


def test_in_a_rotation_both_secrets_work_until_the_old_one_ends() -> None:
    second = PEPPERS.mint(Chance(7), "live", FIRST.key_id)
    keys = ring(record(FIRST, hashes=((1, Peppers({1: bytes([1]) * 32}).mint(Chance(1), "live").digest, NOW + 10),
                                      (second.version, second.digest, 0))), known=PEPPERS)  # fmt: skip
    for text in (FIRST.text, second.text):
        assert keys.find(text, NOW + 9) is not None
    assert keys.find(FIRST.text, NOW + 10) is None
    assert keys.find(second.text, NOW + 10) is not None


def test_an_imported_key_rotates_into_one_of_ours() -> None:
    old = imported("sk-old")
    new = PEPPERS.mint(Chance(3), "live", old.key_id)
    assert new.key_id == old.key_id
    both = record(new, hashes=(*((v, d, NOW + 10) for v, d, _ in old.hashes), (new.version, new.digest, 0)))
    keys = ring(both, known=PEPPERS)
    assert keys.find("sk-old", NOW) is both
    assert keys.find(new.text, NOW) is both
    assert keys.find("sk-old", NOW + 10) is None
    assert keys.find(new.text, NOW + 10) is both


def test_a_key_under_a_lost_pepper_is_never_found() -> None:
    keys = ring(record(FIRST), known=peppers(1))
    assert FIRST.version == 2
    assert keys.find(FIRST.text, NOW) is None


def test_freshness_only_moves_forward() -> None:
    keys = ring(known=PEPPERS)
    keys.apply((), 50)
    keys.apply((), 20)
    assert keys.fresh_ms == 50


# ---------------------------------------------------------------- the work of failing


class CountingHasher(Hasher):
    """Counts keyed hashes into a list that all hashers of a test share."""

    def __init__(self, pepper: bytes, count: list[int]) -> None:
        super().__init__(pepper)
        self.count = count

    def digest(self, secret: str) -> bytes:
        self.count.append(len(secret))
        return super().digest(secret)


def counted(*records: object) -> tuple[MemoryKeyRing, list[int]]:
    count: list[int] = []

    class Counting(Peppers):
        def hasher(self, version: int) -> Hasher | None:
            return CountingHasher(bytes([version]) * 32, count)

    keys = MemoryKeyRing(Counting({1: b"\1" * 32, 2: b"\2" * 32}), b"d" * 32)
    keys._dummy = CountingHasher(b"d" * 32, count)
    keys.load(records, 1, 0)  # type: ignore[arg-type]
    return keys, count


def test_every_failure_of_a_well_formed_key_costs_the_same_work() -> None:
    rotating = PEPPERS.mint(Chance(11), "live")
    ended = PEPPERS.mint(Chance(12), "live")
    lone = PEPPERS.mint(Chance(13), "live")
    pair = ((1, b"x" * 32, 0), (2, rotating.digest, 0))
    keys, count = counted(
        record(rotating, hashes=pair), record(ended, hashes=((2, ended.digest, NOW),)), record(lone), imported("sk-a")
    )
    failures = {
        "unknown kid": FIRST.text,
        "wrong secret": generate(Chance(20), "live", lone.key_id).text,
        "wrong secret in a rotation": generate(Chance(21), "live", rotating.key_id).text,
        "ended hash": ended.text,
        "imported key's kid": generate(Chance(22), "live", imported("sk-a").key_id[4:]).text,
    }
    work = {}
    for reason, text in failures.items():
        count.clear()
        assert keys.find(text, NOW) is None, reason
        work[reason] = tuple(count)
    assert set(work.values()) == {(key_texts.SECRET_LENGTH,) * MAX_LIVE_SECRETS}, work


def test_a_malformed_key_costs_no_keyed_hash() -> None:
    keys, count = counted(record(FIRST))
    assert keys.find(FIRST.text[:-1] + "!", NOW) is None
    assert count == []


# ---------------------------------------------------------------- laws

MINTED = [PEPPERS.mint(Chance(seed), "live") for seed in range(100, 104)]
_CHANGES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["put", "pause", "rotate", "revoke"])), max_size=14)


def deltas_of(changes: list[tuple[int, str]]) -> list[KeyDelta]:
    """The committed history of four keys; a revoked key stays revoked, as the store sees to it."""
    made, revoked = [], set()
    for revision, (place, kind) in enumerate(changes, 2):
        minted = MINTED[place]
        if place in revoked:
            continue
        if kind == "revoke":
            revoked.add(place)
            made.append(KeyDelta(revision, minted.key_id, None))
            continue
        hashes = ((minted.version, minted.digest, 0),)
        if kind == "rotate":
            second = PEPPERS.mint(Chance(revision), "live", minted.key_id)
            hashes = ((second.version, second.digest, 0),)
        made.append(KeyDelta(revision, minted.key_id, record(minted, hashes=hashes, paused=kind == "pause")))
    return made


@given(_CHANGES, st.data())
@settings(deadline=None)
def test_pushes_and_repairs_may_overlap_in_any_order(changes: list[tuple[int, str]], data: st.DataObject) -> None:
    deltas = deltas_of(changes)
    right = ring(known=PEPPERS)
    right.apply(deltas, 0)
    torn = ring(known=PEPPERS)
    for batch in data.draw(st.permutations([[delta] for delta in deltas] * 2)):
        torn.apply(batch, 0)
    assert set(torn.records()) == set(right.records())
    for minted in MINTED:
        assert torn.find(minted.text, NOW) == right.find(minted.text, NOW)


@given(_CHANGES)
@settings(deadline=None)
def test_a_revoked_key_is_never_found_again(changes: list[tuple[int, str]]) -> None:
    deltas = deltas_of(changes)
    keys = ring(*(record(minted) for minted in MINTED), imported("sk-a"), known=PEPPERS)
    keys.apply([KeyDelta(2, imported("sk-a").key_id, None)], 0)
    assert keys.find("sk-a", NOW) is None
    keys.apply(deltas, 0)
    for delta in deltas:
        if delta.key is None:
            text = next(minted.text for minted in MINTED if minted.key_id == delta.key_id)
            assert keys.find(text, NOW) is None
            keys.apply(deltas[: deltas.index(delta)], 0)
            assert keys.find(text, NOW) is None
            assert keys.by_id(delta.key_id) is None


@given(_CHANGES)
@settings(deadline=None)
def test_a_snapshot_is_the_sum_of_its_deltas(changes: list[tuple[int, str]]) -> None:
    deltas = deltas_of(changes)
    keys = ring(known=PEPPERS)
    keys.apply(deltas, 0)
    newest = max((delta.revision for delta in deltas), default=1)
    again = ring(known=PEPPERS)
    again.load(keys.records(), newest, 0)
    again.apply(deltas, 0)
    assert set(again.records()) == set(keys.records())
