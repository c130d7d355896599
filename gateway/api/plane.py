"""The data plane: one raw ASGI application. It finds the row, hands a call to the flow, the rest to the desk.

This is deliberately not FastAPI: a third of a call's time would go into its middleware. Every answer carries
`x-request-id`; every error has the shape of the dialect that was spoken, OpenAI's where none was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from gateway.api.bodies import BodyRoom
from gateway.api.exchange import AsgiApp, AsgiExchange, Message, Receive, Scope, Send
from gateway.api.headers import read_headers
from gateway.api.http_exchange import HttpExchange
from gateway.api.models import list_models, one_model
from gateway.api.routes import ROUTES, Route, RouteTable, spellings
from gateway.core.call import AnswerHead
from gateway.core.caller import Caller
from gateway.core.errors import (
    FaregateError,
    MethodNotAllowed,
    NotFound,
    NotOffered,
    ServerShuttingDown,
    UpgradeRequired,
)
from gateway.core.ids import CALL, make_id, print_id
from gateway.core.ports import Surface
from gateway.core.records import Stat
from gateway.flow.identify import identify
from gateway.flow.kept import Asked
from gateway.flow.run import run
from gateway.flow.services import Services

LOG = logging.getLogger("faregate.api")
AnyExchange = AsgiExchange | HttpExchange
_JSON = (b"content-type", b"application/json")
_MESSAGES_PATHS = ("/v1/messages", "/messages", "/v1/v1/messages")


class InternalFault(FaregateError):
    """A fault of our own; the log has its traceback under the request id."""


@dataclass(slots=True)
class Refusals:
    """Refusals before identification, by code, since the last STAT record."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, code: str) -> None:
        self.counts[code] = self.counts.get(code, 0) + 1

    def record(self, now_ms: int) -> Stat | None:
        """The counts as a record, starting anew; None when there is nothing to say."""
        if not self.counts:
            return None
        counts, self.counts = self.counts, {}
        return Stat(ts_ms=now_ms, counts=counts)


