"""The operator's files as text: found, read within bounds, and watched. What they mean is `routing`'s to say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from gateway.core.errors import ConfigInvalid
from gateway.settings import bundled

ROUTES_FILE = "routes.yaml"
LIMITS_FILE = "limits.yaml"
PRICES_FILE = "prices.yaml"
ALERTS_FILE = "alerts.yaml"
MAX_POLICY_FILE_BYTES = 4 * 1024 * 1024
RACY_NS = 2_000_000_000
"""A file changed less than this before it was looked at may change again within the same time stamp."""


class PolicyText(NamedTuple):
    path: Path
    text: str


class Seen(NamedTuple):
    """What a file looked like: all zero and empty when it is not there."""

    mtime_ns: int = 0
    size: int = 0
    inode: int = 0
    sha256: str = ""
    settled: bool = True
    """False while an equal time stamp does not prove equal content."""


def load_routes(config_dir: Path) -> PolicyText:
    """The text of `routes.yaml`. Raises ConfigInvalid when it is missing, unreadable, too large or not UTF-8."""
    path = config_dir / ROUTES_FILE
    content = _read(path)
    if content is None:
        raise ConfigInvalid(
            f"{path}: there is no such file. Copy {bundled('policies') / ROUTES_FILE} there and adapt it, or set "
            "FAREGATE_CONFIG_DIR to the folder that has one"
        )
    return _decoded(path, content)


def load_limits(config_dir: Path) -> PolicyText | None:
    """The text of `limits.yaml`, or None: nobody needs one. Raises ConfigInvalid as `load_routes`."""
    return _load(config_dir / LIMITS_FILE)


def load_prices(config_dir: Path) -> PolicyText | None:
    """The text of `prices.yaml`, or None, in the same way."""
    return _load(config_dir / PRICES_FILE)


def _load(path: Path) -> PolicyText | None:
    content = _read(path)
    return None if content is None else _decoded(path, content)


def load_alerts(config_dir: Path) -> PolicyText | None:
    """The text of `alerts.yaml`, or None: nobody needs one. Raises ConfigInvalid as `load_routes`."""
    path = config_dir / ALERTS_FILE
    content = _read(path)
    return None if content is None else _decoded(path, content)


def _decoded(path: Path, content: bytes) -> PolicyText:
    try:
        return PolicyText(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigInvalid(f"{path}:{line}: is not UTF-8. Save the file as UTF-8") from error


def changed(config_dir: Path, before: dict[str, Seen], now_ns: int) -> tuple[set[str], dict[str, Seen]]:
    """Which `*.yaml` files of the folder appeared, vanished or changed content since `before`, and what to pass next
    time. A touched file with the same content is no change. `now_ns` is wall time.

    A file is read only when its time stamp, size or inode differ, or when it was written so recently that an equal
    time stamp proves nothing.
    """
    present: dict[str, Seen] = {}
    for path in sorted(config_dir.glob("*.yaml")):
        seen = _look(path, before.get(path.name), now_ns)
        if seen is not None:
            present[path.name] = seen
    names = {
        name
        for name in before.keys() | present.keys()
        if before.get(name, Seen()).sha256 != present.get(name, Seen()).sha256
    }
    return names, present


def _look(path: Path, before: Seen | None, now_ns: int) -> Seen | None:
    try:
        facts = path.stat()
        mark = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if before is not None and before.settled and before[:3] == mark:
            return before
        content = _read(path)
    except FileNotFoundError:
        return None
    if content is None:
        return None
    settled = now_ns - facts.st_mtime_ns > RACY_NS
    return Seen(*mark, hashlib.sha256(content).hexdigest(), settled)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read ({error.strerror}). Let faregate's user read it") from error
    if len(content) > MAX_POLICY_FILE_BYTES:
        raise ConfigInvalid(f"{path}: is over {MAX_POLICY_FILE_BYTES} bytes. Use wildcards instead of listing models")
    return content
