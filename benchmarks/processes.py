"""Processes pinned to a core, and what they used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def server_core() -> int:
    """The core of the server under test."""
    return min(os.sched_getaffinity(0))


def load_core() -> int:
    """The core of load and upstream; the same one on a machine with a single core."""
    return max(os.sched_getaffinity(0))


def spawn(command: list[str], core: int, capture: bool = False) -> subprocess.Popen[str]:
    """A process pinned to one core."""
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdout=subprocess.PIPE if capture else subprocess.DEVNULL,
        text=True,
    )


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_mib(pid: int) -> float:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
