"""Messages over real Unix sockets: private, bounded, and broken connections that hurt nobody."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.channel.client import RemotePublisher, Subscriber, request
from gateway.channel.frames import ChannelBroken, Connection
from gateway.channel.messages import (
    Acknowledge,
    Adopt,
    Adopted,
    AskStatus,
    Publish,
    Published,
    Push,
    Request,
    Subscribe,
)
from gateway.channel.server import serve
from gateway.core.config import Update
from gateway.core.errors import ConfigInvalid


class NoChance:
    def bytes(self, count: int) -> bytes:
        return bytes(count)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "bookkeeper.sock"


async def answer(connection: Connection[Request]) -> None:
    """Adopt and Publish are answered at once, anything else never."""
    while True:
        match await connection.receive():
            case Adopt():
                await connection.send(Adopted(("jrn_1",)))
            case Publish(revision=revision):
                await connection.send(Published(revision != 13))
            case _:
                await asyncio.sleep(60)


async def until(happened: object, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():  # type: ignore[operator]  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.005)


async def test_a_question_and_its_answer(path: Path) -> None:
    async with serve(path, answer):
        assert await request(path, Adopt(), 1.0) == Adopted(("jrn_1",))
        assert await request(path, {"op": "adopt"}, 1.0) == Adopted(("jrn_1",)), "the wire form in plain words"


async def test_the_socket_is_private_from_its_first_moment_and_goes_with_its_server(path: Path) -> None:
    async with serve(path, answer):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert os.listdir(path.parent) == [path.name]
    assert os.listdir(path.parent) == []


async def test_a_socket_left_by_the_dead_is_replaced_and_a_successors_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    async with serve(path, answer):
        async with serve(path, answer):
            assert await request(path, Adopt(), 1.0)
        assert not path.exists()
    first, second = serve(path, answer), serve(path, answer)
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert await request(path, Adopt(), 1.0) == Adopted(("jrn_1",))
    await second.__aexit__(None, None, None)


async def test_nobody_there_or_no_answer_in_time_is_one_error(path: Path) -> None:
    with pytest.raises(ChannelBroken, match="nobody answers"):
        await request(path, Adopt(), 1.0)
    async with serve(path, answer):
        with pytest.raises(ChannelBroken, match=r"within 0\.05 s"):
            await request(path, AskStatus(), 0.05)


async def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="FAREGATE_DATA_DIR"):
        async with serve(tmp_path / ("x" * 120) / "s.sock", answer):
            pass


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x81",
        b"\x00\x00\x00\x01\xc0",
        b"\x00\x00\x00\x0b\x81\xa2op\xa6reboot",
        b"",
    ],
)
async def test_junk_closes_its_connection_and_no_other(path: Path, junk: bytes) -> None:
    async with serve(path, answer):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(junk)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert await request(path, Adopt(), 1.0) == Adopted(("jrn_1",))


async def test_large_messages_arrive_whole_and_too_large_ones_are_refused(path: Path) -> None:
    got: list[Request] = []

    async def keep(connection: Connection[Request]) -> None:
        got.append(await connection.receive())
        await connection.send(Adopted(()))

    async with serve(path, keep):
        await request(path, Subscribe("w" * 5_000_000, 1), 5.0)
        assert got == [Subscribe("w" * 5_000_000, 1)]
        with pytest.raises(ChannelBroken, match="longer than"):
            await request(path, Subscribe("w" * (64 * 1024 * 1024), 1), 5.0)


# ---------------------------------------------------------------- the worker's side


class Worker:
    """A worker's configuration, as far as the channel knows it."""

    def __init__(self, path: Path, silence_s: float = 5.0) -> None:
        self.revision = 0
        self.applied: list[Update] = []
        self.failing = False
        self.subscriber = Subscriber(path, "w1", lambda: self.revision, self.apply, NoChance(), silence_s)

    def apply(self, update: Update) -> None:
        if self.failing:
            raise ValueError("cannot use this")
        self.applied.append(update)
        self.revision = update.revision


@asynccontextmanager
async def following(worker: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.subscriber.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Desk:
    """The other side: remembers what it hears, sends what it is told."""

    def __init__(self) -> None:
        self.heard: list[Request] = []
        self.connections: list[Connection[Request]] = []

    async def __call__(self, connection: Connection[Request]) -> None:
        self.connections.append(connection)
        while True:
            self.heard.append(await connection.receive())


async def test_an_update_is_acknowledged_after_it_was_applied(path: Path) -> None:
    worker, desk = Worker(path), Desk()
    async with serve(path, desk), following(worker):
        await until(lambda: desk.heard)
        assert desk.heard == [Subscribe("w1", 0)]
        await desk.connections[0].send(Push(Update(7, 1)))
        await until(lambda: len(desk.heard) == 2)
        assert desk.heard[1] == Acknowledge(7)
        assert [one.revision for one in worker.applied] == [7]


async def test_it_comes_back_with_the_revision_it_has(path: Path) -> None:
    worker, desk = Worker(path), Desk()
    async with following(worker):
        await asyncio.sleep(0.1)  # nobody is there yet
        for revision in (3, 4):
            async with serve(path, desk):
                await until(lambda: desk.connections)
                await desk.connections.pop().send(Push(Update(revision, 1)))
                await until(lambda revision=revision: Acknowledge(revision) in desk.heard)
    assert [one for one in desk.heard if isinstance(one, Subscribe)] == [Subscribe("w1", 0), Subscribe("w1", 3)]


async def test_what_cannot_be_applied_is_never_acknowledged_and_asked_for_again(path: Path) -> None:
    worker, desk = Worker(path), Desk()
    worker.failing = True
    async with serve(path, desk), following(worker):
        await until(lambda: desk.connections)
        await desk.connections[0].send(Push(Update(5, 1)))
        await until(lambda: len(desk.connections) == 2)
        assert Acknowledge(5) not in desk.heard
        worker.failing = False
        await desk.connections[1].send(Push(Update(5, 1)))
        await until(lambda: Acknowledge(5) in desk.heard)


async def test_a_silent_bookkeeper_is_left(path: Path) -> None:
    worker, desk = Worker(path, silence_s=0.05), Desk()
    async with serve(path, desk), following(worker):
        await until(lambda: len(desk.connections) >= 2)


async def test_the_desks_publisher_never_raises(path: Path) -> None:
    publisher = RemotePublisher(path)
    assert not await publisher.publish(1, (), None), "nobody is there"
    async with serve(path, answer):
        assert await publisher.publish(1, (), None)
        assert not await publisher.publish(13, (), None), "not acknowledged"
