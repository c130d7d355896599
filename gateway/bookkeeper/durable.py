"""Files that are either the old or the new one, whatever happens in between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

UNFINISHED = ".unfinished"


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
