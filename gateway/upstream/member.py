"""What a module of this room exports: a name and how to make one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.core.upstream import Upstream
from gateway.upstream.resolving import Resolve, system_resolve


class Create(Protocol):
    """Makes a client. It needs no running event loop; `resolve` turns host names into addresses."""

    def __call__(self, resolve: Resolve = system_resolve) -> Upstream: ...


@dataclass(frozen=True, slots=True)
class UpstreamMember:
    """An HTTP client."""

    name: str
    create: Create
