"""What a module of this room exports: a name and how to make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.upstream import Upstream


@dataclass(frozen=True, slots=True)
class UpstreamMember:
    """An HTTP client. `create` takes nothing and needs no running event loop."""

    name: str
    create: Callable[[], Upstream]
