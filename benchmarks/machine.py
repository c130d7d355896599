"""What the figures were made on, and whether the machine is quiet enough to make any."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

QUIET_LOAD = 0.7


def load_average() -> float:
    """The last minute's."""
    return os.getloadavg()[0]


def too_busy() -> str:
    """Why nothing should be measured now; empty when the machine is quiet."""
    load = load_average()
    if load <= QUIET_LOAD:
        return ""
    return f"the load average is {load:.2f}, more than {QUIET_LOAD}: wait, or measure all the same with --busy"


def facts(folder: Path) -> dict[str, str]:
    """Machine, Python build and the file system of the journals."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    optimised = "--enable-optimizations" in arguments
    lto = "--with-lto" in arguments
    build = f"{'optimised (PGO)' if optimised else 'NOT optimised (no PGO)'}, {'LTO' if lto else 'no LTO'}"
    if os.path.realpath(sys.executable).startswith("/usr/bin/"):
        build = "the distribution's build"
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "memory_gib": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}",
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}, {build}",
        "journal_on": _file_system(folder),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().split("\n")
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def _file_system(folder: Path) -> str:
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
