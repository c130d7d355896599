"""Servers of somebody else, each as its own process: nginx, Node and Granian. `make test-peers` installs Granian; nginx
and node have to be there (`make system-deps`). Not part of `make test`."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from gateway.core.upstream import Upstream
from gateway.upstream.discover import discover

HERE = Path(__file__).resolve().parent
GRANIAN = ROOT / ".peers" / "granian" / "bin"
UP_WITHIN_S = 20.0
MEMBERS = discover()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    client: Upstream = request.param.create()
    yield client
    await client.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed: see `make system-deps`"
    return found


def run(command: list[str], port: int, log: Path) -> Iterator[int]:
    """The port, once somebody answers there; the process is ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT / "tests")
    try:
        until = time.monotonic() + UP_WITHIN_S
        while not answers(port):
            assert process.poll() is None, f"{command[0]} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < until, f"{command[0]} does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=UP_WITHIN_S)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    log = tmp_path_factory.mktemp("node") / "log"
    yield from run([program("node"), str(HERE / "server.mjs"), str(port)], port, log)


@pytest.fixture(scope="session")
def granian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    log = tmp_path_factory.mktemp("granian") / "log"
    assert GRANIAN.exists(), "Granian is not installed: run `make test-peers`"
    command = [str(GRANIAN / "granian"), "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--http", "1", "--http1-keep-alive", "--no-ws", "upstream.peer_app:app"]
    yield from run(command, port, log)


@pytest.fixture(scope="session")
def nginx(node: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """In front of Node. Its port; `nginx.conf` says what the paths before Node's do."""
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    text = (HERE / "nginx.conf").read_text()
    for name, value in {"FOLDER": str(folder), "PORT": str(port), "NODE": str(node)}.items():
        text = text.replace(f"@{name}@", value)
    (folder / "nginx.conf").write_text(text)
    yield from run([program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)], port, folder / "log")
