"""What a process holds, seen from outside: memory, descriptors, threads, connections, and what `/metrics` says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from live.running import Running

from benchmarks.processes import rss_mib

_OPEN_HOLDS = re.compile(r"^faregate_open_holds ([\d.e+]+)$", re.MULTILINE)
_TASKS = re.compile(r"^faregate_tasks ([\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Insides:
    """`upstream` are connections to the simulator; `tasks` and `open_holds` -1: `/metrics` does not tell."""

    rss_mib: float
    fds: int
    threads: int
    upstream: int
    open_holds: int
    tasks: int

    def line(self) -> str:
        tasks = f", {self.tasks} tasks" if self.tasks >= 0 else ""
        return (
            f"{self.rss_mib:.1f} MiB, {self.fds} fds, {self.threads} threads{tasks}, {self.upstream} upstream "
            f"connections, {self.open_holds} open holds"
        )


def insides(server: Running, pid: int, boss: str, peer_port: int = 0) -> Insides:
    """Of the worker `pid`; `boss` is a key that may read metrics. Connections are counted to `peer_port`, the
    simulator's if 0."""
    metrics = server.call("GET", "/metrics", key=boss, headers={"connection": "close"}).body.decode()
    threads = next(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().split("\n") if line[:8] == "Threads:"
    )
    return Insides(
        rss_mib=rss_mib(pid),
        fds=len(os.listdir(f"/proc/{pid}/fd")),
        threads=threads,
        upstream=connections(pid, peer_port or server.simulator_port),
        open_holds=_figure(_OPEN_HOLDS, metrics),
        tasks=_figure(_TASKS, metrics),
    )


def connections(pid: int, port: int) -> int:
    """How many established connections to `port` on loopback the process holds."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    count = 0
    for line in Path(f"/proc/{pid}/net/tcp").read_text().split("\n")[1:]:
        fields = line.split()
        if fields and fields[9] in inodes and fields[3] == "01" and int(fields[2].split(":")[1], 16) == port:
            count += 1
    return count


def _figure(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(float(found.group(1))) if found else -1
