"""Taking connections over: the new worker's side of `passing`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.api.passing import LENGTH_BYTES
from gateway.channel.server import UnixListener

BACKLOG = 1024
TAKE_S = 10.0
AGAIN_S = 0.1
"""After an error of the machine (no descriptors left): what waits is still there."""
MAX_REQUEST_BYTES = 1 << 30
"""A request passed on was within the old worker's limit, which an operator may have set to anything sensible."""
_READ_BYTES = 256 * 1024

LOG = logging.getLogger("faregate.handover")


class _NotPassed(Exception):
    """What came was no connection."""


class Introduction(asyncio.Protocol):
    """Lets a protocol begin on a connection whose first bytes somebody else has read."""

    def __init__(self, protocol: asyncio.Protocol, begun: bytes) -> None:
        self._protocol = protocol
        self._begun = begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Before anything is read from the connection itself: what was read comes first."""
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)
        if self._begun:
            self._protocol.data_received(self._begun)


class Taking:
    """Listens as the `successor` of the worker that admits now, and at `passing` once it is that worker itself.

    So those that have been replaced before never pass anything to one that may still fail to begin.
    """

    def __init__(self, successor: Path, passing: Path, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._passing = passing
        self._make_protocol = make_protocol
        self._listener = UnixListener(successor, BACKLOG)
        self._listener.take(successor)
        self._tasks: set[asyncio.Task[None]] = set()
        self.taken = 0

    def begin(self) -> None:
        """This is the worker that admits now: it takes what is passed on, until it is closed."""
        self._listener.take(self._passing)
        self._keep(self._accept(), "take-connections")

    def _keep(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                old_worker, _ = await loop.sock_accept(self._listener.socket)
            except OSError as error:
                LOG.error("connections cannot be taken over: %s", error)
                await asyncio.sleep(AGAIN_S)
                continue
            self._keep(self._take(old_worker), "take-connection")

    def step_down(self) -> None:
        """Another worker goes on: nobody shall find this one any more. What waits already is still taken."""
        self._listener.remove()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.remove()
        self._listener.socket.close()

    async def _take(self, old_worker: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            async with asyncio.timeout(TAKE_S):
                begun = await _receive(old_worker, descriptors)
            if not descriptors:
                return  # it has only looked whether anybody is here
            connection = socket.socket(fileno=descriptors.pop())
            connection.setblocking(False)
            introduction = Introduction(self._make_protocol(), begun)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: introduction, connection)
            self.taken += 1
        except (OSError, TimeoutError, _NotPassed) as error:
            LOG.warning("a connection could not be taken over: %s", error)
        finally:
            old_worker.close()
            for descriptor in descriptors:
                socket.close(descriptor)


async def _receive(old_worker: socket.socket, descriptors: list[int]) -> bytes:
    """The bytes that were read already; the connection's descriptor goes into `descriptors`, if there is one.

    Raises _NotPassed.
    """
    data = bytearray()
    needed = LENGTH_BYTES
    while len(data) < needed:
        await _readable(old_worker)
        part, received, _, _ = socket.recv_fds(old_worker, _READ_BYTES, 1)
        descriptors += received
        data += part
        if not part and not data:
            return b""
        if not part:
            raise _NotPassed("its end came first")
        if needed == LENGTH_BYTES and len(data) >= needed:
            needed += int.from_bytes(data[:LENGTH_BYTES], "big")
            if needed > MAX_REQUEST_BYTES:
                raise _NotPassed(f"a request of {needed} bytes")
    if len(descriptors) != 1:
        raise _NotPassed(f"{len(descriptors)} descriptors")
    return bytes(data[LENGTH_BYTES:])


async def _readable(source: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[Any] = loop.create_future()
    loop.add_reader(source.fileno(), _resolve, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(source.fileno())


def _resolve(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)
