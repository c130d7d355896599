"""The cache that remembers nothing: every call goes on to plan. The exact cache joins as another member."""

from __future__ import annotations

from gateway.core.caller import Caller
from gateway.core.ports import Composed


class Nothing:
    """core.ports.Recall without a store."""

    __slots__ = ()
    name = "nothing"

    async def find(self, caller: Caller, composed: Composed) -> bytes | None:
        return None


MEMBER = Nothing()