class DataPlane:
    """ASGI application of the worker. `ready` says whether new calls are wanted, `render_metrics` is `/metrics`' body.

    `desk` is an ASGI application too: the relay over the desk's socket, or FastAPI itself in one process.
    """

    def __init__(
        self,
        services: Services,
        desk: AsgiApp,
        ready: Callable[[], str],
        render_metrics: Callable[[], bytes],
        bodies: BodyRoom,
    ) -> None:
        self.services = services
        self.refusals = Refusals()
        self.running = 0
        self.draining = False
        self._desk = desk
        self._ready = ready
        self._render_metrics = render_metrics
        self.bodies = bodies
        self._table = RouteTable()
        self.call_routes = {
            path.encode(): route for route in ROUTES if route.handler == "call" for path in spellings(route)
        }
        self._plain: Surface = services.surfaces["chat.completions"]
        self._anthropic: Surface = services.surfaces.get("messages", self._plain)
        self._stale_ms = int(services.settings.stale_keys_s * 1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = self._table.find(scope["method"], scope["path"])
        if match is None or (match.route is not None and match.route.handler == "desk"):
            await self._to_desk(scope, receive, send)
            return
        route = match.route
        received_ns = self.services.clock.monotonic_ns()
        self.running += 1
        try:
            exchange = AsgiExchange(read_headers(scope["headers"]), receive, send, received_ns, self.bodies.one_bytes)
        except FaregateError as error:
            self.running -= 1
            await self._refuse(AsgiExchange({}, receive, send, received_ns, 0), error, self._spoken(scope["path"], {}))
            return
        spoken = self._spoken(scope["path"], exchange.headers)
        try:
            if route is None:
                _refuse_upgrade(scope, exchange.headers)
                raise MethodNotAllowed(
                    f"{scope['path']} does not take {scope['method']}; it takes {', '.join(match.methods)}.",
                    headers={"allow": ", ".join(match.methods)},
                )
            if route.handler == "call":
                await self._call(exchange, route)
            elif route.handler == "kept":
                exchange.disconnect.watch()  # it has no body that would have to be read first
                await self._ask_kept(exchange, route, match.rest, scope)
            else:
                await self._inform(exchange, route, match.rest, scope["query_string"].decode("latin-1"))
        except FaregateError as error:
            await self._refuse(exchange, error, spoken)
        except Exception:  # noqa: BLE001 - the last guard: logged with its traceback, answered as 500
            await self._fault(exchange, spoken)
        finally:
            self.running -= 1
            exchange.disconnect.stop()

    def _spoken(self, path: str, headers: Mapping[str, str]) -> Surface:
        """The surface whose error shape the caller's SDK reads: by path, and by header where dialects share one."""
        if path.startswith(_MESSAGES_PATHS) or "anthropic-version" in headers:
            return self._anthropic
        return self._plain

    def now_ns(self) -> int:
        return self.services.clock.monotonic_ns()

    async def serve_call(self, exchange: HttpExchange, route: Route) -> None:
        """A model call that came on a connection of our own protocol, without ASGI."""
        self.running += 1
        try:
            exchange.read_headers()
            await self._call(exchange, route)
        except FaregateError as error:
            await self._refuse(exchange, error, self.services.surfaces[route.surface])
        except Exception:  # noqa: BLE001 - the last guard: logged with its traceback, answered as 500
            await self._fault(exchange, self.services.surfaces[route.surface])
        finally:
            self.running -= 1
            exchange.release()
            if not exchange.finished:
                exchange.cut()

    def _call(self, exchange: AnyExchange, route: Route) -> Awaitable[None]:
        if self.draining:
            raise ServerShuttingDown("This server is shutting down. Try again.", headers={"retry-after": "1"})
        return run(exchange, self.services.surfaces[route.surface], route.permission, self.services)

    def _ask_kept(self, exchange: AsgiExchange, route: Route, name: str, scope: Scope) -> Awaitable[None]:
        """What is asked of a response that its provider keeps."""
        surface = self.services.issued.asked
        if self.draining:
            raise ServerShuttingDown("This server is shutting down. Try again.", headers={"retry-after": "1"})
        if surface is None:
            self._identify(exchange.headers, route)
            raise NotFound("No responses are kept here.")
        action = route.path.partition("}")[2]
        asked = msgspec.convert((route.method, name, action, scope["query_string"].decode("latin-1")), Asked)
        return run(exchange, surface, route.permission, self.services, asked.walk)

    async def _inform(self, exchange: AsgiExchange, route: Route, rest: str, query: str) -> None:
        headers: Mapping[str, str] = exchange.headers
        match route.handler:
            case "alive":
                await _send(exchange, 200, b'{"status":"alive"}')
            case "ready":
                reason = "draining" if self.draining else self._ready()
                status = 503 if reason else 200
                await _send(exchange, status, f'{{"status":"{reason or "ready"}"}}'.encode())
            case "not_offered":
                self._identify(headers, route)
                raise NotOffered(
                    "The Realtime API is not served here: a session has no bound that a budget could hold. Use "
                    "/v1/responses or /v1/chat/completions."
                )
            case "hello":
                await _send(exchange, 200, b"")
            case "metrics":
                self._identify(headers, route)
                await _send(exchange, 200, self._render_metrics(), b"text/plain; version=0.0.4; charset=utf-8")
            case "models":
                caller = self._identify(headers, route)
                await _send(exchange, 200, list_models(self.services.configuration.policy, caller.key, query))
            case _:
                caller = self._identify(headers, route)
                await _send(exchange, 200, one_model(self.services.configuration.policy, caller.key, rest))

    def _identify(self, headers: Mapping[str, str], route: Route) -> Caller:
        now_ms = self.services.clock.now_ms()
        return identify(headers, self.services.configuration.keys, route.permission, now_ms, self._stale_ms)

    async def _to_desk(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_ns = self.services.clock.monotonic_ns()
        if scope["path"].startswith("/v1/") and not scope["path"].startswith(("/v1/requests/", "/v1/usage")):
            exchange = AsgiExchange({}, receive, send, received_ns, 0)
            await self._refuse(
                exchange,
                NotFound(f"There is no {scope['method']} {scope['path']} here. GET /openapi.json lists all paths."),
                self._spoken(scope["path"], {}),
            )
            return

        async def named(message: Message) -> None:
            """Every answer has a request id, also the relay's own errors."""
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if not any(name.lower() == b"x-request-id" for name, _ in headers):
                    message = {**message, "headers": [*headers, self._request_id()]}
            await send(message)

        await self._desk(scope, receive, named)

    async def _refuse(self, exchange: AnyExchange, error: FaregateError, spoken: Surface) -> None:
        """A refusal before identification: counted, answered, not recorded."""
        self.refusals.add(error.code)
        self.services.metrics.refused_before_identified(error.code)
        await self._answer(exchange, error, self._request_id(), spoken)

    async def _answer(
        self, exchange: AnyExchange, error: FaregateError, request_id: tuple[bytes, bytes], spoken: Surface
    ) -> None:
        if exchange.started:
            await exchange.finish(spoken.stream_error(error))
            return
        error.request_id = request_id[1].decode()
        body = spoken.error_body(error)
        extra = [(name.encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()]
        extra.extend((name, request_id[1]) for name in spoken.id_headers)
        await _send(exchange, error.status, body, extra=extra)

    def _request_id(self) -> tuple[bytes, bytes]:
        services = self.services
        call_id = make_id(services.clock.now_ms(), services.entropy.bytes(10))
        return (b"x-request-id", print_id(CALL, call_id).encode())

    def raw_refusal(self, error: FaregateError) -> bytes:
        """The reply to what never became a request: counted, in the same shape, and the connection is closed."""
        self.refusals.add(error.code)
        self.services.metrics.refused_before_identified(error.code)
        body = self._plain.error_body(error)
        name, value = self._request_id()
        phrase = HTTPStatus(error.status).phrase
        head = (
            f"HTTP/1.1 {error.status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        return head.encode() + name + b": " + value + b"\r\n\r\n" + body

    async def _fault(self, exchange: AnyExchange, spoken: Surface) -> None:
        request_id = self._request_id()
        LOG.exception("%s failed by a fault of the gateway", request_id[1].decode())
        if not exchange.finished:
            fault = InternalFault("The gateway failed while handling this call. It is logged; try again.")
            await self._answer(exchange, fault, request_id, spoken)


def _refuse_upgrade(scope: Scope, headers: Mapping[str, str]) -> None:
    """Raises UpgradeRequired for a WebSocket to a path that serves requests."""
    if scope["method"] == "GET" and headers.get("upgrade", "").lower() == "websocket":
        raise UpgradeRequired(
            f"{scope['path']} is not served over WebSocket here. Send POST {scope['path']} over HTTP.",
            headers={"upgrade": "HTTP/1.1"},
        )


async def _send(
    exchange: AnyExchange,
    status: int,
    body: bytes,
    content_type: bytes = _JSON[1],
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await exchange.start(AnswerHead(status, tuple(headers)))
    await exchange.finish(body)
