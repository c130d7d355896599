"""The annex as a process: reads its spec, opens or inherits its socket, and serves until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.annex.app import AnnexApp
from gateway.annex.engine import Engine
from gateway.annex.exchange import TRANSPORT
from gateway.annex.sockets import bind_socket
from gateway.annex.spec import AnnexSpec, read_spec
from gateway.system import LISTEN_FD_VARIABLE, end_with_parent, inherited_listener, say_ready

DRAIN_S = 600
"""Streams may end; the parent kills sooner if it wants to."""
KEEP_ALIVE_S = 75
NICE = 5
"""Below the workers: on a busy machine the calls that need no annex stay fast."""
SPEC_BYTES_MAX = 4 * 1024 * 1024
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

MakeEngine = Callable[[AnnexSpec, Mapping[str, str]], Engine]


class _Protocol(HttpToolsProtocol):
    """Puts the connection into the scope, so that a call in doubt can break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]


def _leave(signum: int, frame: FrameType | None) -> None:
    """uvicorn raises the signal again once it has drained: an orderly end is exit code 0."""
    raise SystemExit(0)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say_ready()


def run(make_engine: MakeEngine, arguments: Sequence[str] | None = None) -> int:
    """Serves the spec on standard input until SIGTERM; SIGHUP has credential files read again. The exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m gateway.annex")
    parser.add_argument("--socket", type=Path, default=None, help="the Unix socket to listen on; else an inherited one")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format=_FORMAT)
    for chatty in ("LiteLLM", "httpx", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    inherited = LISTEN_FD_VARIABLE in os.environ
    if options.socket is None and not inherited:
        parser.error("--socket is needed")
    if inherited:
        end_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold credentials
    os.nice(NICE)
    try:
        spec = read_spec(sys.stdin.buffer.read(SPEC_BYTES_MAX))
    except msgspec.DecodeError as error:
        print(f"faregate annex: standard input holds no spec: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    listener = inherited_listener() if inherited else bind_socket(options.socket)
    uvloop.run(_serve(spec, make_engine(spec, os.environ), listener))
    return 0


async def _serve(spec: AnnexSpec, engine: Engine, listener: socket.socket) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, engine.reload)
    config = uvicorn.Config(
        AnnexApp(spec, engine),
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    await _Server(config).serve(sockets=[listener])
