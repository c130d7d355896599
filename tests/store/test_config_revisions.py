"""Policies by hash, the log, snapshots and deltas, and many writers at once, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from vault.fakes import Chance, ring

from gateway.core.admin import KeyChange
from gateway.core.errors import BadRequest, Conflict, StoreUnavailable
from gateway.routing.policy_bytes import encode_policy, policy_hash
from store.config_opened import (
    ACTOR,
    Opened,
    Store,
    limit,
    opened,
    policy,
    postgres_database,
    postgres_server,
    store,
)

__all__ = ["opened", "postgres_database", "postgres_server", "store"]


async def test_a_policy_is_stored_by_hash_and_only_when_it_changed(opened: Opened) -> None:
    first = await opened.config.save_policy(policy("a"), actor=ACTOR)
    assert first == msgspec.structs.replace(policy("a"), revision=1, hash=policy_hash(encode_policy(policy("a"))))
    assert await opened.config.save_policy(first, actor=ACTOR) == first
    second = await opened.config.save_policy(policy("b"), actor=ACTOR)
    back = await opened.config.save_policy(policy("a"), actor=ACTOR)
    assert (second.revision, back.revision, back.hash) == (2, 3, first.hash)
    assert [await opened.config.policy_at(revision) for revision in (0, 1, 2, 3, 99)] == [
        None,
        first,
        second,
        back,
        back,
    ]
    assert [row.kind for row in await opened.config.log()] == ["policy.saved"] * 3


async def test_a_wrong_hash_that_is_handed_in_is_not_believed(opened: Opened) -> None:
    saved = await opened.config.save_policy(msgspec.structs.replace(policy("a"), hash="wrong"), actor=ACTOR)
    assert saved.hash == policy_hash(encode_policy(policy("a")))


async def test_changes_bring_a_ring_to_the_same_state_as_a_snapshot(opened: Opened) -> None:
    await opened.config.save_policy(policy("a"), actor=ACTOR)
    one = await opened.config.create_key(KeyChange(name="one", limits=(limit(5),)), actor=ACTOR)
    two = await opened.config.create_key(KeyChange(name="two"), actor=ACTOR)
    snapshot = await opened.config.snapshot()
    assert snapshot is not None
    assert (snapshot.revision, snapshot.policy.revision) == (3, 1)
    keys = ring(known=opened.peppers)
    keys.load(snapshot.keys, snapshot.revision, 0)
    await opened.config.revoke_key(one.view.key_id, actor=ACTOR)
    rotated = await opened.config.rotate_key(two.view.key_id, 0, actor=ACTOR)
    await opened.config.create_key(KeyChange(name="three"), actor=ACTOR)
    newest, deltas, changed = await opened.config.changes_since(snapshot.revision)
    assert (newest, [delta.revision for delta in deltas], changed) == (6, [4, 5, 6], None)
    keys.apply(deltas, 0)
    again = await opened.config.snapshot()
    assert again is not None
    assert set(keys.records()) == set(again.keys) == set(await opened.config.key_records())
    assert keys.find(one.secret, 0) is None
    assert keys.find(two.secret, 0) is None
    assert keys.find(rotated.secret, 0) is not None
    second = await opened.config.save_policy(policy("b"), actor=ACTOR)
    assert await opened.config.changes_since(6) == (7, (), second)
    assert await opened.config.changes_since(7) == (7, (), None)
    assert await opened.config.changes_since(100) == (7, (), None)


async def test_the_log_names_who_did_what_newest_first(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(), actor="anna")
    opened.clock.ms += 5
    await opened.config.set_paused(made.view.key_id, True, actor="ben")
    newest, oldest = await opened.config.log()
    assert (newest.revision, newest.kind, newest.subject, newest.actor, newest.ts_ms) == (
        2, "key.paused", made.view.key_id, "ben", opened.clock.ms
    )  # fmt: skip
    assert (oldest.kind, oldest.actor) == ("key.created", "anna")
    assert len(await opened.config.log(1)) == 1
    with pytest.raises(BadRequest, match="actor"):
        await opened.config.create_key(KeyChange(), actor="")


# ---------------------------------------------------------------- many at once


async def test_revisions_are_dense_and_in_commit_order(opened: Opened) -> None:
    """20 writers, and a reader that polls as workers do: it never misses a change it has passed by."""
    other = Opened(opened.where)
    done = asyncio.Event()
    seen: list[int] = []

    async def follow() -> None:
        at = 0
        while True:
            finished = done.is_set()
            at, deltas, _ = await opened.config.changes_since(at)
            seen.extend(delta.revision for delta in deltas)
            if finished:
                return
            await asyncio.sleep(0)

    follower = asyncio.create_task(follow())
    stores = [opened.config, other.config]
    other.config._entropy = Chance(99)
    made = await asyncio.gather(
        *(stores[number % 2].create_key(KeyChange(name=f"k{number}"), actor=ACTOR) for number in range(20))
    )
    done.set()
    await follower
    await other.engine.dispose()
    assert sorted(created.revision for created in made) == list(range(1, 21))
    assert seen == list(range(1, 21))
    log = {row.revision: row.subject for row in await opened.config.log()}
    assert all(log[created.revision] == created.view.key_id for created in made)


async def test_of_many_that_want_one_name_one_gets_it(opened: Opened) -> None:
    made = await asyncio.gather(
        *(opened.config.create_key(KeyChange(name="same"), actor=ACTOR, if_absent=True) for _ in range(10))
    )
    assert sum(bool(created.secret) for created in made) == 1
    assert len({created.view.key_id for created in made}) == 1
    refused = await asyncio.gather(
        *(opened.config.create_key(KeyChange(name="same"), actor=ACTOR) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(error, Conflict) for error in refused)
    assert (await opened.counts())[2] == 1


async def test_a_cancelled_write_leaves_no_gap_and_no_lock(opened: Opened) -> None:
    for number in range(8):
        task = asyncio.create_task(opened.config.create_key(KeyChange(name=f"c{number}"), actor=ACTOR))
        for _ in range(number * 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    created = await opened.config.create_key(KeyChange(name="after"), actor=ACTOR)
    revisions = [row.revision for row in await opened.config.log()]
    assert revisions == list(range(created.revision, 0, -1))


async def test_without_a_schema_the_error_says_what_to_run(store: Store) -> None:
    opened = Opened(store)
    try:
        with pytest.raises(StoreUnavailable, match="faregate db upgrade"):
            await opened.config.create_key(KeyChange(), actor=ACTOR)
        with pytest.raises(StoreUnavailable, match="faregate db upgrade"):
            await opened.config.snapshot()
    finally:
        await opened.engine.dispose()
