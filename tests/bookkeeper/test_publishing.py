"""Configuration from the desk to the workers over real sockets: at once, acknowledged, repaired by polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bookkeeper.world import ENTROPY, HANG_S, until
from gateway.bookkeeper import publishing
from gateway.bookkeeper.publishing import ConfigPublisher
from gateway.channel.client import RemotePublisher, Subscriber, connect
from gateway.channel.frames import Connection
from gateway.channel.messages import Acknowledge, Publish, Published, Push, Request, Subscribe
from gateway.channel.server import serve
from gateway.core.caller import KeyRecord
from gateway.core.config import KeyDelta, LimitChange, Policy, Snapshot, Update
from gateway.core.errors import StoreUnavailable
from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.vault.last_good import read_last_good, write_last_good


class Clock:
    """Real time, that can be set."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


def key(number: int) -> KeyRecord:
    return KeyRecord(f"key_{number}", f"name {number}", "acme", "search", "data", ())


def policy_at(revision: int) -> Policy:
    return Policy(revision, f"hash {revision}", {}, {}, (), {})


class Config:
    """What a publisher asks of core.admin.ConfigStore, in memory; `away` is SQL not answering."""

    def __init__(self) -> None:
        self.deltas: list[KeyDelta] = []
        self.policy: Policy | None = None
        self.revision = 0
        self.away = False
        self.reads = 0

    def set_policy(self) -> Policy:
        self.revision += 1
        self.policy = policy_at(self.revision)
        return self.policy

    def change(self, number: int, *, revoked: bool = False) -> KeyDelta:
        self.revision += 1
        delta = KeyDelta(self.revision, f"key_{number}", None if revoked else key(number))
        self.deltas.append(delta)
        return delta

    def limit(self, number: int, amount: int | None) -> KeyDelta:
        self.revision += 1
        id = f"lim_{number}"
        found = None if amount is None else Limit(id, Unit.USD, amount, Window(WindowKind.MONTH), (("org", "acme"),))
        delta = KeyDelta(self.revision, id, None, LimitChange(id, found))
        self.deltas.append(delta)
        return delta

    def _answer(self) -> None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("SQL did not answer")

    async def snapshot(self) -> Snapshot | None:
        self._answer()
        if self.policy is None:
            return None
        keys: dict[str, KeyRecord | None] = {delta.key_id: delta.key for delta in self.deltas}
        limits = {delta.key_id: delta.change for delta in self.deltas if delta.change is not None}
        return Snapshot(
            self.revision,
            self.policy,
            tuple(one for one in keys.values() if one is not None),
            tuple(change for change in limits.values() if not change.gone),
        )

    async def changes_since(self, revision: int) -> tuple[int, tuple[KeyDelta, ...], Policy | None]:
        self._answer()
        policy = self.policy if self.policy is not None and self.policy.revision > revision else None
        return self.revision, tuple(delta for delta in self.deltas if delta.revision > revision), policy


class Worker:
    """A worker's two layers of configuration, patched by updates."""

    def __init__(self, path: Path, name: str = "w1", delay_s: float = 0.0) -> None:
        self.revision = 0
        self.fresh_ms = 0
        self.policy: Policy | None = None
        self.keys: dict[str, KeyRecord] = {}
        self.revisions: list[int] = []
        self._delay_s = delay_s
        self.subscriber = Subscriber(path, name, lambda: self.revision, self.apply, ENTROPY)

    def apply(self, update: Update) -> None:
        time.sleep(self._delay_s)
        for delta in update.keys:
            if delta.key is None:
                self.keys.pop(delta.key_id, None)
            else:
                self.keys[delta.key_id] = delta.key
        self.policy = update.policy or self.policy
        self.revision = max(self.revision, update.revision)
        self.fresh_ms = update.fresh_ms
        self.revisions.append(update.revision)


