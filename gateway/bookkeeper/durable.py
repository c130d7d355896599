"""Files that are either the old or the new one, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

UNFINISHED = ".unfinished"
P = ParamSpec("P")
T = TypeVar("T")


class DiskThread:
    """A thread for one's files alone. The event loop has few of its own, and asks name servers in them: while those do
    not answer, alerts and databases that are looked up must not keep a checkpoint from the disk."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`act` in the thread, one after the other. It is begun when it is first needed, also after `close`."""
        pool = self._pool
        if pool is None:
            pool = self._pool = ThreadPoolExecutor(1, self._name)
        return await asyncio.wrap_future(pool.submit(act, *args, **kwargs))

    def close(self) -> None:
        """Waits for what the thread has begun, so that nothing older is written after what comes next, and lets go of
        it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def write_whole(path: Path, data: bytes, keep: Path | None = None) -> None:
    """Replaces `path` by `data`, readable by this user only, on disk when it returns. Raises OSError.

    With `keep` the file that was there stays under that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name of its own: two threads may be at it, and the last rename wins with a whole file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{UNFINISHED}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if keep is not None and path.exists():
        # A link, not a rename: at no moment is there no file at `path`.
        link = keep.with_name(f"{keep.name}.{os.getpid()}.{threading.get_ident()}{UNFINISHED}")
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.rename(link, keep)
    os.rename(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_unfinished(path: Path) -> None:
    """Removes what processes killed while writing `path` have left beside it."""
    for left in path.parent.glob(f"{path.name}*{UNFINISHED}"):
        left.unlink(missing_ok=True)
