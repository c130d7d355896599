"""What follows a committed write: this desk's own keys and the workers learn of it."""

from __future__ import annotations

import logging

from gateway.core.errors import StoreUnavailable
from gateway.desk.parts import DeskParts

_LOG = logging.getLogger("faregate.desk")


async def publish(parts: DeskParts, revision: int) -> bool:
    """Hands what was committed at `revision` to the workers; True when all have acknowledged it.

    Never raises for a write that is committed: what cannot be handed over now, the workers' polling repairs.
    """
    try:
        newest, deltas, policy = await parts.config.changes_since(revision - 1)
    except StoreUnavailable as error:
        _LOG.warning("revision %d is committed, but could not be read back to publish it: %s", revision, error.message)
        return False
    parts.keys.apply(deltas, parts.clock.now_ms())
    return await parts.publisher.publish(newest, deltas, policy)
