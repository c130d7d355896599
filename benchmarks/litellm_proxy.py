"""LiteLLM's proxy in an environment of its own, one worker on one core: bare, and as its production guide says.

With a database it needs Prisma's query engine, a binary that Prisma downloads when its client is generated. A mirror
can be named with PRISMA_ENGINES_MIRROR, an engine that is there already with PRISMA_QUERY_ENGINE_BINARY.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.database import postgres
from live.running import free_port, wait_for

from benchmarks.processes import Served, children, load_core, pin, pinned, server_core

PEERS = Path(__file__).resolve().parent.parent / ".peers"
ENVIRONMENTS = ("litellm-bench", "litellm")
READY_WAIT_S = 300.0
GENERATE_WAIT_S = 300.0
_CODE = re.compile(r"\bE[A-Z]{4,}\b")
_ADDRESS = re.compile(r"https?://\S+")
_CONFIG = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/sim-small
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
litellm_settings: {{request_timeout: 600, set_verbose: false, json_logs: true}}
general_settings: {general}
"""
_PRODUCTION = {
    "proxy_batch_write_at": 60,
    "database_connection_pool_limit": 10,
    "disable_error_logs": True,
    "allow_requests_on_db_unavailable": True,
}


class Unavailable(Exception):
    """It cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Proxy:
    """A running one. `others` are its helper processes, which have the load's core."""

    served: Served
    others: tuple[int, ...]
    ready_s: float


def environment_of() -> Path:
    """The folder of the first environment that is installed. Raises Unavailable."""
    for name in ENVIRONMENTS:
        if (PEERS / name / "bin" / "litellm").exists():
            return PEERS / name
    raise Unavailable("LiteLLM is not installed: `make bench-peers`")


def version() -> str:
    """LiteLLM's. Raises Unavailable."""
    command = [str(environment_of() / "bin" / "python"), "-c", "from importlib.metadata import version as v"]
    command[-1] += "; print(v('litellm'))"
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@contextmanager
def bare(folder: Path, upstream_port: int) -> Iterator[Proxy]:
    """No database: the master key is the only key, nothing is limited or recorded. Raises Unavailable."""
    home = environment_of()
    with _proxy(home, folder, _CONFIG.format(port=upstream_port, general="{}"), {}) as (served, ready_s):
        yield Proxy(served, (), ready_s)


@contextmanager
def with_database(folder: Path, upstream_port: int) -> Iterator[Proxy]:
    """PostgreSQL, a virtual key with a budget and a request limit, spend written every 60 s. Raises Unavailable."""
    home = environment_of()
    _generate(home)
    with postgres() as database:
        url = f"postgresql://postgres@localhost/postgres?host={database.folder}"
        config = _CONFIG.format(port=upstream_port, general=json.dumps(_PRODUCTION))
        extra = {"DATABASE_URL": url, "LITELLM_SALT_KEY": f"sk-{secrets.token_hex(16)}"}
        with _proxy(home, folder, config, extra) as (served, ready_s):
            engines = tuple(children(served.pids[0]))
            for pid in engines:
                pin(pid, load_core())
            key = _virtual_key(served)
            yield Proxy(Served(served.port, served.pids, key), engines, ready_s)


def _generate(home: Path) -> None:
    """Prisma's Python client, and with it the query engine. Does nothing when it was generated before."""
    site = next((home / "lib").glob("python3*")) / "site-packages"
    if not (site / "prisma").is_dir():
        raise Unavailable("this LiteLLM environment has no Prisma client: `make bench-peers`")
    if (site / "prisma" / "client.py").exists():
        return
    schema = site / "litellm_proxy_extras" / "schema.prisma"
    environment = {**os.environ, "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    command = [str(home / "bin" / "prisma"), "generate", "--schema", str(schema)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=GENERATE_WAIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"`prisma generate` did not end within {GENERATE_WAIT_S:.0f} s") from error
    if done.returncode:
        raise Unavailable(f"`prisma generate` failed: {_said(done.stdout + done.stderr)}")


def _said(text: str) -> str:
    """Its first error without addresses."""
    line = next((line for line in text.split("\n") if "rror" in line), "it does not say why").strip()
    if "query-engine" in line and (code := _CODE.search(line)) is not None:
        return f"Prisma's query engine could not be downloaded ({code.group()})"
    return _ADDRESS.sub("…", line)


@contextmanager
def _proxy(home: Path, folder: Path, config: str, extra: dict[str, str]) -> Iterator[tuple[Served, float]]:
    (folder / "config.yaml").write_text(config)
    port, master = free_port(), f"sk-{secrets.token_hex(24)}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("FAREGATE_", "PYTHONPATH"))},
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "LITELLM_MASTER_KEY": master,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **extra,
    }
    command = [str(home / "bin" / "litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    log_path = folder / "litellm.log"
    begun = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            pinned(command, server_core()),
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for("LiteLLM", lambda: process.poll() is not None or _ready(port), READY_WAIT_S)
        if process.poll() is not None:
            raise Unavailable(f"LiteLLM ended at start: {log_path.read_text(errors='replace')[-400:]}")
        yield Served(port, (process.pid,), master), time.monotonic() - begun
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With everything it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/readiness", timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _virtual_key(served: Served) -> str:
    wanted = {"models": ["bench"], "max_budget": 1_000_000, "budget_duration": "30d", "rpm_limit": 100_000_000}
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.port}/key/generate",
        data=json.dumps(wanted).encode(),
        headers={"authorization": f"Bearer {served.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        made: dict[str, Any] = json.load(reply)
    return str(made["key"])
