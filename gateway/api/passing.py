"""Passing connections on: the old worker's side. Its successor goes on with the same TCP connection, at the same byte.

A connection between two requests goes as it is: what the kernel has received and nobody has read goes with it. A call
that may not be admitted here any more goes with the bytes of its request, as if they had just arrived. So a caller
notices nothing of a hand-over: no reset, no refusal, not even `connection: close`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Collection
from pathlib import Path

from gateway.api.http_exchange import HttpExchange
from gateway.api.protocol import Connection

LENGTH_BYTES = 8
"""Before the bytes of a request that has begun: how many there are. 0: the connection is between two requests."""
SEND_S = 10.0
WAIT_S = 10.0
LOOK_S = 0.005
_NOT_PASSED = frozenset({b"content-length", b"transfer-encoding", b"expect"})
"""The body is here in full: it is passed on with its length."""

LOG = logging.getLogger("faregate.handover")


def is_idle(connection: Connection) -> bool:
    """Whether nothing is under way on a connection of the public port: no answer, no part of a request, no unsent
    byte."""
    cycle, transport = connection.cycle, connection.transport
    return (
        (cycle is None or cycle.response_complete)
        and not transport.is_closing()
        and connection.in_head
        and not _has_begun_another(connection)
        and not transport.get_write_buffer_size()
    )


def _has_begun_another(connection: Connection) -> bool:
    """Whether something of a further request has been read: each begins with a list of headers of its own."""
    cycle = connection.cycle
    if cycle is None:
        return connection.headers is not None
    last = cycle.raw_headers if isinstance(cycle, HttpExchange) else cycle.scope["headers"]
    return bool(connection.pipeline) or connection.headers is not last


def connect(path: Path) -> socket.socket:
    """To whoever listens there. Raises OSError: nobody does, or too many came at once."""
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    other.setblocking(False)
    try:
        other.connect(os.fspath(path))
    except OSError:
        other.close()
        raise
    return other


class Passing:
    """`passing` is the socket of the worker that admits, whoever that is by then; `connections` are our port's."""

    def __init__(self, passing: Path, connections: Collection[Connection]) -> None:
        self._passing = passing
        self._connections = connections
        self.idle = 0
        self.calls = 0

    def pass_idle(self) -> None:
        """Passes every connection on that is between two requests. One that cannot be passed now is kept."""
        for connection in [one for one in self._connections if is_idle(one)]:
            try:
                successor = connect(self._passing)
            except OSError:
                return  # between two workers there is nobody for some milliseconds
            try:
                _send(successor, connection, 0)
            except OSError as error:
                LOG.debug("a connection was not passed on: %s", error)
            else:
                self.idle += 1
                connection.transport.abort()
            finally:
                successor.close()

    async def pass_call(self, exchange: HttpExchange) -> bool:
        """Passes a call on before any of its answer was sent; False when the answer must come from here."""
        body = await exchange.body()  # the rest of it may still be on its way
        connection = next((one for one in self._connections if one.cycle is exchange), None)
        if connection is None:
            return False
        request = _request_of(connection, body)
        successor = await self._sent_when_there(connection, exchange, len(request))
        if successor is None:
            return False
        exchange.finished = True
        connection.transport.abort()
        self.calls += 1
        try:
            async with asyncio.timeout(SEND_S):
                await asyncio.get_running_loop().sock_sendall(successor, request)
        except (OSError, TimeoutError) as error:
            LOG.warning("a call was lost on its way to the new worker: %s", error)
        finally:
            successor.close()
        return True

    async def _sent_when_there(
        self, connection: Connection, exchange: HttpExchange, length: int
    ) -> socket.socket | None:
        """Waits for a successor: some milliseconds, and a start more where the new worker dies in them.

        None when there is none, the caller has left, or a further request is half read: nobody could go on there.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + WAIT_S
        while not exchange.gone and not _has_begun_another(connection):
            try:
                successor = connect(self._passing)
                try:
                    _send(successor, connection, length)
                except OSError:
                    successor.close()
                    raise
                return successor
            except OSError as error:
                if loop.time() > ends_s:
                    LOG.warning("a call was not passed on: %s", error)
                    return None
            await asyncio.sleep(LOOK_S)
        return None


def _send(successor: socket.socket, connection: Connection, length: int) -> None:
    """Gives the connection's descriptor away. Closing ours afterwards ends nothing: the other side has one, too.

    Raises OSError.
    """
    descriptor = connection.transport.get_extra_info("socket").fileno()
    socket.send_fds(successor, [length.to_bytes(LENGTH_BYTES, "big")], [descriptor])


def _request_of(connection: Connection, body: bytes) -> bytes:
    """The connection's present request, as a caller sends one."""
    version: str = connection.parser.get_http_version()
    head = [b"POST %b HTTP/%b\r\n" % (connection.url, version.encode())]
    head += [b"%b: %b\r\n" % (name, value) for name, value in connection.headers if name not in _NOT_PASSED]
    head.append(b"content-length: %d\r\n\r\n" % len(body))
    return b"".join([*head, body])
