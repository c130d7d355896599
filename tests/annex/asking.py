"""Asks an annex over its Unix socket or a port, and starts a scripted one."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.running import wait_for

from gateway.annex.spec import AnnexSpec, ServedProvider, write_spec

HANG_S = 30.0
COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("scripted.py")))
"""An annex whose vendor is a script."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("annex", timeout=HANG_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(HANG_S)
        self.sock.connect(self._path)


def _listens(path: Path) -> bool:
    """A socket's file is there a moment before anybody listens on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data events; `[DONE]` as that text."""
        parts = [part.removeprefix(b"data: ") for part in self.body.split(b"\n\n") if part]
        return ["[DONE]" if part == b"[DONE]" else json.loads(part) for part in parts]


def ask(path: Path, method: str, target: str, body: Any = None) -> Said:
    """One request. Raises http.client.HTTPException or OSError where the connection ends without a whole reply."""
    connection = _UnixConnection(str(path))
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"content-type": "application/json"})
        reply = connection.getresponse()
        return Said(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def chat(path: Path, model: str, **more: Any) -> Said:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    return ask(path, "POST", "/p/v1/chat/completions", body)


def spec(**options: str) -> AnnexSpec:
    """One provider `p` that serves every scripted model."""
    return AnnexSpec((ServedProvider("p", ("script/*",), tuple(sorted(options.items()))),))


@contextmanager
def scripted(folder: Path, served: AnnexSpec, **environment: str) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A scripted annex on a socket in `folder`, started by hand as docs/annex.md shows."""
    path = folder / "annex.sock"
    with (folder / "annex.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "--socket", str(path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ.get("PATH", ""), **environment},
        )
    assert process.stdin is not None
    process.stdin.write(write_spec(served))
    process.stdin.close()
    try:
        wait_for("the annex's socket", lambda: _listens(path) or process.poll() is not None)
        yield path, process
    finally:
        process.kill()
        process.wait()
