"""Two workers' public ports in the test's own event loop: one that serves, and one prepared to take its place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flow.scripts import whole
from flow.world import KEY_TEXTS, World

from api.planes import desk
from api.servers import HANG_S
from gateway.api.bodies import BodyRoom
from gateway.api.leaving import LeavingPlane
from gateway.api.port import Port, StopTimes
from gateway.api.taking import Taking
from gateway.core.records import Settle

TIMES = StopTimes(pre_stop_s=0.3, grace_s=0.1, drain_s=HANG_S)
MAX_BODY_BYTES = 8 * 1024 * 1024


class Serving:
    """One worker's port over a small world. `admits` is whether its HANDOVER would be taken."""

    def __init__(self, folder: Path, listener: socket.socket, world: World, times: StopTimes = TIMES) -> None:
        self.world = world
        self.admits = True
        self.listener = listener
        self.plane = LeavingPlane(
            world.services, desk, self._unready, lambda: b"", BodyRoom(MAX_BODY_BYTES, 4 * MAX_BODY_BYTES)
        )
        self.port = Port(
            self.plane, listener, times, folder / "passing.sock", folder / "successor.sock", self._hand_over
        )
        self.taking = Taking(folder / "successor.sock", folder / "passing.sock", self.port.make_protocol)
        self._serving: asyncio.Task[None] | None = None

    def _unready(self) -> str:
        return "draining" if self.plane.stopping else ""

    def _hand_over(self) -> bool:
        if self.admits:
            self.world.engine.hand_over()
            self.taking.step_down()
        return self.admits

    async def begin(self) -> None:
        """Admits, as a worker does that has read the HANDOVER."""
        serving = asyncio.Event()
        self.taking.begin()
        self._serving = asyncio.create_task(self.port.serve(serving.set))
        await asyncio.wait_for(serving.wait(), HANG_S)

    async def ended(self) -> None:
        """Returns when its port is closed and its last call has ended."""
        if self._serving is not None:
            await asyncio.wait_for(asyncio.shield(self._serving), HANG_S)

    async def close(self) -> None:
        self.port.stop()
        self.port.stop_now()
        await self.ended()
        await self.taking.close()
        self.listener.close()


@dataclass
class Two:
    old: Serving
    new: Serving
    port: int

    async def hand_over(self) -> None:
        """As the supervisor and both workers do it together."""
        self.old.port.hand_over()
        await self.new.begin()


@asynccontextmanager
async def two_workers(
    folder: Path, old: World | None = None, new: World | None = None, times: StopTimes = TIMES
) -> AsyncIterator[Two]:
    """The old one serves; the new one is prepared. The listening socket stays open, as with a supervisor."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    first = Serving(folder, listener.dup(), old or World([whole()]), times)
    await first.begin()
    second = Serving(folder, listener.dup(), new or World([whole()]), times)
    try:
        yield Two(first, second, port)
    finally:
        await first.close()
        await second.close()
        listener.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Client:
    """One keep-alive connection, spoken to in raw bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = field(default=0)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answer:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), HANG_S)
        first, *lines = raw.decode("latin-1").strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return Answer(int(first.split(" ")[1]), {pair[0].lower(): pair[-1] for pair in pairs})

    async def answer(self) -> Answer:
        """One whole answer; the connection may go on after it."""
        got = await self.head()
        if "content-length" in got.headers:
            got.body = await asyncio.wait_for(self.reader.readexactly(int(got.headers["content-length"])), HANG_S)
        else:
            got.body = await asyncio.wait_for(self.reader.readuntil(b"\r\n0\r\n\r\n"), HANG_S)
        return got

    async def ended(self) -> bytes:
        """What comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), HANG_S)


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def chat_bytes(model: str = "fast", **more: object) -> bytes:
    """A call as bytes, on a connection that goes on."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say something."}], **more}).encode()
    return call_bytes(body)


def call_bytes(body: bytes) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEY_TEXTS['app']}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get_bytes(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def served(one: Serving) -> int:
    """How many calls it has ended."""
    return len(one.world.records(Settle))


async def until_called(serving: Serving) -> None:
    """Returns when a call is under way there."""
    async with asyncio.timeout(20):
        while not serving.plane.running:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
