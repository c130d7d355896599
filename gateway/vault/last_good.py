"""The last good configuration on disk: with it a worker serves known keys while desk and SQL are away.

The file is a magic, the SHA-256 of the payload and a msgpack Snapshot. It holds keyed hashes and references, no secret.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import msgspec

from gateway.core.config import Snapshot
from gateway.core.errors import ConfigInvalid
from gateway.vault.secret_file import sync_folder

MAGIC = b"FGCONF1\n"
_HEADER_BYTES = len(MAGIC) + 32


def write_last_good(path: Path, snapshot: Snapshot) -> None:
    """Replaces the file in one step; a crash leaves the old one. Blocks for an fsync: never on a worker's event loop.
    Raises OSError."""
    payload = msgspec.msgpack.encode(snapshot)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A draft of its own for each thread: a write that was given up may still be running in its thread.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


def read_last_good(path: Path) -> Snapshot | None:
    """The snapshot, or None when there is no file. Raises ConfigInvalid when it is damaged or of another version: the
    worker then waits for the desk."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read ({error.strerror}). Let faregate's user read it") from error
    payload = content[_HEADER_BYTES:]
    if content[:_HEADER_BYTES] != MAGIC + hashlib.sha256(payload).digest():
        raise ConfigInvalid(f"{path}: is damaged or of another version. Delete it; it is written anew")
    try:
        return msgspec.msgpack.decode(payload, type=Snapshot)
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f"{path}: is of another version ({error}). Delete it; it is written anew") from error
