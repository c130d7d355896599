"""A desk on fakes behind real sockets, and the command line pointed at it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn
from desk.world import World, make_world

from gateway.cli import main


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@contextlib.contextmanager
def serving(world: World, **where: object) -> Iterator[uvicorn.Server]:
    """The world's desk under uvicorn in a thread, on `host`/`port` or on a Unix socket `uds`."""
    server = uvicorn.Server(uvicorn.Config(world.app(), log_level="error", lifespan="off", **where))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the desk did not start"
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def world() -> World:
    return asyncio.run(make_world())


@pytest.fixture
def faregate(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main.run(list(arguments))
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture
def remote(world: World, faregate: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command line with FAREGATE_URL and an admin key."""
    with serving(world, host="127.0.0.1", port=0) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        monkeypatch.setenv("FAREGATE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("FAREGATE_API_KEY", world.secrets["admin"])
        yield faregate


@pytest.fixture
def local(tmp_path: Path, faregate: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line on an empty data folder, nobody serving."""
    for name in [name for name in os.environ if name.startswith("FAREGATE_")]:
        monkeypatch.delenv(name)
    policies = tmp_path / "policies"
    policies.mkdir()
    monkeypatch.setenv("FAREGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FAREGATE_CONFIG_DIR", str(policies))
    return faregate
