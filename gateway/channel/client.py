"""The other ends: a worker that follows configuration, the desk that publishes it, one question and its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gateway.channel.frames import ChannelBroken, Connection
from gateway.channel.messages import Acknowledge, Publish, Published, Push, Reply, Request, Subscribe
from gateway.core.config import KeyDelta, Policy, Update
from gateway.core.ports import Entropy

FIRST_BACKOFF_S = 0.02
LAST_BACKOFF_S = 0.5
"""A worker that cannot hear of a revocation looks again at least this often: revocation takes effect within 1 s."""
SILENCE_S = 5.0
"""The bookkeeper says something each second; a connection silent for this long is a dead one."""
PUBLISH_TIMEOUT_S = 1.5
"""The bookkeeper itself waits a second for the workers."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Connection[Reply]]:
    """A connection to a `serve`d path. Raises ChannelBroken when nobody listens."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise ChannelBroken(f"nobody answers at {path}: {error.strerror or error}") from error
    connection: Connection[Reply] = Connection(reader, writer, msgspec.msgpack.Decoder(Reply))
    try:
        yield connection
    finally:
        connection.close()
        await connection.wait_closed()


async def request(path: Path, message: Request | dict[str, str], timeout_s: float) -> Reply:
    """Sends one message, or a plain map of its wire form (`{"op": "adopt"}`), and returns its answer.

    Raises ChannelBroken, also when there is none in time.
    """
    try:
        async with asyncio.timeout(timeout_s), connect(path) as connection:
            await connection.send(message)
            return await connection.receive()
    except TimeoutError as error:
        raise ChannelBroken(f"no answer from {path} within {timeout_s:g} s") from error


class Subscriber:
    """Keeps a worker's configuration current: run it as a task for as long as the worker lives.

    `revision` says what the worker has now, `apply` takes an Update and returns when the worker serves by it; only
    then is it acknowledged. Nothing that goes wrong here reaches the worker: it serves on by what it has, and its
    `fresh_ms` grows old.
    """

    def __init__(
        self,
        path: Path,
        worker: str,
        revision: Callable[[], int],
        apply: Callable[[Update], None],
        entropy: Entropy,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._path = path
        self._worker = worker
        self._revision = revision
        self._apply = apply
        self._entropy = entropy
        self._silence_s = silence_s
        self.connected = False

    async def run(self) -> None:
        """Never returns; ends by being cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await self._follow()
            except ChannelBroken as error:
                # Said once: a bookkeeper that is being replaced is away for a while.
                _log.log(logging.INFO if self.connected else logging.DEBUG, "configuration channel: %s", error)
            except Exception:  # noqa: BLE001 - whatever an update does to the worker, it goes on serving
                _log.exception("an update could not be applied; asking for it again")
            if self.connected:
                backoff_s = FIRST_BACKOFF_S
            self.connected = False
            await asyncio.sleep(backoff_s * (0.5 + self._entropy.bytes(1)[0] / 512))
            backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)

    async def _follow(self) -> None:
        async with connect(self._path) as connection:
            await connection.send(Subscribe(self._worker, self._revision()))
            while True:
                try:
                    async with asyncio.timeout(self._silence_s):
                        message = await connection.receive()
                except TimeoutError as error:
                    raise ChannelBroken(f"silent for {self._silence_s:g} s") from error
                if not isinstance(message, Push):
                    raise ChannelBroken(f"an unexpected {type(message).__name__}")
                self._apply(message.update)
                self.connected = True
                await connection.send(Acknowledge(self._revision()))


class RemotePublisher:
    """core.admin.Publisher over the bookkeeper's socket: the desk's side."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def publish(self, revision: int, deltas: Sequence[KeyDelta], policy: Policy | None) -> bool:
        """False when the bookkeeper is away or a worker has not acknowledged in time: polling will repair it."""
        try:
            answer = await request(self._path, Publish(revision, tuple(deltas), policy), PUBLISH_TIMEOUT_S)
        except ChannelBroken as error:
            _log.debug("revision %d was not handed to the workers, who will ask for it: %s", revision, error)
            return False
        return isinstance(answer, Published) and answer.acknowledged
