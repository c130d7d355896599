"""The spec out of the last-good configuration file, decoded anew only when the file has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway.annex.spec import AnnexSpec
from gateway.core.config import Policy
from gateway.core.errors import ConfigInvalid
from gateway.vault.last_good import read_last_good

LOG = logging.getLogger("faregate.annex")


class FollowedSpec:
    """Reads what the bookkeeper publishes, so that whoever runs an annex needs no connection to it."""

    def __init__(self, file: Path, spec_of_policy: Callable[[Policy], AnnexSpec]) -> None:
        self._file = file
        self._spec_of_policy = spec_of_policy
        self._seen: tuple[int, int, int] | None = None
        self._spec = AnnexSpec()

    async def read(self) -> AnnexSpec:
        """The present spec; empty before the first configuration, the last one while the file cannot be read."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> AnnexSpec:
        try:
            status = self._file.stat()
        except OSError:
            return self._spec
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._seen = seen
            try:
                snapshot = read_last_good(self._file)
            except ConfigInvalid as error:
                LOG.error("the annex keeps what it serves: %s", error.message)
                return self._spec
            if snapshot is not None:
                self._spec = self._spec_of_policy(snapshot.policy)
        return self._spec
