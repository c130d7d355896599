"""Provider credentials: references in configuration, secrets only here and in the request that is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hmac import compare_digest
from pathlib import Path
from typing import NoReturn

from gateway.core.errors import ConfigInvalid

MAX_CREDENTIAL_BYTES = 16 * 1024


class Secret:
    """A secret that does not print: `repr`, `str`, `format`, pickling and `json.dumps(default=str)` give `***`.

    It is no subclass of str, so no encoder takes it for one. `reveal` is the only way to its text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, ("***",)


class Credentials:
    """Resolves `env:NAME` and `file:/path` at first use and keeps the result until `reload`.

    A reference that cannot be resolved is an error of that use alone, and is tried again at the next one: a missing
    credential of one provider does not stop the others.
    """

    __slots__ = ("_environment", "_known")

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: dict[str, Secret] = {}

    def resolve(self, reference: str) -> Secret:
        """The secret behind a reference; empty for an empty one. Raises ConfigInvalid that names the reference, never
        any of the secret, and says what to do."""
        known = self._known.get(reference)
        if known is None:
            known = self._known[reference] = Secret(self._read(reference))
        return known

    def reload(self) -> None:
        """Forgets what was read: files are read again at their next use."""
        self._known.clear()

    def _read(self, reference: str) -> str:
        scheme, _, place = reference.partition(":")
        if not reference:
            return ""
        if scheme == "env" and place:
            text = self._environment.get(place)
            if text is None:
                raise ConfigInvalid(
                    f"credential {reference}: the environment variable {place} is not set. "
                    "Set it for faregate and restart, or change the reference in routes.yaml"
                )
        elif scheme == "file" and place.startswith("/"):
            text = _read_file(reference, Path(place))
        else:
            raise ConfigInvalid("a credential is no reference. In routes.yaml write env:NAME or file:/absolute/path")
        return _checked(reference, text.strip())


def _read_file(reference: str, path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            content = os.read(descriptor, MAX_CREDENTIAL_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigInvalid(
            f"credential {reference}: the file cannot be read ({error.strerror}). "
            "Create it, readable for faregate's user, with the key as its only content"
        ) from error
    if len(content) > MAX_CREDENTIAL_BYTES:
        raise ConfigInvalid(f"credential {reference}: the file is over {MAX_CREDENTIAL_BYTES} bytes and no credential")
    return content.decode("utf-8", "replace")


def _checked(reference: str, text: str) -> str:
    if not text:
        raise ConfigInvalid(f"credential {reference}: is empty. Put the provider's key there")
    if not text.isascii() or not text.isprintable():
        # It goes into a header: a line break in it would be another header.
        _refuse(reference)
    return text


def _refuse(reference: str) -> NoReturn:
    raise ConfigInvalid(
        f"credential {reference}: holds characters that no key has (a line break, or not ASCII). "
        "It must be the provider's key and nothing else"
    )
