"""Asking a running server's supervisor for a restart, and looking at its processes."""

from __future__ import annotations

from pathlib import Path

from live.running import HANG_S, Running

from gateway.channel.client import request
from gateway.channel.messages import Restart, Restarted


async def restart(server: Running) -> Restarted:
    """`faregate restart`, without the command line around it."""
    answer = await request(server.data_dir / "run" / "supervisor.sock", Restart(), HANG_S * 2)
    assert isinstance(answer, Restarted)
    return answer


def pids(server: Running, role: str) -> set[int]:
    """All of a role's processes, also those that have been replaced and end their work."""
    assert server.process is not None
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if int(stat[1]) == server.process.pid and stat[0] != "Z" and command[-2:-1] == [role.encode()]:
            found.add(int(entry.name))
    return found
