"""Faregate with everything on, as the bench starts, watches and checks it.

One key with a request limit and two money budgets, holds, journal, prices, metrics, ledger in SQLite. The worker has a
core of its own; bookkeeper and desk share the other one with load and upstream.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.running import Running, free_port, wait_for

from benchmarks.processes import Served, cpu_s, load_core, pin, rss_mib, server_core
from gateway.cli.client import local_client
from gateway.cli.keys import KEYS
from gateway.settings import read_settings

ROUTES = """\
providers:
  instant:
    kind: simulated
    base_url: http://127.0.0.1:{port}/v1
    connections_max: 8192
models:
  bench: instant/sim-small
"""
DRAIN_WAIT_S = 1200.0
KEY_LIMITS = ("--rpm", "100000000", "--budget", "1000000USD/month", "--budget", "900000USD/day")


@dataclass
class Faregate:
    """A running one."""

    server: Running
    key: str
    start_s: float

    @property
    def worker(self) -> int:
        return self.server.children()["worker"]

    @property
    def beside(self) -> tuple[int, ...]:
        """What shares the load's core."""
        return tuple(pid for role, pid in self.server.children().items() if role != "worker")

    @property
    def status_file(self) -> Path:
        return self.server.data_dir / "run" / "bookkeeper.json"

    def served(self) -> Served:
        return Served(self.server.port, (self.worker,), self.key)

    def status(self) -> dict[str, Any]:
        """The bookkeeper's, as it wrote it last."""
        found: dict[str, Any] = json.loads(self.status_file.read_text())
        return found

    def pin(self) -> None:
        for role, pid in self.server.children().items():
            pin(pid, server_core() if role == "worker" else load_core())

    def role_cpu_s(self, role: str) -> float:
        return cpu_s(self.server.children()[role])

    def memory_mib(self) -> dict[str, float]:
        return {role: rss_mib(pid) for role, pid in self.server.children().items()}

    def add_keys(self, count: int) -> None:
        """Keys nobody uses, with limits as ours."""
        client = local_client(read_settings(self.server.environment))
        try:
            for number in range(count):
                budget = ["1000000USD/month", "900000USD/day"]
                client.send("POST", KEYS, body={"name": f"k{number}", "rpm": 1000, "budget": budget})
        finally:
            client.close()

    def restart_worker(self) -> float:
        """Seconds from a worker's death to readiness of the next one, adoption of the journal included."""
        pid = self.worker
        begun = time.monotonic()
        os.kill(pid, 9)
        wait_for("a new worker", lambda: self.server.children().get("worker", pid) != pid and self.server.ready())
        took = time.monotonic() - begun
        self.pin()
        return took

    def drain(self) -> float:
        """Seconds until all is in SQL."""
        begun = time.monotonic()
        asked_ms = time.time() * 1000
        wait_for("an empty backlog", lambda: self._drained(asked_ms), DRAIN_WAIT_S)
        return time.monotonic() - begun

    def _drained(self, asked_ms: float) -> bool:
        status = self.status()
        return int(status["behind_bytes"]) == 0 and float(status["ts_ms"]) > asked_ms

    def verify(self) -> dict[str, Any]:
        """Drains and compares journals, checkpoint and SQL. Figures count only when it is green."""
        self.drain()
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", "ledger", "verify", "--json"],
            env=self.server.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            report = json.loads(done.stdout)
        except ValueError:
            return {"calls": 0, "verified": f"NOT GREEN: {(done.stdout + done.stderr)[-300:]}"}
        verified = "green" if done.returncode == 0 else f"NOT GREEN: {report['problems'][:3]}"
        return {"calls": int(report["figures"]["calls"]), "verified": verified}


@contextmanager
def faregate(folder: Path, upstream_port: int) -> Iterator[Faregate]:
    """Started, with its key, pinned; stopped at the end."""
    policies = folder / "policies"
    policies.mkdir()
    (policies / "routes.yaml").write_text(ROUTES.format(port=upstream_port))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")},
        "FAREGATE_DATA_DIR": str(folder / "data"),
        "FAREGATE_CONFIG_DIR": str(policies),
        "FAREGATE_PORT": str(free_port()),
        "FAREGATE_LOG_LEVEL": "warning",
    }
    server = Running(folder, int(environment["FAREGATE_PORT"]), 0, environment)
    begun = time.monotonic()
    try:
        server.start()
        start_s = time.monotonic() - begun
        made = Faregate(server, server.new_key("bench", *KEY_LIMITS), start_s)
        made.pin()
        wait_for("the bookkeeper's first status", made.status_file.exists)
        yield made
    finally:
        if server.process is not None:
            server.process.terminate()
            try:
                server.process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
