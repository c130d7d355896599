"""uvicorn as our processes run it: no access log, and signals handled here so that our own clean-up still runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from gateway.api.exchange import AsgiApp
from gateway.channel.server import UnixListener

KEEP_ALIVE_S = 75
BACKLOG = 256
SAME_S = 1.0
"""Within this time, requests to stop are one request."""


class StopRequests:
    """Tells a second request to stop from the first one that comes twice: a service manager may signal every process
    beside its supervisor, and the kernel signals a child once for each thread of a parent that dies."""

    def __init__(self) -> None:
        self._first_s: float | None = None

    def again(self) -> bool:
        """Whether this request is another one than the first."""
        now_s = asyncio.get_running_loop().time()
        if self._first_s is None:
            self._first_s = now_s
        return now_s - self._first_s > SAME_S


class Server(uvicorn.Server):
    """Begins to drain at the first SIGTERM or SIGINT; a second one ends what is still running at once."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._requests = StopRequests()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's, which raises the signal again afterwards and so skips every clean-up of ours."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self._requests.again():
            self.force_exit = True
        self.should_exit = True
        self._on_stop()


def _nothing() -> None:
    return


async def serve_unix(app: AsgiApp, path: Path, *, drain_s: float, on_start: Callable[[], None] = _nothing) -> None:
    """Serves at `path`, in the place of whoever did before, until SIGTERM; running calls finish within `drain_s`."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(drain_s)),
    )
    listener = UnixListener(path, BACKLOG)

    def listening() -> None:
        listener.take(path)
        on_start()

    try:
        await Server(config, listening, _nothing).serve(sockets=[listener.socket])
    finally:
        listener.remove()
