"""From a committed change in SQL to the workers: the real store, publisher, sockets and subscriber."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from store.config_opened import ACTOR, Opened, opened, policy, postgres_database, postgres_server, store

from bookkeeper.test_publishing import Town, Worker, tasks
from bookkeeper.world import until
from gateway.channel.client import RemotePublisher
from gateway.core.admin import KeyChange
from gateway.store.engine import is_sqlite, writing
from gateway.vault.last_good import read_last_good

__all__ = ["opened", "postgres_database", "postgres_server", "store"]


@pytest.fixture
def town(opened: Opened, tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.config = opened.config  # type: ignore[assignment]
    return town


async def holding(worker: Worker, *key_ids: str) -> float:
    return await until(lambda: set(worker.keys) == set(key_ids))


async def test_a_key_made_paused_and_revoked(town: Town, opened: Opened) -> None:
    first = await opened.config.save_policy(policy("gpt-4o"), actor=ACTOR)
    async with town.publisher() as publisher, town.worker() as worker:
        await until(lambda: worker.policy == first)
        remote = RemotePublisher(town.path)
        made = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
        _, deltas, changed = await opened.config.changes_since(publisher.revision)
        assert await remote.publish(made.revision, deltas, changed)
        assert set(worker.keys) == {made.view.key_id}
        await opened.config.set_paused(made.view.key_id, True, actor=ACTOR)
        assert await until(lambda: worker.keys[made.view.key_id].paused) < 1.0, "nobody handed it over: polled"
        await opened.config.revoke_key(made.view.key_id, actor=ACTOR)
        assert await holding(worker) < 1.0
        second = await opened.config.save_policy(policy("gpt-5"), actor=ACTOR)
        await until(lambda: worker.policy == second)
        await until(lambda: (kept := read_last_good(town.file)) and kept.policy == second)


async def test_a_worker_of_long_ago_gets_what_it_missed(town: Town, opened: Opened) -> None:
    await opened.config.save_policy(policy("gpt-4o"), actor=ACTOR)
    kept = [await opened.config.create_key(KeyChange(name=f"k{n}"), actor=ACTOR) for n in range(5)]
    worker = Worker(town.path)
    worker.revision = kept[0].revision
    worker.keys = {
        made.view.key_id: record for made, record in zip(kept, await opened.config.key_records(), strict=True)
    }
    await opened.config.revoke_key(kept[1].view.key_id, actor=ACTOR)
    async with town.publisher(), town.worker() as fresh, tasks(worker.subscriber.run()):
        left = {made.view.key_id for made in kept} - {kept[1].view.key_id}
        await holding(worker, *left)
        await holding(fresh, *left)


async def test_a_restored_older_database_is_not_taken_for_current(town: Town, opened: Opened) -> None:
    await opened.config.save_policy(policy("gpt-4o"), actor=ACTOR)
    made = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    async with town.publisher() as publisher, town.worker() as worker:
        await holding(worker, made.view.key_id)
        schema = "" if is_sqlite(opened.engine) else "faregate_config."
        async with writing(opened.engine) as connection:
            newest = f"(SELECT max(revision) FROM {schema}config_change)"
            await connection.execute(text(f"DELETE FROM {schema}config_change WHERE revision = {newest}"))
        await until(lambda: publisher._overtaken)
        stale = publisher.fresh_ms
        assert (publisher.revision, set(worker.keys)) == (made.revision, {made.view.key_id})
        await until(lambda: town.clock.now_ms() > stale + 600)
        assert publisher.fresh_ms == stale