class Town:
    """A publisher behind its socket, and workers that follow it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run" / "bookkeeper.sock"
        self.file = folder / "run" / "config.msgpack"
        self.clock = Clock()
        self.config = Config()
        self.config.set_policy()
        self.config.change(1)

    @asynccontextmanager
    async def publisher(self, *, polling: bool = True, expected: int = 0) -> AsyncIterator[ConfigPublisher]:
        publisher = ConfigPublisher(self.config, self.file, self.clock, expected)  # type: ignore[arg-type]
        await publisher.start()

        async def answer(connection: Connection[Request]) -> None:
            while True:
                match await connection.receive():
                    case Subscribe() as subscribe:
                        await publisher.follow(connection, subscribe)
                    case Publish(revision, deltas, policy):
                        await connection.send(Published(await publisher.publish(revision, deltas, policy)))
                    case _:
                        return

        async with serve(self.path, answer), tasks(*([publisher.run()] if polling else [])):
            yield publisher

    @asynccontextmanager
    async def worker(self, name: str = "w1", **how: float) -> AsyncIterator[Worker]:
        worker = Worker(self.path, name, **how)
        async with tasks(worker.subscriber.run()):
            yield worker


@asynccontextmanager
async def tasks(*runs: object) -> AsyncIterator[None]:
    started = [asyncio.create_task(run) for run in runs]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def test_a_new_worker_gets_everything_and_then_each_change(town: Town) -> None:
    async with town.publisher(polling=False), town.worker() as worker:
        await until(lambda: worker.revision == 2)
        assert (worker.policy, worker.keys) == (policy_at(1), {"key_1": key(1)})
        delta = town.config.change(2)
        assert await RemotePublisher(town.path).publish(3, (delta,), None)
        assert worker.keys.keys() == {"key_1", "key_2"}, "acknowledged means applied"


async def test_publishing_needs_no_sql_and_takes_milliseconds(town: Town) -> None:
    async with town.publisher(polling=False), town.worker() as worker:
        await until(lambda: worker.revision == 2)
        reads = town.config.reads
        town.config.away = True
        delta = town.config.change(1, revoked=True)
        started = time.monotonic()
        assert await RemotePublisher(town.path).publish(3, (delta,), None)
        assert time.monotonic() - started < HANG_S
        assert (worker.keys, town.config.reads) == ({}, reads)


async def test_changes_published_out_of_order_arrive_in_commit_order(town: Town) -> None:
    async with town.publisher(polling=False), town.worker() as worker:
        await until(lambda: worker.revision == 2)
        deltas = [town.config.change(1, revoked=True), town.config.change(1), town.config.change(1, revoked=True)]
        remote = RemotePublisher(town.path)
        done = await asyncio.gather(*(remote.publish(one.revision, (one,), None) for one in reversed(deltas)))
        assert all(done)
        assert worker.keys == {}
        assert worker.revisions == sorted(worker.revisions)


async def test_what_the_desk_did_not_hand_over_is_found_by_polling(town: Town) -> None:
    async with town.publisher(), town.worker() as worker:
        await until(lambda: worker.revision == 2)
        town.config.change(7)
        policy = town.config.set_policy()
        assert await until(lambda: worker.revision == 4) < 1.0
        assert (worker.policy, set(worker.keys)) == (policy, {"key_1", "key_7"})


async def test_a_worker_too_slow_to_acknowledge_means_pending(town: Town) -> None:
    async with town.publisher(polling=False), town.worker(), town.worker("w2", delay_s=0.3) as slow:
        await until(lambda: slow.revision == 2)
        assert await RemotePublisher(town.path).publish(3, (town.config.change(2),), None)
    async with town.publisher(polling=False) as publisher, connect(town.path) as silent:
        await silent.send(Subscribe("w3", 0))
        await until(lambda: publisher.workers == 1)
        started = time.monotonic()
        assert not await publisher.publish(4, (town.config.change(3),), None)
        assert 0.9 < time.monotonic() - started < HANG_S


async def test_a_worker_that_goes_without_acknowledging_may_still_be_serving(town: Town) -> None:
    async with town.publisher(polling=False) as publisher:
        async with connect(town.path) as leaving:
            await leaving.send(Subscribe("w1", 0))
            await until(lambda: publisher.workers == 1)
            answer = asyncio.create_task(publisher.publish(3, (town.config.change(2),), None))
            await asyncio.sleep(0.05)
        assert not await answer
        await until(lambda: publisher.workers == 0)
        assert await publisher.publish(4, (town.config.change(3),), None), "nobody is left to serve by the old"


async def test_right_after_a_start_workers_that_still_have_to_come_back_count(town: Town) -> None:
    async with town.publisher(polling=False, expected=1) as publisher:
        assert not await publisher.publish(3, (town.config.change(2),), None)
        async with town.worker() as worker:
            await until(lambda: worker.revision == 3)
            assert await publisher.publish(4, (town.config.change(3),), None)
    async with town.publisher(polling=False, expected=1) as publisher:
        town.clock.ahead_ms += publishing.GRACE_MS
        assert await publisher.publish(5, (town.config.change(4),), None)


async def test_a_worker_comes_back_after_the_bookkeepers_death_and_misses_nothing(town: Town) -> None:
    async with town.worker() as worker:
        async with town.publisher():
            await until(lambda: worker.revision == 2)
        town.config.change(1, revoked=True)
        town.config.change(5)
        async with town.publisher():
            assert await until(lambda: worker.revision == 4) < 1.5
        assert set(worker.keys) == {"key_5"}


async def test_the_file_follows_and_serves_while_sql_is_away(town: Town) -> None:
    async with town.publisher() as publisher, town.worker():
        town.config.change(2)
        await until(lambda: publisher.revision == 3)
        await until(lambda: (found := read_last_good(town.file)) and found.revision == 3)
        assert town.file.stat().st_mode & 0o777 == 0o600
    town.config.away = True
    town.config.change(3)
    async with town.publisher() as publisher, town.worker() as worker:
        await until(lambda: publisher.workers == 1)
        assert (publisher.revision, publisher.fresh_ms) == (3, 0)
        await asyncio.sleep(0.1)
        town.config.away = False
        await until(lambda: worker.revision == 4)
        assert set(worker.keys) == {"key_1", "key_2", "key_3"}


async def test_limits_are_in_the_file_as_they_are_now(town: Town) -> None:
    town.config.limit(1, 5)
    async with town.publisher() as publisher:
        for number, amount in ((2, 7), (1, 6), (2, None), (3, 8)):
            town.config.limit(number, amount)
        await until(lambda: publisher.revision == town.config.revision)
    found = read_last_good(town.file)
    assert found is not None
    assert found.limits is not None
    assert {one.id: one.limit.amount for one in found.limits if one.limit is not None} == {"lim_1": 6, "lim_3": 8}
    assert [one.key_id for one in found.keys] == ["key_1"]


async def test_a_file_that_knows_no_limits_is_not_made_one_without_any(town: Town) -> None:
    town.file.parent.mkdir()
    write_last_good(town.file, Snapshot(town.config.revision, policy_at(1), (key(1),)))
    town.config.away = True
    async with town.publisher() as publisher:
        town.config.away = False
        town.config.limit(1, 5)
        await until(lambda: publisher.revision == town.config.revision)
    found = read_last_good(town.file)
    assert found is not None
    assert found.limits is None, "a worker that starts from it asks for all of them"


async def test_a_file_of_another_database_is_not_believed_where_sql_answers(town: Town) -> None:
    town.file.parent.mkdir()
    write_last_good(town.file, Snapshot(900, policy_at(900), ()))
    town.config.policy, town.config.revision, town.config.deltas = None, 0, []
    async with town.publisher() as publisher, town.worker() as worker:
        assert publisher.revision == 0
        policy = town.config.set_policy()
        await until(lambda: worker.policy == policy)


async def test_a_damaged_file_is_no_obstacle(town: Town) -> None:
    town.file.parent.mkdir()
    town.file.write_bytes(b"junk")
    town.config.away = True
    async with town.publisher() as publisher:
        town.config.away = False
        await until(lambda: publisher.revision == 2)


async def test_a_heartbeat_tells_how_old_the_configuration_may_be(town: Town) -> None:
    async with town.publisher(), town.worker() as worker:
        await until(lambda: worker.revision == 2)
        first = worker.fresh_ms
        assert await until(lambda: worker.fresh_ms > first) < 2.5
        town.config.away = True
        await asyncio.sleep(1.2)
        stale = worker.fresh_ms
        await asyncio.sleep(1.2)
        assert worker.fresh_ms == stale, "SQL is away: what is served grows old"
        town.config.away = False
        await until(lambda: worker.fresh_ms > stale)


async def test_very_many_changes_come_in_frames_of_bounded_size(town: Town) -> None:
    for number in range(12_000):
        town.config.change(number)
    async with town.publisher(polling=False), connect(town.path) as connection:
        await connection.send(Subscribe("w1", 1))
        parts: list[Update] = []
        while not parts or parts[-1].revision < town.config.revision:
            message = await connection.receive()
            assert isinstance(message, Push)
            parts.append(message.update)
            await connection.send(Acknowledge(message.update.revision))
        assert [len(part.keys) for part in parts] == [5_000, 5_000, 2_001]
        assert len({delta.key_id for part in parts for delta in part.keys}) == 12_000


async def test_no_store_serves_the_file(town: Town) -> None:
    town.file.parent.mkdir()
    write_last_good(town.file, Snapshot(5, policy_at(4), (key(1),)))
    publisher = ConfigPublisher(None, town.file, town.clock)
    await publisher.start()
    assert publisher.revision == 5


def test_only_a_gapless_run_of_changes_is_taken_without_asking_sql() -> None:
    def deltas(*revisions: int) -> Sequence[KeyDelta]:
        return [KeyDelta(revision, "key_1", None) for revision in revisions]

    assert publishing._is_next(4, 5, deltas(5), None)
    assert publishing._is_next(4, 6, deltas(5, 6), None)
    assert publishing._is_next(4, 6, deltas(5), policy_at(6))
    assert publishing._is_next(4, 5, (), policy_at(5))
    assert not publishing._is_next(4, 6, deltas(6), None)
    assert not publishing._is_next(4, 5, (), None)
    assert not publishing._is_next(4, 10**9, deltas(10**9), None)
