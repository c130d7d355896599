"""`make bench`: this gateway with everything on, and a bare proxy, in one run; one core for each side.

The gateway (or nginx) has one core; the load and an instant upstream have the other. Figures count only if the backlog
drains and `faregate ledger verify` is green afterwards. Writes `docs/benchmarks.md`. Loopback only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from live.running import Running, free_port, wait_for

from benchmarks.figures import Figures
from benchmarks.nginx import bare_proxy
from benchmarks.processes import cpu_s, load_core, rss_mib, server_core, spawn
from benchmarks.report import write_report
from benchmarks.steps import step_costs
from benchmarks.wrk import measure

ROUTES = """\
providers:
  instant:
    kind: simulated
    base_url: http://127.0.0.1:{port}/v1
models:
  bench: instant/sim-small
"""
CONNECTIONS = (1, 32, 256)
SECONDS = 8.0
STREAMS = {"burst": 8.0, "paced": 8.0}


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: make system-deps")
    figures = Figures(machine=_machine())
    with tempfile.TemporaryDirectory(prefix="fgb") as folder:
        upstream_port = free_port()
        upstream = spawn([sys.executable, "-m", "benchmarks.upstream", str(upstream_port)], load_core())
        try:
            wait_for("the upstream", lambda: _open(upstream_port))
            for connections in CONNECTIONS:
                figures.direct[connections] = measure(upstream_port, "none", connections, SECONDS / 2)
            with bare_proxy(Path(folder), upstream_port) as port:
                if port:
                    for connections in CONNECTIONS:
                        figures.proxy[connections] = measure(port, "none", connections, SECONDS)
            _gateway(Path(folder), upstream_port, figures)
        finally:
            upstream.kill()
            upstream.wait()
    figures.steps = step_costs()
    write_report(figures)


def _open(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line),
        "",
    )
    return f"{os.cpu_count()} cores ({model}), Python {sys.version.split()[0]}"


def _gateway(folder: Path, upstream_port: int, figures: Figures) -> None:
    server = _configured(folder, upstream_port)
    begun = time.monotonic()
    server.start()
    figures.start_s = time.monotonic() - begun
    try:
        secret = server.new_key(
            "bench", "--rpm", "100000000", "--budget", "1000000USD/month", "--budget", "900000USD/day"
        )
        figures.worker_ready_s = _restart_worker(server)
        figures.worker_mib = rss_mib(server.children()["worker"])
        _pin(server)
        measure(server.port, secret, 32, 2.0)
        for connections in CONNECTIONS:
            figures.gateway[connections] = measure(server.port, secret, connections, SECONDS)
            figures.backlog_bytes = max(figures.backlog_bytes, int(_status(server)["behind_bytes"]))
            figures.delay_ms = max(figures.delay_ms, int(_status(server)["behind_ms"]))
        for pace, seconds in STREAMS.items():
            figures.streams[pace] = _streams(server, secret, pace, seconds)
        _drain(server, figures)
    finally:
        server.stop()


def _configured(folder: Path, upstream_port: int) -> Running:
    policies = folder / "policies"
    policies.mkdir()
    (policies / "routes.yaml").write_text(ROUTES.format(port=upstream_port))
    port = free_port()
    environment = {
        **os.environ,
        "FAREGATE_DATA_DIR": str(folder / "data"),
        "FAREGATE_CONFIG_DIR": str(policies),
        "FAREGATE_PORT": str(port),
        "FAREGATE_LOG_LEVEL": "warning",
    }
    return Running(folder, port, 0, environment)


def _restart_worker(server: Running) -> float:
    """Seconds from a worker's death to readiness of the next one, adoption of the journal included."""
    pid = server.children()["worker"]
    begun = time.monotonic()
    os.kill(pid, 9)
    wait_for("a new worker", lambda: server.children().get("worker", pid) != pid and server.ready())
    return time.monotonic() - begun


def _pin(server: Running) -> None:
    """The worker has a core of its own; bookkeeper and desk share the other with the load."""
    for role, pid in server.children().items():
        core = server_core() if role == "worker" else load_core()
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def _status(server: Running) -> dict[str, object]:
    status: dict[str, object] = json.loads((server.data_dir / "run" / "bookkeeper.json").read_text())
    return status


def _streams(server: Running, secret: str, pace: str, seconds: float) -> dict[str, float]:
    """Events per second and per CPU-second of the worker."""
    worker = server.children()["worker"]
    before = cpu_s(worker)
    command = ["-m", "benchmarks.streams", str(server.port), secret, "32", str(seconds), pace]
    done = spawn([sys.executable, *command], load_core(), capture=True)
    out, _ = done.communicate(timeout=seconds + 60)
    used = cpu_s(worker) - before
    measured = json.loads(out)
    return {
        "streams_s": measured["streams"] / measured["seconds"],
        "events_s": measured["events"] / measured["seconds"],
        "events_cpu_s": measured["events"] / used,
        "cpu_share": used / measured["seconds"],
    }


def _drain(server: Running, figures: Figures) -> None:
    begun = time.monotonic()
    wait_for("an empty backlog", lambda: int(str(_status(server)["behind_bytes"])) == 0, 600.0)
    figures.drained_s = time.monotonic() - begun
    figures.all_mib = sum(rss_mib(pid) for pid in server.children().values())
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "ledger", "verify", "--json"],
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    figures.calls = int(report["figures"]["calls"])
    figures.verified = "green" if done.returncode == 0 else f"NOT GREEN: {report['problems'][:3]}"


if __name__ == "__main__":
    main()
