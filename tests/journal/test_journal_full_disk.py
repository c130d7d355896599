"""Really full: a small tmpfs filled to the last byte, and a real limit on file sizes. In a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROCESS = Path(__file__).with_name("journal_process.py")


def run(command: list[str]) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(result: dict[str, object]) -> None:
    assert "the usage log takes no new calls" in str(result.pop("refused"))
    assert int(str(result.pop("admitted"))) > 0
    assert result == {
        "ready_when_full": False,
        "reserve_used": True,
        "seen_when_full": True,
        "recovered": True,
        "followed": True,
        "read": True,
        "damage": 0,
    }


def in_a_small_tmpfs(folder: Path) -> list[str] | None:
    """The prefix of a command that runs with a tmpfs of 1 MiB mounted on `folder`, or None where nobody may mount."""
    mount = f"mount -t tmpfs -o size=1m none '{folder}' && exec \"$@\""
    for unshare in (["unshare", "-m"], ["unshare", "-Urm"]):
        prefix = [*unshare, "sh", "-c", mount, "sh"]
        try:
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return prefix
        except FileNotFoundError:
            continue
    return None


def test_a_limit_on_file_sizes(tmp_path) -> None:
    check(run([sys.executable, str(PROCESS), str(tmp_path), "limited"]))


def test_a_full_file_system(tmp_path) -> None:
    """Where mounting is forbidden the limit on file sizes stands in: it fails the same calls for real."""
    prefix = in_a_small_tmpfs(tmp_path)
    mode = "full" if prefix is not None else "limited"
    check(run([*(prefix or []), sys.executable, str(PROCESS), str(tmp_path), mode]))
