"""The annex's Unix socket: for this user only, kept open by whoever supervises it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from gateway.core.errors import Conflict

BACKLOG = 1024
"""Calls that wait while an annex starts."""


def bind_socket(path: Path) -> socket.socket:
    """A listening socket with mode 0600; one that a dead process left behind is replaced. Raises Conflict."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"Cannot listen on {path}: {error.strerror or error}. Choose another FAREGATE_DATA_DIR; the path of a "
            "socket has at most 107 characters."
        ) from error
    listener.listen(BACKLOG)
    return listener
