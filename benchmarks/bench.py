"""What all parts share: folder, upstream, lengths, and one measured load as a row of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.running import free_port, wait_for

from benchmarks.processes import Served, listening, load_core, server_core, spawn, spending
from benchmarks.wrk import BODY, Measured, measure

CONNECTIONS = (1, 32, 256)
BODIES_KIB = (1, 16, 256)
STANDARD_S = 8.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A run. `seconds` is the length of one usual load; longer ones are multiples of it."""

    folder: Path
    upstream: Served
    seconds: float

    def new_folder(self, name: str) -> Path:
        """A folder that no other part uses; its path is short, for Unix sockets lie in it."""
        made = self.folder / f"{name}{len(list(self.folder.iterdir()))}"
        made.mkdir()
        return made

    def row(
        self,
        name: str,
        served: Served,
        connections: int,
        seconds: float,
        body: str = BODY,
        beside: tuple[int, ...] = (),
    ) -> Row:
        """One load against a server. `beside` are processes that share the load's core for the server's sake."""
        groups = {"server": served.pids, "upstream": self.upstream.pids, "beside": beside}
        with spending(groups) as spent:
            found = measure(served.port, served.key, connections, seconds, body)
        return as_row(name, connections, found, spent.cpu_s, served.pids == self.upstream.pids)


def as_row(name: str, connections: int, found: Measured, cpu: dict[str, float], direct: bool = False) -> Row:
    """The figures of one load. `core` and `load_core` are the shares of the two cores that were used."""
    load_cpu_s = found.client_cpu_s + cpu["upstream"] + cpu["beside"]
    return {
        "server": name,
        "connections": connections,
        "requests_s": found.requests_s,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "errors": found.errors,
        "cpu_us": cpu["server"] * 1e6 / max(found.requests, 1),
        "core": 0.0 if direct else cpu["server"] / found.seconds,
        "load_core": load_cpu_s / found.seconds,
    }


@contextmanager
def instant_upstream() -> Iterator[Served]:
    """The upstream on the load's core, stopped at the end."""
    port = free_port()
    process = spawn([sys.executable, "-m", "benchmarks.upstream", str(port)], load_core())
    try:
        wait_for("the upstream", lambda: listening(port))
        yield Served(port, (process.pid,))
    finally:
        process.kill()
        process.wait()


@contextmanager
def bare_hop(upstream_port: int) -> Iterator[Served]:
    """Our own server protocol and client without the path, on the server's core, stopped at the end."""
    port = free_port()
    process = spawn([sys.executable, "-m", "benchmarks.hop", str(port), str(upstream_port)], server_core())
    try:
        wait_for("the bare hop", lambda: listening(port))
        yield Served(port, (process.pid,))
    finally:
        process.kill()
        process.wait()
