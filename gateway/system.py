"""The machine: its clock and chance behind core's ports, and what a child process says to its supervisor."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys
import time

from gateway.core.errors import Conflict
from gateway.settings import Settings

READY_FD_VARIABLE = "FAREGATE_READY_FD"
"""The pipe on which a child tells its supervisor that it serves."""
LISTEN_FD_VARIABLE = "FAREGATE_LISTEN_FD"
"""The supervisor's listening socket, as the worker inherits it."""
PREPARED, READY = b"p", b"1"
"""What a child writes there: all is loaded and it waits for its forerunner; it serves."""
_PR_SET_PDEATHSIG = 1


def say_prepared() -> None:
    """Called by a child that has loaded all it needs; without a supervisor it does nothing."""
    text = os.environ.get(READY_FD_VARIABLE, "")
    if text.isdigit():
        os.write(int(text), PREPARED)


def say_ready() -> None:
    """Called by a child once it serves; without a supervisor it does nothing."""
    text = os.environ.pop(READY_FD_VARIABLE, "")
    if text.isdigit():
        os.write(int(text), READY)
        os.close(int(text))


def inherited_listener() -> socket.socket:
    """The supervisor's listening socket. Raises KeyError in a process that was not started by one."""
    return socket.socket(fileno=int(os.environ[LISTEN_FD_VARIABLE]))


def end_with_parent() -> None:
    """Asks the kernel for SIGTERM when the supervisor is gone, so that no orphan holds a socket or a lock (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class SystemClock:
    """Wall and monotonic time of this machine."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_ns = staticmethod(time.monotonic_ns)


class SystemEntropy:
    """`os.urandom`, drawn in blocks: a system call for each id would cost more than the id."""

    __slots__ = ("_block", "_used")
    _BLOCK_BYTES = 4096

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def bytes(self, count: int) -> bytes:
        used = self._used
        if used + count > len(self._block):
            self._block = os.urandom(max(self._BLOCK_BYTES, count))
            used = 0
        self._used = used + count
        return self._block[used : used + count]


def lock_data_folder(settings: Settings) -> int:
    """The descriptor whose flock says that a server owns the data folder. Raises Conflict when one does already."""
    for folder in (settings.data_dir, settings.run_dir, settings.journal_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(settings.run_dir / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Conflict(
            f"Another Faregate server owns the data folder {settings.data_dir}. Stop it, or set FAREGATE_DATA_DIR."
        ) from error
    return lock
