"""Faregate's own server protocol and upstream client with nothing between them: what a hop costs before the path.

`python -m benchmarks.hop PORT UPSTREAM_PORT`. No key, no limit, no journal, no price: a floor to measure the path by,
not a gateway.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping
from time import monotonic_ns
from typing import Any

import uvicorn

from gateway.api.bodies import BodyRoom
from gateway.api.exchange import Receive, Scope, Send
from gateway.api.http_exchange import HttpExchange
from gateway.api.protocol import protocol_class
from gateway.api.routes import ROUTES, Route
from gateway.core.call import AnswerHead
from gateway.core.errors import FaregateError
from gateway.core.upstream import Endpoint, UpstreamRequest
from gateway.upstream.httptools_client import HttptoolsUpstream

BODY_BYTES = 20 << 20
BODIES_BYTES = 256 << 20
REPLY_BYTES = 64 << 20


class BarePlane:
    """gateway.api.protocol.Calls that hands each body on and each reply back."""

    def __init__(self, upstream_port: int) -> None:
        self.bodies = BodyRoom(BODY_BYTES, BODIES_BYTES)
        self.call_routes: Mapping[bytes, Route] = {
            route.path.encode(): route for route in ROUTES if route.handler == "call"
        }
        self._upstream = HttptoolsUpstream()
        self._endpoint = Endpoint(
            pool="instant",
            url=f"http://127.0.0.1:{upstream_port}/v1/chat/completions",
            headers=(("content-type", "application/json"),),
            connections_max=8192,
            networks=("loopback",),
        )

    def now_ns(self) -> int:
        return monotonic_ns()

    def raw_refusal(self, error: FaregateError) -> bytes:
        return b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

    def serve_call(self, exchange: HttpExchange, route: Route) -> Coroutine[Any, Any, None]:
        return self._serve(exchange)

    async def _serve(self, exchange: HttpExchange) -> None:
        try:
            exchange.read_headers()
            request = UpstreamRequest(self._endpoint, (), await exchange.body())
            reply = await self._upstream.send(request)
            body = await reply.read(REPLY_BYTES)
            headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
            await exchange.start(AnswerHead(reply.status, headers))
            await exchange.finish(body)
        finally:
            exchange.release()
            if not exchange.finished:
                exchange.cut()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that is no model call."""
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    plane = BarePlane(int(sys.argv[2]))
    uvicorn.run(
        plane,
        port=int(sys.argv[1]),
        http=protocol_class(plane),
        loop="uvloop",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        backlog=4096,
    )
