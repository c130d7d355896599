"""How a connection comes about: names to checked addresses, TCP or a Unix socket, a proxy's tunnel, TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from gateway.core.addresses import literal_address
from gateway.core.errors import UpstreamNotStarted
from gateway.upstream.connection import Connection
from gateway.upstream.proxy import tunnelled
from gateway.upstream.resolving import Resolve, Resolving, check_address
from gateway.upstream.target import ProxyAddress
from gateway.upstream.tls import TlsContexts, tls_failure


@dataclass(frozen=True, slots=True)
class Way:
    """All that makes two endpoints' connections exchangeable: it is the key of a pool."""

    pool: str
    scheme: str
    host: str
    port: int
    proxy: ProxyAddress | None
    unix_socket: str
    ca_bundle: str
    client_certificate: str
    networks: tuple[str, ...]
    keepalive_s: float
    connections_max: int
    where: str


class Connector:
    """Makes connections; keeps TLS contexts and DNS answers."""

    __slots__ = ("_contexts", "_resolving")

    def __init__(self, resolve: Resolve) -> None:
        self._contexts = TlsContexts()
        self._resolving = Resolving(resolve)

    async def connect(self, way: Way, until: float) -> Connection:
        """Raises UpstreamNotStarted with the reason. Being cancelled, at `until` too, leaves no socket open."""
        context = None
        if way.scheme == "https" or way.ca_bundle or way.client_certificate:
            context = await self._contexts.context(way.ca_bundle, way.client_certificate)
            context = context if way.scheme == "https" else None
        try:
            if way.unix_socket:
                return await self._unix(way, context)
            if way.proxy is not None:
                return await self._through_proxy(way, way.proxy, context, until)
            addresses = await self._resolving.addresses(way.where, way.host, way.networks)
            return await self._first_of(way.host, addresses, until, partial(self._tcp, way, context))
        except ssl.SSLError as error:
            raise tls_failure(way.where, error) from error
        except OSError as error:
            if _is_our_limit(error):
                raise
            raise _unreachable(way.where, error, in_tls=context is not None) from error

    async def close(self) -> None:
        await self._resolving.close()

    async def _unix(self, way: Way, context: ssl.SSLContext | None) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(
            lambda: Connection(loop, way.where),
            way.unix_socket,
            ssl=context,
            server_hostname=way.host if context else None,
        )
        return connection

    async def _through_proxy(
        self, way: Way, proxy: ProxyAddress, context: ssl.SSLContext | None, until: float
    ) -> Connection:
        """The proxy's own address is the operator's choice; which address a name leads to is the proxy's to decide. A
        forbidden address written out is refused all the same. An http:// request goes to the proxy as it is."""
        literal = literal_address(way.host)
        if literal:
            check_address(way.where, literal, way.networks)
        refused = f"{way.where}: the proxy of {way.pool} does not let us through"
        addresses = await self._resolving.unchecked(f"The proxy of {way.pool}", proxy.host)
        if context is None:
            open_one = partial(_plain, way.where, proxy.port)
        else:
            open_one = partial(tunnelled, way.where, refused, proxy, (way.host, way.port), context)
        try:
            return await self._first_of(proxy.host, addresses, until, open_one)
        except ssl.SSLError:
            raise
        except OSError as error:
            if _is_our_limit(error):
                raise
            raise UpstreamNotStarted(f"{refused}: {_reason(error)}.") from error

    async def _first_of(
        self, host: str, addresses: tuple[str, ...], until: float, open_one: Callable[[str], Awaitable[Connection]]
    ) -> Connection:
        """Through the first address that lets us in. One that says nothing uses up its share of the time, not all."""
        loop = asyncio.get_running_loop()
        *others, last = addresses
        for number, address in enumerate(others):
            share_s = max(until - loop.time(), 0.0) / (len(addresses) - number)
            try:
                async with asyncio.timeout(share_s):
                    return await open_one(address)
            except ssl.SSLError:
                raise  # it is up; another address of it would not be trusted either
            except OSError:
                continue
        try:
            return await open_one(last)
        except OSError:
            self._resolving.forget(host)
            raise

    async def _tcp(self, way: Way, context: ssl.SSLContext | None, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: Connection(loop, way.where),
            address,
            way.port,
            ssl=context,
            server_hostname=way.host.rstrip(".") if context else None,
        )
        peer = transport.get_extra_info("peername")
        try:
            if peer is not None:
                check_address(way.where, peer[0], way.networks)
        except UpstreamNotStarted:
            connection.abort()
            raise
        return connection


async def _plain(where: str, port: int, address: str) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(loop, where), address, port)
    return connection


def _is_our_limit(error: OSError) -> bool:
    """asyncio's time-outs are OSErrors too; only the system's have a number."""
    return isinstance(error, TimeoutError) and error.errno is None


def _unreachable(where: str, error: OSError, *, in_tls: bool = False) -> UpstreamNotStarted:
    if in_tls and isinstance(error, ConnectionResetError | ConnectionAbortedError):
        return UpstreamNotStarted(f"{where}: TLS failed: the connection was ended during the handshake.")
    return UpstreamNotStarted(f"{where} cannot be connected to: {_reason(error)}.")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "refused"
