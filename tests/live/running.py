"""A whole Faregate as users run it: `faregate serve` in its processes, with the simulated provider as upstream."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG_S = 60.0

ROUTES = """\
providers:
  simulated:
    kind: simulated
    base_url: http://127.0.0.1:{port}/v1
  draining:
    kind: simulated
    base_url: http://127.0.0.1:{port}/v1
    on_disconnect: drain
  dead:
    kind: simulated
    base_url: http://127.0.0.1:1/v1
models:
  sim-small: simulated/sim-small
  sim-large: simulated/sim-large
  sim-reasoning: simulated/sim-reasoning
  sim-embed: simulated/sim-embed
  sim-drain: draining/sim-small
  sim-dead: dead/sim-small
  sim-free-of-price: simulated/sim-unlisted
  team/with/slashes: simulated/sim-small
aliases:
  gpt-test: sim-small
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, check: Any, timeout_s: float = HANG_S) -> Any:
    """Polls until `check()` is truthy; a hang guard, not a measure of speed."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server under test and what is needed to talk to it."""

    folder: Path
    port: int
    simulator_port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    simulator: subprocess.Popen[bytes] | None = None
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def witness(self) -> Path:
        return self.folder / "witness.jsonl"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def call(
        self, method: str, path: str, body: Any = None, key: str = "", headers: dict[str, str] | None = None
    ) -> Reply:
        """One plain HTTP request; `body` is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        if key:
            sent["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as reply:
                return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def chat(self, key: str, model: str = "sim-small", headers: dict[str, str] | None = None, **more: Any) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": "Say something."}], **more}
        return self.call("POST", "/v1/chat/completions", body, key, headers)

    def control(self, **settings: Any) -> None:
        """Sets the simulator's defaults for every request."""
        url = f"http://127.0.0.1:{self.simulator_port}/control"
        request = urllib.request.Request(
            url, data=json.dumps(settings).encode(), method="POST", headers={"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=HANG_S).close()

    def faregate(self, *arguments: str, check: bool = True, key: str = "") -> subprocess.CompletedProcess[str]:
        """The command line, locally (it finds the running server's socket) or remotely with `key`."""
        environment = dict(self.environment)
        if key:
            environment |= {"FAREGATE_URL": self.url, "FAREGATE_API_KEY": key}
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"faregate {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def new_key(self, name: str, *options: str) -> str:
        """Creates a key and returns its secret."""
        secret = self.faregate("keys", "create", name, "--quiet", *options).stdout.strip()
        self.keys[name] = secret
        return secret

    def ready(self) -> bool:
        try:
            return self.call("GET", "/readyz").status == 200
        except OSError:
            return False

    def children(self) -> dict[str, int]:
        """Process ids of the supervisor's children, by role."""
        assert self.process is not None
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if int(stat[1]) == self.process.pid and stat[0] != "Z" and b"gateway.roles" in command:
                found[command[command.index(b"gateway.roles") + 1].decode()] = int(entry.name)
        return found

    def kill(self, role: str) -> None:
        os.kill(wait_for(f"a {role}", lambda: self.children().get(role)), signal.SIGKILL)

    @staticmethod
    def kill_pid(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        log = (self.folder / "serve.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", "serve"], env=self.environment, stdout=log, stderr=log
        )
        log.close()
        try:
            wait_for("readiness", lambda: self.ready() or self.process.poll() is not None)  # type: ignore[union-attr]
            assert self.process.poll() is None
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=HANG_S)
        self.process = None
        return code

    def log(self) -> str:
        return (self.folder / "serve.log").read_text(errors="replace")

    def verified(self) -> subprocess.CompletedProcess[str]:
        """`ledger verify` with the witness, once the ledger has caught up with the journal."""
        last = None

        def green() -> bool:
            nonlocal last
            last = self.faregate("ledger", "verify", "--witness", str(self.witness), check=False)
            return last.returncode == 0

        try:
            wait_for("a green `ledger verify`", green, 30.0)
        except AssertionError:
            assert last is not None
            raise AssertionError(f"ledger verify: {last.stdout}\n{last.stderr}\n{self.log()[-4000:]}") from None
        assert last is not None
        return last


def start_simulator(folder: Path, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "simulator.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.simulator", "--port", str(port), "--log", str(folder / "witness.jsonl")],
            env=environment,
            stdout=log,
            stderr=log,
        )

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the simulator", listening)
    return process


@contextmanager
def running(folder: Path, routes: str = ROUTES, **settings: str) -> Iterator[Running]:
    """A started server in `folder`, stopped at the end. `settings` are FAREGATE_* variables without the prefix."""
    simulator_port, port = free_port(), free_port()
    policies = folder / "policies"
    policies.mkdir(parents=True, exist_ok=True)
    (policies / "routes.yaml").write_text(routes.format(port=simulator_port))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")},
        "FAREGATE_DATA_DIR": str(folder / "data"),
        "FAREGATE_CONFIG_DIR": str(policies),
        "FAREGATE_PORT": str(port),
        "FAREGATE_DRAIN_TIMEOUT_S": "20",
        "PYTHONWARNINGS": "default",
        **{f"FAREGATE_{name.upper()}": value for name, value in settings.items()},
    }
    server = Running(folder, port, simulator_port, environment)
    server.simulator = start_simulator(folder, simulator_port, environment)
    try:
        if "database_url" in settings:
            server.faregate("db", "upgrade")
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.terminate()
            try:
                server.process.wait(timeout=HANG_S)
            except subprocess.TimeoutExpired:
                server.process.kill()
        server.simulator.terminate()
        server.simulator.wait(timeout=HANG_S)
