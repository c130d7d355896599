"""The port towards providers: where a request goes, the request, and the reply whose head has arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec


class Endpoint(msgspec.Struct, frozen=True, weakref=True):
    """Where a request goes and how that is connected to. Times are seconds.

    Made once per provider and path and used for many requests: a client may prepare what it needs for the very object
    (compared by identity) and use that again. `headers` go with every request, a credential among them; `pool` names
    the provider whose connections may be used, at most `connections_max` at a time. `networks` are the addresses
    that may be connected to besides public ones: `loopback`, `private`, or a CIDR. `ca_bundle` is a PEM file that
    replaces the system's trust, `client_certificate` a PEM file with certificate and key. `proxy` is an http:// URL.
    """

    pool: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    connect_timeout_s: float = 5.0
    timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    keepalive_s: float = 15.0
    connections_max: int = 1000
    ca_bundle: str = ""
    client_certificate: str = ""
    proxy: str = ""
    unix_socket: str = ""
    networks: tuple[str, ...] = ()


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request to an endpoint: the headers that are its own, and its body. `timeout_s` is what is left for it when
    that is less than the endpoint's (0: the endpoint's)."""

    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    timeout_s: float = 0.0


class UpstreamReply(Protocol):
    """A reply whose head has arrived. Exactly one of `read` and `chunks` is used; `abort` may come at any time."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case names; of repeated headers the last."""
        ...

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All of them in their order, repeated ones too (`set-cookie`), with lower-case names."""
        ...

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises UpstreamLost, UpstreamTimeout, UpstreamInvalidReply (over the limit)."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Pieces as they arrive. Raises UpstreamLost, UpstreamTimeout."""
        ...

    def abort(self) -> None:
        """Closes the connection at once, which tells the provider to stop. Harmless after the end."""
        ...


class Upstream(Protocol):
    async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
        """Returns at the reply's head. `on_sent` is called when the request is given to a connection: a call cancelled
        before that has provably not started. Raises UpstreamNotStarted (nothing was sent), UpstreamLost (unknown
        whether it was read), UpstreamTimeout. A cancelled call has closed its connection."""
        ...

    async def close(self) -> None: ...
