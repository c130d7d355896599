"""The annex as `faregate serve` runs it: a route of kind annex is all it takes. A scripted vendor, a Unix socket."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest
from live.running import Running, running, wait_for

from annex.asking import COMMAND
from annex.killing import verified

pytestmark = pytest.mark.xdist_group("annex")

ROUTES = """\
providers:
  vendor:
    kind: annex
    options:
      api_key: env:VENDOR_KEY
      chunks: '5'
models:
  plain: vendor/script/plain
  secret: vendor/script/secret
  names: vendor/script/environment
"""


def interpreter(folder: Path) -> str:
    """Stands where the interpreter with litellm is configured; what it runs has a scripted vendor."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\nexec {shlex.join(COMMAND)}\n")
    file.chmod(0o755)
    return str(file)


def annex_pid(server: Running) -> int:
    """Of the annex that the supervisor runs, 0 for none."""
    assert server.process is not None
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) if entry.name.isdigit() else 0
            if parent == server.process.pid and b"scripted.py" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    return 0


def answer(server: Running, key: str, model: str = "plain") -> str:
    reply = server.chat(key, model)
    assert reply.status == 200, reply.body
    text: str = reply.json["choices"][0]["message"]["content"]
    return text


def test_a_route_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_KEY", "the-vendors-key-0001")
    monkeypatch.setenv("OTHER_KEY", "another-key-00000001")
    with running(tmp_path, ROUTES, annex_python=interpreter(tmp_path)) as server:
        key = server.new_key("app")
        assert annex_pid(server) == 0, "no call has needed it"
        assert answer(server, key) == "scripted"
        first = annex_pid(server)
        assert answer(server, key, "secret") == "the-vendors-key-0001"
        names = answer(server, key, "names").split("\n")
        assert "VENDOR_KEY" in names
        assert "OTHER_KEY" not in names

        os.kill(first, signal.SIGKILL)
        wait_for("a new annex", lambda: annex_pid(server) not in (0, first))
        wait_for("an answer", lambda: server.chat(key, "plain").status == 200)
        second = annex_pid(server)

        routes = tmp_path / "policies" / "routes.yaml"
        routes.write_text(routes.read_text().replace("plain: vendor/script/plain", "plain: vendor/script/echo"))
        server.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        wait_for("what the new route says", lambda: "messages" in server.chat(key, "plain").body.decode())
        wait_for("the end of the replaced annex", lambda: annex_pid(server) not in (0, second))
        assert "open holds" in verified(server)
        stopped = annex_pid(server)
        assert server.stop() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)


def test_an_annex_that_cannot_start_is_a_503_that_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", "the-vendors-key-0001")
    with running(tmp_path, ROUTES, annex_python="/nonexistent/python") as server:
        key = server.new_key("app")
        reply = server.chat(key, "plain")
        assert reply.status == 503
        assert reply.json["error"].keys() >= {"message", "type", "param", "code"}
        verified(server)
        usage = server.call("GET", "/v1/usage", None, key).json
        assert usage["month"]["cost"]["nano_usd"] == 0
