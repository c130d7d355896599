"""The upstream port on httptools: the client that serves model calls. What is the same for every request of an endpoint
is prepared once; a call costs one write, one read and one wake-up of its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.core.errors import UpstreamNotStarted
from gateway.core.upstream import Endpoint, UpstreamReply, UpstreamRequest
from gateway.upstream.connecting import Connector, Way
from gateway.upstream.failures import connect_time_out, shutting_down
from gateway.upstream.member import UpstreamMember
from gateway.upstream.pool import Pool, PoolCounts
from gateway.upstream.prepared import Prepared
from gateway.upstream.resolving import Resolve, system_resolve
from gateway.upstream.target import proxy_of, target_of

PREPARED_MAX = 4096
"""Endpoints that are made for one call only push each other out; what they shared is the pool, which stays."""
POOLS_MAX = 1024
"""Ways to connect that are kept though nothing of them is open."""


class HttptoolsUpstream:
    """One pool of connections for each way to connect. Belongs to the event loop of its first call."""

    def __init__(self, resolve: Resolve = system_resolve) -> None:
        self._connector = Connector(resolve)
        self._prepared: dict[int, Prepared] = {}
        self._pools: dict[Way, Pool] = {}
        self._closed = False

    async def send(self, request: UpstreamRequest, on_sent: Callable[[], None] | None = None) -> UpstreamReply:
        """The reply at its head. Raises as core.upstream.Upstream says; UpstreamInvalidReply when it is no HTTP."""
        endpoint = request.endpoint
        prepared = self._prepared.get(id(endpoint)) or self._prepare(endpoint)
        head = prepared.head(request)
        timeout_s = request.timeout_s or endpoint.timeout_s
        pool = prepared.pool
        now = prepared.now()
        deadline = now + timeout_s
        connection = pool.take(now)
        if connection is None:
            connect_s = min(endpoint.connect_timeout_s, timeout_s)
            connection = await pool.acquire(now + connect_s, connect_s)
            now = prepared.now()
            if now >= deadline:
                pool.released(connection)
                raise connect_time_out(pool.where, connect_s)
        if on_sent is not None:
            try:
                on_sent()
            except BaseException:
                pool.released(connection)
                raise
        answer = connection.start(
            head, request.body, prepared.head_only, now, deadline, timeout_s, endpoint.idle_timeout_s
        )
        try:
            return await answer
        except BaseException:
            connection.given_up(answer)
            raise

    async def close(self) -> None:
        """Ends running calls and closes every connection."""
        self._closed = True
        self._prepared.clear()
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            pool.close()
        await self._connector.close()
        for _ in range(3):  # a transport closes its socket in the next turns of the loop
            await asyncio.sleep(0)

    def counts(self) -> tuple[PoolCounts, ...]:
        """How many connections each pool has now."""
        return tuple(pool.counts() for pool in self._pools.values())

    def _prepare(self, endpoint: Endpoint) -> Prepared:
        """Raises UpstreamNotStarted when the endpoint cannot be used."""
        if self._closed:
            raise shutting_down()
        target, proxy = target_of(endpoint), proxy_of(endpoint)
        if endpoint.connections_max < 1:
            raise UpstreamNotStarted(f"{endpoint.pool}: connections_max must be at least 1.")
        way = Way(
            pool=endpoint.pool,
            scheme=target.scheme,
            host=target.host,
            port=target.port,
            proxy=None if endpoint.unix_socket else proxy,
            unix_socket=endpoint.unix_socket,
            ca_bundle=endpoint.ca_bundle,
            client_certificate=endpoint.client_certificate,
            networks=endpoint.networks,
            keepalive_s=endpoint.keepalive_s,
            connections_max=endpoint.connections_max,
            where=target.where,
        )
        prepared = Prepared(endpoint, target, way.proxy, self._pool(way))
        if len(self._prepared) >= PREPARED_MAX:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[id(endpoint)] = prepared
        return prepared

    def _pool(self, way: Way) -> Pool:
        pool = self._pools.get(way)
        if pool is None:
            if len(self._pools) >= POOLS_MAX:
                self._prepared.clear()  # they hold pools
                self._pools = {known: kept for known, kept in self._pools.items() if not kept.unused}
            connect = partial(self._connector.connect, way)
            pool = self._pools[way] = Pool(way.pool, way.where, way.connections_max, way.keepalive_s, connect)
        return pool


MEMBER = UpstreamMember("httptools", HttptoolsUpstream)
