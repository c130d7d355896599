"""The peppers: secret keys under which key secrets are hashed. A dump of SQL without them holds nothing usable.

`secrets/peppers.json` holds `{"peppers": {"1": "<base64 of at least 32 bytes>"}}`. The highest version hashes new
keys; a lower one stays until the last key under it has been rotated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.caller import PLAIN_SHA256, KeyRecord
from gateway.core.errors import ConfigInvalid
from gateway.core.ports import Entropy
from gateway.vault.keys import Hasher, generate, text_kid
from gateway.vault.secret_file import create_private, read_private

MIN_PEPPER_BYTES = 32


class Minted(NamedTuple):
    """A new secret of a key: its id, the full text to show once, and what is stored of it."""

    key_id: str
    text: str
    version: int
    digest: bytes


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    peppers: dict[int, str]


class Peppers:
    """All pepper versions, as hashers; the peppers themselves are not kept."""

    __slots__ = ("_hashers", "newest")

    def __init__(self, peppers: dict[int, bytes]) -> None:
        """Raises ValueError when there is none, a version is below 1 or a pepper is under 32 bytes."""
        if not peppers or min(peppers) <= PLAIN_SHA256:
            raise ValueError("at least one pepper is needed, and versions count from 1")
        short = [version for version, pepper in peppers.items() if len(pepper) < MIN_PEPPER_BYTES]
        if short:
            raise ValueError(f"pepper {min(short)} has under {MIN_PEPPER_BYTES} bytes")
        self._hashers = {version: Hasher(pepper) for version, pepper in peppers.items()}
        self.newest = max(peppers)

    def __repr__(self) -> str:
        return f"Peppers(versions={sorted(self._hashers)})"

    def hasher(self, version: int) -> Hasher | None:
        return self._hashers.get(version)

    def derived(self, purpose: str) -> list[bytes]:
        """A secret of 32 bytes from each pepper for another purpose, the newest first. No key can hash to one: the text
        that is hashed has characters that no key's secret has."""
        versions = sorted(self._hashers, reverse=True)
        return [self._hashers[version].digest(f"purpose: {purpose}") for version in versions]

    def mint(self, entropy: Entropy, env: str, key_id: str = "") -> Minted:
        """A new key, or another secret of `key_id`, hashed under the newest pepper."""
        made = generate(entropy, env, text_kid(key_id))
        digest = self._hashers[self.newest].digest(made.secret)
        return Minted(key_id or made.kid, made.text, self.newest, digest)

    def unusable(self, keys: Iterable[KeyRecord]) -> dict[int, list[str]]:
        """Pepper versions that keys were hashed under and that are not here, each with its key ids.

        Such keys can never be found again; `doctor` and the start-up check tell the operator which backup to restore.
        """
        missing: dict[int, list[str]] = {}
        for key in keys:
            for version, _, _ in key.hashes:
                if version != PLAIN_SHA256 and version not in self._hashers:
                    missing.setdefault(version, []).append(key.key_id)
        return missing


def load_peppers(path: Path, entropy: Entropy | None = None) -> Peppers:
    """The peppers of a file. With `entropy` a missing file is created with one pepper of 32 bytes (first start).

    Raises ConfigInvalid, with what to do, for a missing, malformed or too open file and a pepper under 32 bytes.
    """
    content = read_private(path)
    if content is None and entropy is not None:
        create_private(path, _first(entropy))
        content = read_private(path)
    if content is None:
        raise ConfigInvalid(f"{path}: is missing, so no key can be recognised. Restore it from a backup of this server")
    return _parse(path, content)


def _first(entropy: Entropy) -> bytes:
    pepper = base64.b64encode(entropy.bytes(MIN_PEPPER_BYTES)).decode("ascii")
    return json.dumps({"peppers": {"1": pepper}}, indent=2).encode("ascii") + b"\n"


def _parse(path: Path, content: bytes) -> Peppers:
    # `from None` throughout: a chained error would print parts of the file into a log.
    try:
        document = msgspec.json.decode(content, type=_Document)
        peppers = {version: base64.b64decode(text, validate=True) for version, text in document.peppers.items()}
    except (msgspec.DecodeError, ValueError):
        raise ConfigInvalid(
            f'{path}: is not {{"peppers": {{"1": "<base64>"}}}}. Restore it from a backup of this server'
        ) from None
    try:
        return Peppers(peppers)
    except ValueError as error:
        raise ConfigInvalid(
            f"{path}: {error}. Add a new version of at least {MIN_PEPPER_BYTES} random bytes "
            "(openssl rand -base64 32) or restore the file"
        ) from None
