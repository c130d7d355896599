"""Files that hold secrets: created once with 0600, refused when anyone else could read or replace them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from gateway.core.errors import ConfigInvalid

MAX_SECRET_FILE_BYTES = 64 * 1024


def read_private(path: Path) -> bytes | None:
    """The content of a secrets file, or None when it does not exist.

    Raises ConfigInvalid when it is not a regular file, is too large, cannot be read, or is open to group or others;
    the message says what to do. The checks are made on the opened file, so it cannot be swapped between them.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read ({error.strerror}). Let faregate's user read it") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigInvalid(f"{path}: is not a regular file. Remove it, or restore it from a backup")
        if facts.st_mode & 0o077:
            mode = stat.S_IMODE(facts.st_mode)
            raise ConfigInvalid(
                f"{path}: holds secrets but group or others may use it (mode {mode:04o}). Run: chmod 600 {path}"
            )
        content = os.read(descriptor, MAX_SECRET_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise ConfigInvalid(f"{path}: is over {MAX_SECRET_FILE_BYTES} bytes and no secrets file of faregate's")
    return content


def create_private(path: Path, content: bytes) -> None:
    """Writes a new secrets file, whole and synced, or leaves an existing one alone: of two first starts one wins.

    The folder is created with 0700. Raises ConfigInvalid when it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
        os.unlink(draft)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigInvalid(
            f"{path}: cannot be written ({error.strerror}). Let faregate's user write to {path.parent}"
        ) from error


def sync_folder(folder: Path) -> None:
    """Forces a folder's entries to disk, so that a file just created or renamed survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
