"""What a policy says of a call."""

from __future__ import annotations

from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Allow, deny with a reason, or rewrite the body. `policy` names who said it; recorded with the call."""

    action: Literal["allow", "deny", "rewrite"]
    policy: str
    reason: str = ""
    body: bytes = b""

    def recorded(self) -> str:
        """How SETTLE keeps it: `policy:action`."""
        return f"{self.policy}:{self.action}"
