"""The operating system's file calls that can fail on us, as one injected object, and what their errors mean.

Tests give the writer a disk that fails truthfully (loses what was not synced, runs out of space) instead of patching.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

from gateway.core.errors import ConfigInvalid

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room for more bytes, while those already allocated stay writable. Anything else is a failing disk."""

FAILPOINT = "FAREGATE_FAILPOINT"

Pwrite = Callable[[int, bytes, int], int]


_LIBC = ctypes.PyDLL(None, use_errno=True)
_PWRITE = _LIBC.pwrite
_PWRITE.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64)
_PWRITE.restype = ctypes.c_ssize_t


def write_at(fd: int, data: bytes, offset: int) -> int:
    """os.pwrite that keeps the interpreter to itself. Raises OSError as it does.

    A record is in the page cache within 2 µs. os.pwrite lets other threads run meanwhile: the syncing thread then came
    in at just the moment when the log's lock was held, and each round of it cost the path several changes of thread.
    """
    while (written := int(_PWRITE(fd, data, len(data), offset))) < 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return written


class Disk:
    """The real one. Each call is the os function of that name and raises OSError as it does."""

    __slots__ = ()

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)

    pwrite: Pwrite = staticmethod(write_at)  # on the path of every call: no frame of ours around it

    def fallocate(self, fd: int, size: int) -> None:
        os.posix_fallocate(fd, 0, size)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def unlink(self, path: Path) -> None:
        os.unlink(path)


def sync_directory(disk: Disk, directory: Path) -> None:
    """Makes names created, renamed or removed in a directory durable."""
    fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(fd)
    finally:
        disk.close(fd)


def record_pwrite(disk: Disk, failpoint: str) -> Pwrite:
    """The pwrite that records are appended with.

    `failpoint` is `journal:before:N` or `journal:after:N`: this process kills itself (SIGKILL, nothing is flushed or
    closed) before or after its Nth append. Empty: the disk's own pwrite, at no cost. Raises ConfigInvalid.
    """
    if not failpoint:
        return disk.pwrite
    room, _, rest = failpoint.partition(":")
    when, _, count = rest.partition(":")
    if room != "journal" or when not in ("before", "after") or not count.isdigit() or int(count) < 1:
        raise ConfigInvalid(f"{FAILPOINT}={failpoint!r}: must be journal:before:N or journal:after:N, N from 1")
    left = int(count)

    def dying_pwrite(fd: int, data: bytes, offset: int) -> int:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        written = disk.pwrite(fd, data, offset)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    return dying_pwrite
