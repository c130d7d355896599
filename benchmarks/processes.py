"""Processes pinned to a core, and what they used."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A server under test: its port, and the processes whose CPU counts for a call."""

    port: int
    pids: tuple[int, ...]
    key: str = "none"


@dataclass
class Spent:
    """CPU seconds by group of processes, filled in when the block of `spending` ends."""

    cpu_s: dict[str, float] = field(default_factory=dict)


def server_core() -> int:
    """The core of the server under test."""
    return min(os.sched_getaffinity(0))


def load_core() -> int:
    """The core of load and upstream; the same one on a machine with a single core."""
    return max(os.sched_getaffinity(0))


def pinned(command: list[str], core: int) -> list[str]:
    """The command on one core."""
    return ["taskset", "-c", str(core), *command]


def spawn(command: list[str], core: int, capture: bool = False) -> subprocess.Popen[str]:
    """A process pinned to one core."""
    return subprocess.Popen(pinned(command, core), stdout=subprocess.PIPE if capture else subprocess.DEVNULL, text=True)


def pin(pid: int, core: int) -> None:
    """Every thread of a running process to one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def children(pid: int) -> list[int]:
    """Direct children that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, user and system; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_mib(pid: int) -> float:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def spending(groups: Mapping[str, Iterable[int]]) -> Iterator[Spent]:
    """What the groups of processes used while the block ran."""
    pids = {name: tuple(members) for name, members in groups.items()}
    total: Callable[[str], float] = lambda name: sum(cpu_s(pid) for pid in pids[name])  # noqa: E731
    before = {name: total(name) for name in pids}
    spent = Spent()
    try:
        yield spent
    finally:
        spent.cpu_s.update({name: max(total(name) - before[name], 0.0) for name in pids})
