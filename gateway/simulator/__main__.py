"""`python -m gateway.simulator --port N --log FILE`: the simulated provider as a process of its own."""

from __future__ import annotations

import argparse
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.simulator.app import create_simulator
from gateway.simulator.exchange import TRANSPORT

_BACKLOG = 2048


class _Protocol(HttpToolsProtocol):
    """Puts the connection into the scope: a simulated fault breaks it, which ASGI has no word for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]


def _leave(signum: int, frame: FrameType | None) -> None:
    """uvicorn raises the signal again once it has drained; by default that would end the process before the log."""
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Prints its address once it accepts connections."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--log", type=Path, default=None, help="witness log, JSON lines; none without it")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each reply")
    parser.add_argument("--tokens-per-s", type=float, default=0.0, help="0: as fast as it can")
    parser.add_argument("--seed", type=int, default=0, help="another seed writes other texts")
    options = parser.parse_args(arguments)
    app = create_simulator(
        options.log, latency_ms=options.latency_ms, tokens_per_s=options.tokens_per_s, seed=options.seed
    )
    listener = socket.create_server((options.host, options.port), backlog=_BACKLOG)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    print(f"simulator listening on http://{options.host}:{listener.getsockname()[1]}", flush=True)
    signal.signal(signal.SIGTERM, _leave)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.witness.close()


if __name__ == "__main__":
    main()
