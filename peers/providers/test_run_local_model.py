"""`make run-local-model` as its user sees it: lines that work when pasted, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from live.running import HANG_S, free_port, wait_for
from stand_ins import LOCAL_MODEL, ROOT

from tools.local_model.__main__ import CHAT_MODEL, EMBED_MODEL, Ports, settle_ports


@dataclass(frozen=True, slots=True)
class Started:
    process: subprocess.Popen[bytes]
    said: str

    @property
    def curls(self) -> list[str]:
        """The printed command lines, each over the two lines that it was printed on."""
        lines = self.said.split("\n")
        return ["\n".join(lines[number : number + 2]) for number, line in enumerate(lines) if line.startswith("curl ")]

    @property
    def key(self) -> str:
        return self.said.partition("application key  ")[2].split()[0]

    @property
    def family(self) -> list[int]:
        """Process ids of the children."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


@contextmanager
def started(data: Path, port: int) -> Iterator[Started]:
    command = [sys.executable, "-m", "tools.local_model", "--python", LOCAL_MODEL / "bin/python"]
    command += ["--data-dir", data, "--port", str(port)]
    log = data.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for("the lines to paste", lambda: process.poll() is not None or "Ctrl-C" in log.read_text())
        assert process.poll() is None, log.read_text()
        yield Started(process, log.read_text())
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=HANG_S)


def pasted(line: str) -> str:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=HANG_S, check=True).stdout


def running(pid: int) -> bool:
    """A process that has ended and waits for its parent's look counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "data"


def test_the_printed_lines_work_when_pasted_and_ctrl_c_leaves_nothing(data: Path) -> None:
    port = free_port()
    with started(data, port) as first:
        chat, embeddings = (pasted(line) for line in first.curls)
        assert chat.startswith("HTTP/1.1 200")
        assert f'"model":"{CHAT_MODEL}"' in chat
        assert "x-faregate-cost-usd: 0" in chat
        assert embeddings.count('"object":"embedding"') == 2
        family = first.family
        assert len(family) == 5, "desk, bookkeeper, worker, two llama.cpp servers"
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(timeout=HANG_S) == 0
        assert not [pid for pid in family if running(pid)]
    with started(data, port) as second:  # the same folder and ports, another secret
        assert pasted(second.curls[0]).startswith("HTTP/1.1 200")
        assert second.key != first.key
        assert pasted(first.curls[0]).startswith("HTTP/1.1 401")


def test_a_model_server_that_dies_is_started_again(data: Path) -> None:
    with started(data, free_port()) as one:
        victim = next(pid for pid in one.family if CHAT_MODEL in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
        os.kill(victim, signal.SIGKILL)
        wait_for("the end of the model server", lambda: not running(victim))
        wait_for("an answer", lambda: pasted(one.curls[0]).startswith("HTTP/1.1 200"))


def test_the_model_ends_with_a_gateway_that_is_killed(data: Path) -> None:
    with started(data, free_port()) as one:
        family = one.family
        one.process.kill()
        wait_for("the end of every child", lambda: not [pid for pid in family if running(pid)])


def test_ports_are_kept_while_they_are_free(tmp_path: Path) -> None:
    routes = tmp_path / "policies/routes.yaml"
    ports = settle_ports(routes)
    assert ports.chat != ports.embed
    assert settle_ports(routes) == ports
    with socket.create_server(("127.0.0.1", ports.chat)):
        others = settle_ports(routes)
    assert others.chat != ports.chat
    assert routes.read_text() == others.routes()
    assert f"{EMBED_MODEL}: llama-embed/{EMBED_MODEL}" in routes.read_text()


def test_an_edited_routes_file_is_written_anew(tmp_path: Path) -> None:
    """The two servers have to be at the addresses that the file names."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(Ports(1, 2).routes() + "# edited\n")
    ports = settle_ports(routes)
    assert routes.read_text() == ports.routes()


def test_without_its_environment_it_says_what_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.local_model", "--python", tmp_path / "none", "--data-dir", tmp_path / "d"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make run-local-model" in done.stderr
